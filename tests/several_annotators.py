"""Annotators for the small dataset: three who drew each fully annotated case, one of whom looked for the liver alone."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_partial.labels import write_json

PROTOCOL_OF = {"anna": "full", "ben": "full", "cleo": "liver"}


def drawn_by(name: str, labels: np.ndarray) -> np.ndarray:
    """Anna draws what is there, Ben everything a voxel further along x, Cleo the liver alone and a voxel further along y."""
    if name == "ben":
        return np.roll(labels, 1, axis=0)
    return np.where(np.roll(labels, 1, axis=1) == 1, 1, 0).astype(labels.dtype) if name == "cleo" else labels


def add_annotators(folder: Path) -> None:
    """Write annotators/ and the block in dataset.json of a dataset made by `write_small_dataset`."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    for key, case in content["annotation"]["cases"].items():
        if case["protocol"] != "full":
            continue
        case["annotators"] = PROTOCOL_OF
        image = nib.load(folder / "labelsTr" / f"{key}.nii.gz")
        for name in PROTOCOL_OF:
            (folder / "annotators" / name).mkdir(parents=True, exist_ok=True)
            drawn = drawn_by(name, np.asarray(image.dataobj))
            nib.save(nib.Nifti1Image(drawn, image.affine), folder / "annotators" / name / f"{key}.nii.gz")
    write_json(content, folder / "dataset.json")
