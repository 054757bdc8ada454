"""A dataset's name, description and references, from wherever nnU-Net keeps them."""

import json
from pathlib import Path
from typing import Any

from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_partial.paths import nnunet_folder


def dataset_name(dataset: str) -> str:
    """Dataset500_Abdomen for 500 (or for itself).

    Raises:
        ValueError: no dataset has this id, or several have.
    """
    try:
        return str(maybe_convert_to_dataset_name(dataset))
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def read_dataset_json(name: str) -> dict[str, Any]:
    """The dataset's description, from the raw data or, where these are gone, from the preprocessed ones."""
    return json.loads(_first_there(name, "dataset.json", "dataset.json").read_text(encoding="utf-8"))


def training_references(name: str) -> Path:
    """The folder with the label maps of the training cases, raw or, where these are gone, as preprocessing kept them."""
    return _first_there(name, "labelsTr", "gt_segmentations")


def _first_there(name: str, in_raw: str, in_preprocessed: str) -> Path:
    raw, preprocessed = nnunet_folder("nnUNet_raw") / name / in_raw, nnunet_folder("nnUNet_preprocessed") / name / in_preprocessed
    for path in (raw, preprocessed):
        if path.exists():
            return path
    raise FileNotFoundError(f"neither {raw} nor {preprocessed} exists")
