"""A folder of predictions against a folder of references: nnU-Net's summary, over annotated classes only."""

from pathlib import Path
from typing import Any

from nnunet_partial.evaluation.calibration import CalibrationCounts, calibration_metrics
from nnunet_partial.evaluation.case import METRIC_NAMES, ClassKey
from nnunet_partial.evaluation.case_pool import over_cases
from nnunet_partial.evaluation.definitions import EMPTY_POLICY, POLICY, definitions_of
from nnunet_partial.evaluation.judge import CaseResult, CaseTask, judge_case
from nnunet_partial.evaluation.means import summarise
from nnunet_partial.evaluation.plausibility import unannotated_report
from nnunet_partial.evaluation.surfaces import SURFACE_NAMES
from nnunet_partial.evaluation.tasks import EvaluationTasks, find_tasks
from nnunet_partial.evaluation.tolerance import Tolerances
from nnunet_partial.evaluation.volumes import VOLUME_NAMES
from nnunet_partial.labels import Annotation, LabelSpace

ALL_CLASSES = "all"


def evaluate_folder(
    reference_dir: Path | str,
    prediction_dir: Path | str,
    annotation: Annotation,
    file_ending: str = ".nii.gz",
    num_processes: int = 1,
    progress: bool = False,
    full_reference: bool = False,
    allow_missing: bool = True,
    *,
    tolerances: Tolerances | None = None,
    probability_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> dict[str, Any]:
    """Judge every prediction that has a reference, each over the classes its annotator looked for.

    Args:
        reference_dir: Label maps as the annotators drew them, <identifier><file_ending>.
        prediction_dir: Predicted label maps under the same names.
        annotation: Label space, protocols and cases of the dataset.
        file_ending: As in dataset.json.
        num_processes: Cases read and counted at a time; 1 stays in this process.
        progress: Show a progress bar.
        full_reference: Every class was looked for in every reference, whatever the annotation says of the case, which it
            need not know: for held-out references.
        allow_missing: Whether references without a prediction are merely listed; one fold's validation has many.
        tolerances: For HD, HD95, ASSD and NSD; None leaves these out.
        probability_dir: <identifier>.npz of `nnUNetv2_predict --save_probabilities`, for calibration; None leaves it out.
        cache_dir: Where finished cases are kept, so that an evaluation that was stopped goes on; None keeps nothing.

    Returns:
        nnU-Net's summary: `metric_per_case`, `mean` and `foreground_mean`, with label ids as keys and (4, 5) for a union. And:
        `per_source` and `per_protocol` (means and case numbers), `annotated_cases` and `empty_cases` (by class),
        `unannotated_predictions`, `calibration` (with probabilities), `without_prediction`, `without_reference`
        (identifiers), `class_names`, `definitions`, `policy` and `empty_policy`.

    Raises:
        ValueError: nothing to judge, cases the annotation does not know, predictions that do not lie on their reference's
            voxels, unknown label ids, or (unless allowed) missing predictions; every case at fault is named.
        FileNotFoundError: a folder or probabilities are missing.
    """
    tasks = find_tasks(
        reference_dir,
        prediction_dir,
        annotation,
        file_ending,
        full_reference=full_reference,
        allow_missing=allow_missing,
        tolerances=tolerances,
        probability_dir=probability_dir,
        cache_dir=cache_dir,
    )
    return evaluate_tasks(tasks, num_processes=num_processes, progress=progress)


def evaluate_tasks(tasks: EvaluationTasks, *, num_processes: int = 1, progress: bool = False) -> dict[str, Any]:
    """The summary of all tasks; what `evaluate_folder` does once the files are paired."""
    entries, unannotated, calibration = [], {}, {}
    for task, result in over_cases(judge_case, tasks.cases, num_processes=num_processes, progress=progress):
        entries.append(_entry(task, result))
        unannotated[task.identifier] = result.unannotated
        for key, counts in result.calibration.items():  # merged at once: memory does not grow with the cases
            calibration[key] = calibration.get(key, CalibrationCounts.empty()) + counts
    tolerances = tasks.cases[0].tolerances
    names = [*METRIC_NAMES, *VOLUME_NAMES, *(SURFACE_NAMES if tolerances is not None else ())]
    summary = summarise(entries, tasks.keys, names)
    return {
        **summary,
        "unannotated_predictions": unannotated_report(entries, unannotated, tasks.space),
        **({"calibration": _calibration(calibration, tasks)} if tasks.cases[0].probability_file is not None else {}),
        "without_prediction": tasks.without_prediction,
        "without_reference": tasks.without_reference,
        "class_names": {key: class_name(key, tasks.space) for key in tasks.keys},
        "definitions": definitions_of(names, str(tolerances or "")),
        "policy": POLICY,
        "empty_policy": EMPTY_POLICY,
    }


def judge_part(
    tasks: EvaluationTasks, part_id: int, num_parts: int, *, num_processes: int = 1, progress: bool = False
) -> list[str]:
    """Judge every `num_parts`-th case into the cache, and name the cases that no part has finished yet.

    Once nothing is left, `evaluate_tasks` finds every case in the cache.

    Raises:
        ValueError: the tasks have no cache, the part does not exist, or cases cannot be judged.
    """
    if not 0 <= part_id < num_parts:
        raise ValueError(f"part {part_id} of {num_parts} does not exist; parts are counted from 0")
    if tasks.cases[0].cache_dir is None:
        raise ValueError("parts meet in a cache folder; give one")
    for _ in over_cases(judge_case, tasks.cases[part_id::num_parts], num_processes=num_processes, progress=progress):
        pass
    return [task.identifier for task in tasks.cases if not task.cache.is_valid()]


def class_name(key: ClassKey, space: LabelSpace) -> str:
    """The name of a class, or of the classes of a union joined by '+'."""
    return "+".join(space.classes[number - 1] for number in (key if isinstance(key, tuple) else (key,)))


def _entry(task: CaseTask, result: CaseResult) -> dict[str, Any]:
    """One entry of `metric_per_case`."""
    return {
        "identifier": task.identifier,
        "source": task.source,
        "protocol": task.protocol_name,
        "reference_file": str(task.reference_file),
        "prediction_file": str(task.prediction_file),
        "metrics": result.metrics,
    }


def _calibration(counts: dict[ClassKey, CalibrationCounts], tasks: EvaluationTasks) -> dict[ClassKey | str, Any]:
    """By class and union, and over all of them."""
    total = sum(counts.values(), CalibrationCounts.empty())
    found = {key: calibration_metrics(counts[key]) for key in tasks.keys if key in counts}
    return {**found, ALL_CLASSES: calibration_metrics(total)}
