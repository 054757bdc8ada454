"""A dataset of two sources, one of which says nothing of the spleen and only 'kidney'."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_partial.labels import Annotation

DATASET_JSON = {
    "labels": {"background": 0, "liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4},
    "file_ending": ".nii.gz",
    "annotation": {
        "protocols": {
            "full": {"labels": {1: ["liver"], 2: ["spleen"], 3: ["kidney_left"], 4: ["kidney_right"]}},
            "kidney": {"labels": {1: ["liver"], 3: ["kidney_left", "kidney_right"]}},
        },
        "cases": {
            "full_1": {"protocol": "full", "source": "full"},
            "full_2": {"protocol": "full", "source": "full"},
            "kits_1": {"protocol": "kidney", "source": "kits"},
        },
    },
}


@pytest.fixture
def annotation() -> Annotation:
    return Annotation.from_dataset_json(DATASET_JSON)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """References and predictions of the three cases; the numbers are in `test_evaluate_folder.py`."""
    references, predictions = tmp_path / "references", tmp_path / "predictions"
    write_labels(references / "full_1.nii.gz", [1, 1, 2, 2, 3, 4, 0, 0])
    write_labels(predictions / "full_1.nii.gz", [1, 1, 2, 0, 3, 0, 0, 0])
    write_labels(references / "full_2.nii.gz", [1, 1, 0, 0, 0, 4, 0, 0])
    write_labels(predictions / "full_2.nii.gz", [1, 0, 0, 0, 0, 4, 0, 0])
    write_labels(references / "kits_1.nii.gz", [0, 0, 0, 0, 3, 3, 3, 0])
    write_labels(predictions / "kits_1.nii.gz", [0, 2, 2, 0, 3, 4, 0, 0])
    return references, predictions


@pytest.fixture
def write() -> Callable[..., None]:
    return write_labels


def write_labels(
    path: Path,
    labels: Sequence[int],
    *,
    shape: tuple[int, ...] = (2, 2, 2),
    spacing_mm: tuple[float, ...] = (1, 1, 3),
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    dtype: type = np.uint8,
) -> None:
    """Write a small label map, axes (z, y, x)."""
    image = SimpleITK.GetImageFromArray(np.array(labels, dtype).reshape(shape))
    image.SetSpacing(spacing_mm)
    image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
