"""Label maps from files, with the geometry that two of them must share to be compared."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

NIFTI_ENDINGS = (".nii", ".nii.gz")
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the label map, (z, y, x)."""
        return self.labels.shape


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a file lie, from its header alone; attributes as in `LabelMap`."""

    shape: tuple[int, ...]
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
        if not path.name.endswith(NIFTI_ENDINGS):
            raise ValueError(f"{path} cannot be read: {_last_line(error)}") from None
        return _read_with_nibabel(path, refusal=_last_line(error))
    dimensions = image.GetDimension()
    return LabelMap(
        labels=_whole_numbers(SimpleITK.GetArrayViewFromImage(image), path),
        spacing_mm=np.array(image.GetSpacing()),
        direction=np.array(image.GetDirection()).reshape(dimensions, dimensions),
    )


def read_geometry(path: Path) -> Geometry:
    """What `read_label_map` would find of shape, spacing and direction, without reading the voxels.

    Raises:
        ValueError: neither ITK nor nibabel can read the header.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if not path.name.endswith(NIFTI_ENDINGS):
            raise ValueError(f"{path} cannot be read: {_last_line(error)}") from None
        image = _open_with_nibabel(path, refusal=_last_line(error))
        return Geometry(image.shape[::-1], *_spacing_and_direction(image.affine))
    dimensions = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dimensions, dimensions)
    return Geometry(tuple(reader.GetSize()[::-1]), np.array(reader.GetSpacing()), direction)


def geometry_faults(
    reference: LabelMap | Geometry, prediction: LabelMap | Geometry, *, names: tuple[str, str] = ("reference", "prediction")
) -> list[str]:
    """What keeps two label maps from being compared voxel by voxel; origins may differ, as nnU-Net allows it too."""
    first, second = names
    if reference.shape != prediction.shape:
        return [f"{first} has shape {reference.shape} (z, y, x), {second} {prediction.shape}"]
    found = []
    if not np.allclose(reference.spacing_mm, prediction.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        found.append(
            f"{first} has spacing {_short(reference.spacing_mm)} mm (x, y, z), {second} {_short(prediction.spacing_mm)} mm"
        )
    if not np.allclose(reference.direction, prediction.direction, rtol=0, atol=DIRECTION_TOLERANCE):
        directions = _short(reference.direction.ravel()), _short(prediction.direction.ravel())
        found.append(f"{first} has direction {directions[0]}, {second} {directions[1]}")
    return found


def _read_with_nibabel(path: Path, *, refusal: str) -> LabelMap:
    image = _open_with_nibabel(path, refusal=refusal)
    try:
        labels = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise _unreadable(path, refusal, error) from None
    return LabelMap(_whole_numbers(labels, path).T, *_spacing_and_direction(image.affine))


def _open_with_nibabel(path: Path, *, refusal: str) -> nibabel.spatialimages.SpatialImage:
    try:
        return nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, refusal, error) from None


def _unreadable(path: Path, refusal: str, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read: ITK says '{refusal}', nibabel says '{error}'")


def _spacing_and_direction(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]  # nibabel is RAS, ITK is LPS
    spacing_mm = np.linalg.norm(axes, axis=0)
    return spacing_mm, axes / spacing_mm


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
