"""Label maps from files, with the geometry that two of them must share to be compared."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

SPACING_TOLERANCE = 1e-3  # relative
DIRECTION_TOLERANCE = 1e-2  # of a cosine: NIfTI headers keep rounded quaternions


@dataclass(frozen=True)
class LabelMap:
    """A label map and where its voxels lie.

    Attributes:
        labels: Label ids, axes (z, y, x).
        spacing_mm: Distance of neighbouring voxels, (x, y, z) as ITK has it.
        direction: Unit vectors of the axes as columns, LPS as ITK has it.
    """

    labels: np.ndarray
    spacing_mm: np.ndarray
    direction: np.ndarray


def read_label_map(path: Path) -> LabelMap:
    """Read a label map; where ITK refuses a NIfTI for its direction cosines, nibabel reads it.

    Raises:
        ValueError: neither can read the file, or it holds fractions.
    """
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        if not path.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"{path} cannot be read: {_last_line(error)}") from None
        return _read_with_nibabel(path, refusal=_last_line(error))
    dimensions = image.GetDimension()
    return LabelMap(
        labels=_whole_numbers(SimpleITK.GetArrayViewFromImage(image), path),
        spacing_mm=np.array(image.GetSpacing()),
        direction=np.array(image.GetDirection()).reshape(dimensions, dimensions),
    )


def geometry_faults(reference: LabelMap, prediction: LabelMap) -> list[str]:
    """What keeps two label maps from being compared voxel by voxel; origins may differ, as nnU-Net allows it too."""
    if reference.labels.shape != prediction.labels.shape:
        return [f"reference has shape {reference.labels.shape} (z, y, x), prediction {prediction.labels.shape}"]
    found = []
    if not np.allclose(reference.spacing_mm, prediction.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        found.append(
            f"reference has spacing {_short(reference.spacing_mm)} mm (x, y, z), prediction {_short(prediction.spacing_mm)} mm"
        )
    if not np.allclose(reference.direction, prediction.direction, rtol=0, atol=DIRECTION_TOLERANCE):
        axes = f"reference has direction {_short(reference.direction.ravel())}, prediction {_short(prediction.direction.ravel())}"
        found.append(axes)
    return found


def _read_with_nibabel(path: Path, *, refusal: str) -> LabelMap:
    try:
        image = nibabel.load(path)
        labels = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: ITK says '{refusal}', nibabel says '{error}'") from None
    axes = np.diag([-1.0, -1.0, 1.0]) @ image.affine[:3, :3]  # nibabel is RAS, ITK is LPS
    spacing_mm = np.linalg.norm(axes, axis=0)
    return LabelMap(labels=_whole_numbers(labels, path).T, spacing_mm=spacing_mm, direction=axes / spacing_mm)


def _whole_numbers(labels: np.ndarray, path: Path) -> np.ndarray:
    """A copy in integers; floats that hold whole numbers are accepted."""
    if labels.dtype.kind in "iu":
        return labels.copy()
    if labels.dtype.kind != "f":
        raise ValueError(f"{path} has values of type {labels.dtype}, not label ids")
    with np.errstate(invalid="ignore"):  # NaN becomes a number that the next line finds out
        whole = labels.astype(np.int32)
    if not np.array_equal(whole, labels):
        raise ValueError(f"{path} holds fractions; label ids are whole numbers (is it an image or a probability map?)")
    return whole


def _short(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in np.round(values, 4) + 0.0) + ")"  # + 0.0: no minus zero


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
