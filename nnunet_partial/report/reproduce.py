"""The commands that lead from the converted dataset to a report, with the settings the plans hold."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREDICT_ARGUMENTS = "predict_from_raw_data_args.json"


@dataclass(frozen=True)
class Model:
    """The trained model a report is about, in nnU-Net's words."""

    trainer: str
    plans: str
    configuration: str
    folds: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """nnU-Net's name of the model's folder."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"


def commands(
    dataset_id: str, model: Model, plans: dict[str, Any], predictions: Path | None, planner: str | None, full_reference: bool
) -> list[str]:
    """One command a line, as one would type them.

    Args:
        dataset_id: As nnU-Net takes it.
        model: The model.
        plans: The content of its plans file; empty where there is none.
        predictions: The folder that was judged; None where it is the folds' own validation.
        planner: Name of the planner for `-pl`; None where it is not one of ours.
        full_reference: Whether every class was taken as looked for in every reference.
    """
    which = ["-d", dataset_id, "-c", model.configuration, "-tr", model.trainer, "-p", model.plans]
    lines = [["nnunet_partial", "plan", "-d", dataset_id, *(["-pl", planner] if planner else []), *_settings(plans)]]
    lines += [["eval", '"$(nnunet_partial env)"']]
    lines += [
        ["nnUNetv2_train", dataset_id, model.configuration, fold, "-tr", model.trainer, "-p", model.plans] for fold in model.folds
    ]
    if predictions is not None:
        images = predicted_images(predictions)
        out = [str(predictions)]
        lines += [["nnUNetv2_predict", *which, "-f", *model.folds, "-i", str(images or "IMAGES"), "-o", *out]]
        lines += [["nnunet_partial", "evaluate", "-d", dataset_id, "-i", *out, *_references(full_reference)]]
    return [" ".join(part if part.startswith('"$(') else shlex.quote(part) for part in line) for line in lines]


def predicted_images(predictions: Path) -> Path | None:
    """The folder of images that a folder of predictions was made from, as nnU-Net noted it there."""
    file = predictions / PREDICT_ARGUMENTS
    if not file.is_file():
        return None
    noted = json.loads(file.read_text(encoding="utf-8")).get("list_of_lists_or_source_folder")
    return Path(noted) if isinstance(noted, str) else None


def _settings(plans: dict[str, Any]) -> Sequence[str]:
    block = plans.get("partial") or {}
    return ["--set", *(f"{name}={value}" for name, value in block.items())] if block else []


def _references(full_reference: bool) -> Sequence[str]:
    return ["-r", "REFERENCES", "--full-reference"] if full_reference else []
