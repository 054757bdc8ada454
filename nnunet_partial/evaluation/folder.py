"""A folder of predictions against a folder of references: nnU-Net's summary, over annotated classes only."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_partial.evaluation.case import METRIC_NAMES, UNANNOTATED, ClassKey, evaluate_case, judged_keys
from nnunet_partial.evaluation.label_maps import geometry_faults, read_label_map
from nnunet_partial.labels import Annotation, AnnotationProtocol, LabelSpace

UNLISTED_SOURCE = "unlisted"
POLICY = (
    "Only classes that were looked for in a case are judged there; NaN elsewhere, and NaN never enters a mean. "
    "Classes that share a label id are judged together, under the ids of all of them. Voxels with the ignore label are left out. "
    "Dice and IoU of a class that neither reference nor prediction shows are NaN. foreground_mean is the mean over the classes "
    "that have a value; a union enters it only where none of its classes has a value of its own."
)


def evaluate_folder(
    reference_dir: Path | str,
    prediction_dir: Path | str,
    annotation: Annotation,
    file_ending: str = ".nii.gz",
    num_processes: int = 1,
    progress: bool = False,
    full_reference: bool = False,
    allow_missing: bool = True,
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

    Returns:
        nnU-Net's summary: `metric_per_case`, `mean` and `foreground_mean`, with label ids as keys and (4, 5) for a union. And:
        `per_source` (means and case numbers by source dataset), `annotated_cases` (by class), `without_prediction`,
        `without_reference` (identifiers), `policy`.

    Raises:
        ValueError: nothing to judge, cases the annotation does not know, predictions that do not lie on their reference's
            voxels, unknown label ids, or (unless allowed) missing predictions; every case at fault is named.
    """
    reference_dir, prediction_dir = Path(reference_dir), Path(prediction_dir)
    references, predictions = _identifiers(reference_dir, file_ending), _identifiers(prediction_dir, file_ending)
    pairs = sorted(references & predictions)
    without_prediction = sorted(references - predictions)
    if not pairs:
        raise ValueError(
            f"no prediction in {prediction_dir} ({len(predictions)} files *{file_ending}) has a reference of the same name "
            f"in {reference_dir} ({len(references)} files)"
        )
    if without_prediction and not allow_missing:
        listed = ", ".join(without_prediction)
        raise ValueError(f"{len(without_prediction)} references have no prediction in {prediction_dir}: {listed}")
    unknown = [identifier for identifier in pairs if identifier not in annotation.cases]
    if unknown and not full_reference:
        raise ValueError(
            f"nobody can tell what was looked for in {len(unknown)} cases that are not in dataset.json['annotation']: "
            f"{', '.join(unknown)}; if every class was, say so (--full-reference)"
        )
    tasks = [
        _Task(
            identifier=identifier,
            source=annotation.cases[identifier].source if identifier in annotation.cases else UNLISTED_SOURCE,
            reference_file=reference_dir / f"{identifier}{file_ending}",
            prediction_file=prediction_dir / f"{identifier}{file_ending}",
            protocol=_full_protocol(annotation.space) if full_reference else annotation.protocol_of(identifier),
            space=annotation.space,
        )
        for identifier in pairs
    ]
    summary = _summarise(_run(tasks, num_processes=num_processes, progress=progress), _class_keys(tasks, annotation.space))
    return {
        **summary,
        "without_prediction": without_prediction,
        "without_reference": sorted(predictions - references),
        "policy": POLICY,
    }


@dataclass(frozen=True)
class _Task:
    identifier: str
    source: str
    reference_file: Path
    prediction_file: Path
    protocol: AnnotationProtocol
    space: LabelSpace


def _identifiers(folder: Path, file_ending: str) -> set[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return {path.name.removesuffix(file_ending) for path in folder.iterdir() if path.name.endswith(file_ending)}


def _full_protocol(space: LabelSpace) -> AnnotationProtocol:
    return AnnotationProtocol(labels={number: (name,) for number, name in enumerate(space.classes, 1)})


def _class_keys(tasks: Sequence[_Task], space: LabelSpace) -> list[ClassKey]:
    """Every class of the label space, then every union that some case is judged under."""
    unions = {key for task in tasks for key in judged_keys(task.protocol, space) if isinstance(key, tuple)}
    return [*range(1, space.num_classes), *sorted(unions)]


def _run(tasks: Sequence[_Task], *, num_processes: int, progress: bool) -> list[dict[str, Any]]:
    """The entries of `metric_per_case`; raises one error that names every case at fault."""
    if num_processes > 1 and len(tasks) > 1:
        with ProcessPoolExecutor(min(num_processes, len(tasks)), mp_context=get_context("spawn")) as pool:
            results = _watched(pool.map(_judge, tasks), len(tasks), progress)
    else:
        results = _watched(map(_judge, tasks), len(tasks), progress)
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise ValueError(f"{len(faults)} of {len(tasks)} cases cannot be judged:{listed}")
    return results


def _watched(results: Iterable[Any], total: int, progress: bool) -> list[Any]:
    return list(tqdm(results, total=total, desc="evaluating", unit="case", disable=not progress))


def _judge(task: _Task) -> dict[str, Any] | str:
    """One entry of `metric_per_case`, or the sentence that says why there is none."""
    try:
        reference, prediction = read_label_map(task.reference_file), read_label_map(task.prediction_file)
        faults = geometry_faults(reference, prediction)
        if faults:
            return f"case '{task.identifier}': {'; '.join(faults)}"
        metrics = evaluate_case(reference.labels, prediction.labels, task.protocol, task.space)
    except ValueError as error:
        return f"case '{task.identifier}': {error}"
    return {
        "identifier": task.identifier,
        "source": task.source,
        "reference_file": str(task.reference_file),
        "prediction_file": str(task.prediction_file),
        "metrics": metrics,
    }


def _summarise(cases: list[dict[str, Any]], keys: Sequence[ClassKey]) -> dict[str, Any]:
    """Fill in what a case is not judged on, and take the means."""
    for case in cases:
        case["metrics"] = {key: case["metrics"].get(key, dict(UNANNOTATED)) for key in keys}
    mean = {key: _means(cases, key) for key in keys}
    sources = sorted({case["source"] for case in cases})
    return {
        "foreground_mean": {name: _foreground_mean(mean, name) for name in METRIC_NAMES},
        "mean": mean,
        "metric_per_case": cases,
        "per_source": {
            source: _annotated_means([case for case in cases if case["source"] == source], keys) for source in sources
        },
        "annotated_cases": {key: _known(cases, key, "TP") for key in keys},
    }


def _foreground_mean(mean: dict[ClassKey, dict[str, float]], name: str) -> float:
    """Mean of a metric over the classes, and over the unions of which nothing else is known."""
    classes = [values[name] for key, values in mean.items() if isinstance(key, int)]
    unions = [key for key in mean if isinstance(key, tuple) and all(np.isnan(mean[number][name]) for number in key)]
    return _nanmean([*classes, *(mean[key][name] for key in unions)])


def _annotated_means(cases: Sequence[dict[str, Any]], keys: Sequence[ClassKey]) -> dict[ClassKey, dict[str, float]]:
    """Of the classes that were looked for in any of the cases: the means, and in how many cases they are known."""
    annotated = [key for key in keys if _known(cases, key, "TP")]
    return {
        key: {"annotated_cases": _known(cases, key, "TP"), "dice_cases": _known(cases, key, "Dice"), **_means(cases, key)}
        for key in annotated
    }


def _known(cases: Sequence[dict[str, Any]], key: ClassKey, name: str) -> int:
    return sum(not np.isnan(case["metrics"][key][name]) for case in cases)


def _means(cases: Sequence[dict[str, Any]], key: ClassKey) -> dict[str, float]:
    return {name: _nanmean([case["metrics"][key][name] for case in cases]) for name in METRIC_NAMES}


def _nanmean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN, without a warning, where none is left."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
