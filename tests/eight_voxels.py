"""Cases of eight voxels that three annotators drew, and a dataset of them; the numbers are in `test_annotators_case.py`."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

SPACING_MM = (1, 1, 3)  # (x, y, z)
DATASET_JSON = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4},
    "numTraining": 3,
    "file_ending": ".nii.gz",
    "annotation": {
        "protocols": {
            "full": {"labels": {1: ["liver"], 2: ["spleen"], 3: ["kidney_left"], 4: ["kidney_right"]}},
            "liver": {"labels": {1: ["liver"]}},
            "kidney": {"labels": {3: ["kidney_left", "kidney_right"]}},
        },
        "cases": {
            "nested": {"protocol": "full", "source": "x", "annotators": {"ann": "full", "bob": "full", "cy": "liver"}},
            "sides": {"protocol": "full", "source": "x", "annotators": {"ann": "full", "bob": "kidney"}},
            "alone": {"protocol": "full", "source": "x"},
        },
    },
}
DRAWN = {
    "nested": {"ann": [1, 1, 1, 0, 2, 2, 0, 0], "bob": [1, 1, 0, 0, 2, 0, 0, 0], "cy": [1, 0, 0, 0, 0, 0, 0, 0]},
    "sides": {"ann": [0, 0, 0, 0, 3, 3, 4, 0], "bob": [0, 0, 0, 0, 3, 0, 3, 3]},
}
PROBABILITY = {  # of each class; the rest is background
    "nested": {1: [0.9, 0.6, 0.4, 0.1, 0, 0, 0, 0.05], 2: [0, 0, 0, 0, 0.8, 0.3, 0, 0]},
    "sides": {3: [0, 0, 0, 0, 0.5, 0.9, 0, 0], 4: [0, 0, 0, 0, 0.4, 0, 0.9, 0.1]},
}


def dataset_json(**cases: Mapping[str, str]) -> dict[str, Any]:
    """The dataset's description, or that of other cases: identifier -> annotator -> protocol."""
    content = copy.deepcopy(DATASET_JSON)
    if cases:
        content["annotation"]["cases"] = {
            identifier: {"protocol": "full", "source": "x", "annotators": dict(annotators)}
            for identifier, annotators in cases.items()
        }
    return content


def write_map(
    path: Path,
    labels: Sequence[int] | np.ndarray,
    spacing_mm: Sequence[float] = SPACING_MM,
    like: SimpleITK.Image | None = None,
) -> None:
    """A label map; eight values lie in (z, y, x). On the grid of an image, where one is given."""
    array = np.asarray(labels, np.uint8)
    image = SimpleITK.GetImageFromArray(array.reshape(2, 2, 2) if array.ndim == 1 else array)
    image.SetSpacing([float(step) for step in spacing_mm])
    if like is not None:
        image.CopyInformation(like)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def write_drawn(folder: Path, drawn: Mapping[str, Mapping[str, Sequence[int]]] = DRAWN) -> Path:
    """<folder>/<annotator>/<case>.nii.gz."""
    for identifier, annotators in drawn.items():
        for annotator, labels in annotators.items():
            write_map(folder / annotator / f"{identifier}.nii.gz", labels)
    return folder


def write_predictions(
    folder: Path,
    probability: Mapping[str, Mapping[int, Sequence[float]]] = PROBABILITY,
    *,
    num_classes: int = 5,
    dtype: type = np.float32,
    like: SimpleITK.Image | None = None,
) -> Path:
    """What `nnUNetv2_predict --save_probabilities` leaves: label maps, .npz and dataset.json."""
    for identifier, by_class in probability.items():
        shape = np.asarray(next(iter(by_class.values()))).shape
        shape = (2, 2, 2) if len(shape) == 1 else shape
        channels = np.zeros((num_classes, *shape))
        for number, values in by_class.items():
            channels[number] = np.asarray(values, float).reshape(shape)
        channels[0] = 1 - channels[1:].sum(axis=0)
        channels = channels.astype(dtype)
        write_map(folder / f"{identifier}.nii.gz", channels.argmax(axis=0), like=like)
        np.savez_compressed(folder / f"{identifier}.npz", probabilities=channels)
    (folder / "dataset.json").write_text(json.dumps(DATASET_JSON), encoding="utf-8")
    return folder
