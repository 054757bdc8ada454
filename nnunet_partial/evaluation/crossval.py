"""The cross-validation folder that nnU-Net's model selection reads, judged over annotated classes."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_partial.evaluation.folder import evaluate_folder
from nnunet_partial.evaluation.summary import write_summary
from nnunet_partial.evaluation.tolerance import Tolerances
from nnunet_partial.labels import Annotation


def merge_crossval(
    model_folder: Path,
    reference_dir: Path,
    folds: Sequence[int],
    *,
    num_processes: int = 1,
    progress: bool = False,
    tolerances: Tolerances | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Gather the validation predictions of all folds into crossval_results_folds_0_1_... and judge them.

    The host's `accumulate_cv_results` makes the same folder, but counts every prediction of an unannotated organ as an
    error. Told not to overwrite, it takes this one as it is. A folder that is there already is replaced.

    Args:
        model_folder: <trainer>__<plans>__<configuration>, with fold_0, fold_1, ...
        reference_dir: The references of all training cases.
        folds: The folds to gather.
        num_processes: Cases judged at a time.
        progress: Show a progress bar.
        tolerances: For surface metrics; None leaves these out.

    Returns:
        The folder and its summary.

    Raises:
        FileNotFoundError: folds without a finished validation; all are listed.
        ValueError: two folds predicted the same case.
    """
    missing = [f"fold_{fold}" for fold in folds if not (model_folder / f"fold_{fold}" / "validation" / "summary.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{model_folder}: no finished validation in {', '.join(missing)}; train these folds, or name the finished ones (-f)"
        )
    dataset_json = json.loads((model_folder / "dataset.json").read_text(encoding="utf-8"))
    predictions = _validation_predictions(model_folder, folds, dataset_json["file_ending"])
    merged = model_folder / f"crossval_results_folds_{'_'.join(map(str, folds))}"
    staging = merged.with_name(f".{merged.name}.{os.getpid()}.tmp")
    staging.mkdir()
    try:  # the folder appears whole: in one without a summary nnU-Net would judge by its own rules
        for file in [model_folder / "dataset.json", model_folder / "plans.json", *predictions]:
            shutil.copy(file, staging / file.name)
        annotation = Annotation.from_dataset_json(dataset_json)
        summary = evaluate_folder(
            reference_dir, staging, annotation, dataset_json["file_ending"], num_processes, progress, tolerances=tolerances
        )
        for case in summary["metric_per_case"]:
            case["prediction_file"] = str(merged / Path(case["prediction_file"]).name)
        write_summary(summary, staging / "summary.json")
        if merged.is_dir():
            shutil.rmtree(merged)
        staging.rename(merged)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return merged, summary


def _validation_predictions(model_folder: Path, folds: Sequence[int], file_ending: str) -> list[Path]:
    """The predicted label maps of all folds, one a case."""
    found: dict[str, Path] = {}
    twice = []
    for fold in folds:
        for path in sorted((model_folder / f"fold_{fold}" / "validation").glob(f"*{file_ending}")):
            if path.name in found:
                twice.append(f"{path.name} (fold_{fold} and {found[path.name].parent.parent.name})")
            found[path.name] = path
    if twice:
        raise ValueError(f"{model_folder}: two folds predicted {', '.join(twice)}; were the splits changed between trainings?")
    return list(found.values())
