"""All cases of a dataset that several annotators drew: figures of each, and their means."""

from pathlib import Path
from typing import Any

from nnunet_partial.evaluation.annotators.case import AgreementTask, measure_case
from nnunet_partial.evaluation.annotators.class_means import summarise_agreement
from nnunet_partial.evaluation.annotators.definitions import DEFINITIONS, POLICY
from nnunet_partial.evaluation.annotators.tasks import AgreementTasks, find_agreement_tasks
from nnunet_partial.evaluation.calibration import CalibrationCounts, calibration_metrics
from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.case_pool import over_cases
from nnunet_partial.evaluation.folder import ALL_CLASSES, class_name
from nnunet_partial.labels import Annotation

_CALIBRATION = ("voxels", "ECE", "Brier", "reliability")


def annotator_agreement(
    annotators_dir: Path | str,
    annotation: Annotation,
    file_ending: str = ".nii.gz",
    num_processes: int = 1,
    progress: bool = False,
    *,
    prediction_dir: Path | str | None = None,
    full_reference: bool = False,
    allow_missing: bool = False,
    surfaces: bool = True,
    variance_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> dict[str, Any]:
    """How far the annotators of each case agree with each other and, with predictions, how well these match all of them.

    Args:
        annotators_dir: <annotator>/<identifier><file_ending>, the label maps as each annotator drew them.
        annotation: Label space, protocols and cases of the dataset; `annotators` of a case says who drew it.
        file_ending: As in dataset.json.
        num_processes: Cases measured at a time; 1 stays in this process.
        progress: Show a progress bar.
        prediction_dir: <identifier><file_ending> and <identifier>.npz of `nnUNetv2_predict --save_probabilities`; None
            measures the annotators alone.
        full_reference: Every annotator looked for every class, and each subfolder of `annotators_dir` is one, whatever the
            annotation says of the cases, which it need not know: for held-out cases.
        allow_missing: Whether cases without a prediction are merely listed; one fold's validation has many.
        surfaces: Measure HD95 at every confidence level.
        variance_dir: Where to write p (1 - p) of each case and class, of annotators and prediction; None writes none.
        cache_dir: Where finished cases are kept, so that what was stopped goes on; None keeps nothing.

    Returns:
        `per_case`, `per_class`, `mean` (over classes), `per_annotator`, `calibration` (with predictions), `without_prediction`,
        `with_one_map`, `not_of_annotators` (identifiers), `definitions` and `policy`. Classes stand under their names.

    Raises:
        ValueError: no case has annotators, no prediction fits, or files are missing or do not fit each other: all such faults
            are listed before anything is measured. Later: files that hold what they should not; every case is named.
        FileNotFoundError: a folder is missing.
    """
    tasks = find_agreement_tasks(
        annotators_dir,
        annotation,
        file_ending,
        prediction_dir=prediction_dir,
        full_reference=full_reference,
        allow_missing=allow_missing,
        surfaces=surfaces,
        variance_dir=variance_dir,
        cache_dir=cache_dir,
    )
    return measure_agreement(tasks, num_processes=num_processes, progress=progress)


def measure_agreement(tasks: AgreementTasks, *, num_processes: int = 1, progress: bool = False) -> dict[str, Any]:
    """What `annotator_agreement` does once the files are found."""
    per_case, calibration = [], {}
    results = over_cases(
        measure_case,
        tasks.cases,
        num_processes=num_processes,
        progress=progress,
        doing="comparing annotators",
        done="compared",
    )
    for task, result in results:
        per_case.append(_entry(task, result.rows))
        for key, counts in result.calibration.items():  # merged at once: memory does not grow with the cases
            calibration[key] = calibration.get(key, CalibrationCounts.empty()) + counts
    predicted = tasks.cases[0].prediction_file is not None
    names = {key: class_name(key, tasks.space) for key in tasks.keys}
    return {
        **summarise_agreement(per_case, names),
        **({"calibration": _calibration(calibration, names)} if predicted else {}),
        "with_one_map": tasks.with_one_map,
        "without_prediction": tasks.without_prediction,
        "not_of_annotators": tasks.not_of_annotators,
        "definitions": DEFINITIONS,
        "policy": POLICY,
        "per_case": [_by_name(entry, names) for entry in per_case],
    }


def _entry(task: AgreementTask, rows: dict[ClassKey, dict[str, Any]]) -> dict[str, Any]:
    files = {"prediction_file": str(task.prediction_file)} if task.prediction_file is not None else {}
    return {"identifier": task.identifier, "annotators": list(task.label_files), **files, "classes": rows}


def _by_name(entry: dict[str, Any], names: dict[ClassKey, str]) -> dict[str, Any]:
    return {**entry, "classes": {names[key]: row for key, row in entry["classes"].items()}}


def _calibration(counts: dict[ClassKey, CalibrationCounts], names: dict[ClassKey, str]) -> dict[str, Any]:
    """By class and union, and over all of them; without the ranking of right and wrong, which shares of votes do not have."""
    total = sum(counts.values(), CalibrationCounts.empty())
    by_name = {**{names[key]: counts[key] for key in names if key in counts}, ALL_CLASSES: total}
    found = {name: calibration_metrics(value) for name, value in by_name.items()}
    return {name: {what: metrics[what] for what in _CALIBRATION} for name, metrics in found.items()}
