"""Predictions of held-out scans against what was annotated there before labels were taken away: rows of figures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study.job import StudyJob
from benchmarks.study.layout import folder_name
from benchmarks.trainings import annotation_of
from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.evaluation.annotators import SUMMARY_NAME, annotator_agreement, write_agreement
from nnunet_partial.evaluation.tolerance import Tolerances

FIGURES = ("Dice", "Precision", "Recall", "HD95_mm")
KEYS = ("method", "digest", "fold", "round", "case", "class")
WITH_PROBABILITIES = "annotators"  # a part that is judged so


def rows_by_labels(job: StudyJob, out: Path) -> Iterator[dict[str, Any]]:
    """Every validation case and organ after every round that is there, by the labels of all organs."""
    run, minutes = job.run, job.seconds(out) / 60
    for number in range(1, job.rounds + 1) if job.rounds else [0]:
        predictions = job.validation(out, number)
        if not (predictions / "summary.json").exists():
            continue
        classes = annotation_of(out, job.dataset).space.classes
        for case in _full_summary(job, predictions, out)["metric_per_case"]:
            for name, metrics in zip(classes, case["metrics"].values(), strict=True):
                where = {**run, "round": number, "case": case["identifier"], "class": name}
                yield {**where, **{figure: metrics[figure] for figure in FIGURES}, "minutes": minutes}


def rows_by_annotators(job: StudyJob, out: Path) -> Iterator[dict[str, Any]]:
    """Every validation case and organ: against the annotators, and (`Dice_truth`) against what they were made from."""
    truth = _full_summary(job, job.validation(out), out)
    run, annotation = job.run, annotation_of(out, job.dataset)
    dice = {case["identifier"]: list(case["metrics"].values()) for case in truth["metric_per_case"]}
    for case in _agreement(job, out)["per_case"]:
        for name, true in zip(annotation.space.classes, dice[case["identifier"]], strict=True):
            found = case["classes"][name]
            where = {**run, "round": 0, "case": case["identifier"], "class": name}
            at_levels = {f"Dice_{level}": figures["Dice"] for level, figures in found["levels"].items()}
            yield {**where, **found, **at_levels, "Dice_truth": true["Dice"]}


def calibration(job: StudyJob, out: Path) -> Iterator[dict[str, Any]]:
    """Calibration over the voxels of all validation cases, by organ and over all of them."""
    run = job.run
    for name, found in _agreement(job, out)["calibration"].items():
        yield {**run, "class": name, "ECE": found["ECE"], "Brier": found["Brier"]}


def _full_summary(job: StudyJob, predictions: Path, out: Path) -> dict:
    """As `nnunet_partial evaluate --full-reference --allow-missing` says it; kept in a file beside the predictions."""
    file = predictions / "full_reference.json"
    if not file.exists() or file.stat().st_mtime < (predictions / "summary.json").stat().st_mtime:
        dataset = job.study.dataset_of(job.method)
        references = out / "nnUNet_raw" / folder_name(job.study, job.study.root_of(dataset)) / "labelsTr"
        annotation = annotation_of(out, job.dataset)
        summary = evaluate_folder(
            references, predictions, annotation, full_reference=True, allow_missing=True, tolerances=Tolerances()
        )
        write_summary(summary, file)
    return json.loads(file.read_text(encoding="utf-8"))


def _agreement(job: StudyJob, out: Path) -> dict:
    """What `nnunet_partial agreement --allow-missing` says of the validation cases; kept beside the predictions."""
    predictions = job.validation(out)
    file = predictions / "agreement" / SUMMARY_NAME
    if not file.exists():
        annotators = out / "nnUNet_raw" / job.dataset / "annotators"
        agreement = annotator_agreement(
            annotators, annotation_of(out, job.dataset), prediction_dir=predictions, allow_missing=True, num_processes=2
        )
        write_agreement(agreement, file.parent, {"made_by": "benchmarks.study"})
    return json.loads(file.read_text(encoding="utf-8"))
