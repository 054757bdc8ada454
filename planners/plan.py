"""Fingerprint and plans of one dataset, through nnU-Net's own functions."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset

from nnunet_partial.paths import nnunet_folder
from nnunet_partial.planners.partial_planner import PLANNERS
from nnunet_partial.training.settings import TrainingSettings

WORKERS = "nnUNet_n_proc_DA"


def plan_dataset(
    name: str,
    *,
    planner: str = "default",
    settings: dict[str, Any] | None = None,
    target_spacing_mm: Sequence[float] | None = None,
    plans_name: str | None = None,
    num_processes: int = 1,
    verify: bool = False,
    clean: bool = False,
) -> Path:
    """Extract the fingerprint where it is missing or older than the dataset, plan, and write the `partial` block.

    Args:
        name: DatasetXXX_Name.
        planner: A name in `PLANNERS`.
        settings: Settings that differ from the planner's defaults.
        target_spacing_mm: Target spacing (z, y, x) of the 3d full resolution.
        plans_name: Name of the plans file; by default the planner's own.
        num_processes: Cases fingerprinted at a time.
        verify: Let nnU-Net check every file first.
        clean: Extract the fingerprint again even where it is current.

    Returns:
        The plans file.

    Raises:
        ValueError: a setting that does not exist, or a value that it does not take.
    """
    base = PLANNERS[planner]
    merged = {**base.settings, **(settings or {})}
    TrainingSettings.from_block(merged, where="settings")
    planner_class = type(
        base.__name__, (base,), {"settings": merged}
    )  # nnU-Net makes the instance, so the class carries the settings
    if os.environ.get(WORKERS) == "0":
        os.environ[WORKERS] = "1"  # planning calls torch.set_num_threads with it, and 0 threads crash
    fingerprint = nnunet_folder("nnUNet_preprocessed") / name / "dataset_fingerprint.json"
    dataset_json = nnunet_folder("nnUNet_raw") / name / "dataset.json"
    outdated = fingerprint.exists() and fingerprint.stat().st_mtime < dataset_json.stat().st_mtime
    dataset_id = int(name[len("Dataset") : len("Dataset") + 3])
    extract_fingerprint_dataset(dataset_id, num_processes=num_processes, check_dataset_integrity=verify, clean=clean or outdated)
    _, plans_identifier = plan_experiment_dataset(
        dataset_id, planner_class, overwrite_target_spacing=target_spacing_mm, overwrite_plans_name=plans_name
    )
    plans_file = nnunet_folder("nnUNet_preprocessed") / name / f"{plans_identifier}.json"
    # the host writes in place; a half file is better found here than in training
    json.loads(plans_file.read_text(encoding="utf-8"))
    return plans_file
