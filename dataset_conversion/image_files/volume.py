"""Voxels with a place in the patient: reading volumes, bringing arrays to RAS, comparing grids."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import SimpleITK
from nibabel import orientations

AXES = "RAS"
"""The one orientation of a converted dataset: array axes (x fastest) run to the patient's Right, Anterior, Superior."""

NIBABEL_ERRORS = (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, nib.spatialimages.HeaderTypeError)
"""What nibabel raises for files that are not what their name says; none of these is a ValueError."""

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".nrrd", ".mha")
"""Volumes that ITK reads; NIfTI is read by nibabel, which is not stopped by axes that are not perpendicular."""
VOLUME_ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_GRID_GAP_VOXELS = 0.1
_DEFLATE_LIMIT = 1032  # no deflate stream unpacks to more than this times its size


@dataclass(frozen=True)
class Volume:
    """An array in (x, y, z) order as it is stored, and what turns it into intensities in the patient.

    Attributes:
        array: Stored values.
        affine: Array index -> mm, in nibabel's RAS+ world; None for a label map made of pictures, which has no place.
        slope: With `inter`, stored value -> intensity.
        inter: See slope.
        notes: What reading it found worth saying.
    """

    array: np.ndarray
    affine: np.ndarray | None
    slope: float = 1.0
    inter: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def axcodes(self) -> str:
        """Where the array axes run, such as 'LAS'."""
        return "".join(code or "?" for code in nib.aff2axcodes(self.affine))

    def intensities(self, select: object = ...) -> np.ndarray:
        """Intensities of a part of the volume, in float32."""
        return self.array[select].astype(np.float32) * np.float32(self.slope) + np.float32(self.inter)


def read_volume(path: Path) -> Volume:
    """Read a 3D volume: NIfTI, or a format that ITK reads by the file's ending.

    Raises:
        ValueError: it is not a 3D volume of plain numbers.
    """
    if path.suffix not in ITK_ENDINGS:
        return read_nifti(path)
    image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            f"expected a 3D volume of plain numbers, '{path.name}' has {image.GetDimension()} dimensions "
            f"and {image.GetNumberOfComponentsPerPixel()} values a voxel"
        )
    return from_itk(image)


def read_nifti(path: Path) -> Volume:
    """Read a 3D NIfTI file without touching its stored values.

    Raises:
        ValueError: it is not a 3D volume of plain numbers.
    """
    image, content = _load(path)
    if image.ndim != 3:
        raise ValueError(
            f"expected a 3D volume, '{path.name}' has shape {image.shape}; several phases in one file must be taken apart first"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"'{path.name}' has voxels of type {image.get_data_dtype()}; expected plain numbers")
    proxy = image.dataobj
    stored = proxy.get_unscaled() if content is None else np.ndarray(proxy.shape, proxy.dtype, content, proxy.offset, order="F")
    volume = Volume(np.asanyarray(stored), image.affine, float(proxy.slope), float(proxy.inter))
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine)) < 1e-9:
        raise ValueError(f"'{path.name}' has an affine that is no place in space: {volume.affine.tolist()}")
    return volume


def _load(path: Path) -> tuple[nib.spatialimages.SpatialImage, bytes | None]:
    """`nib.load`; of a compressed NIfTI-1 file, which is unpacked in one piece in half the time, also the whole content."""
    if path.name.endswith(".nii.gz"):
        packed = path.read_bytes()
        size = int.from_bytes(packed[-4:], "little")  # as gzip files end
        with suppress(RuntimeError, ValueError, SystemError, *NIBABEL_ERRORS):
            if size <= _DEFLATE_LIMIT * len(packed):
                content = imagecodecs.gzip_decode(packed, out=size)
                image = nib.Nifti1Image.from_bytes(content)
                if len(content) >= image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize:
                    return image, content
    return nib.load(path), None  # also NIfTI-2 and files of several gzip members; says what is wrong with a broken one


def read_labels(path: Path) -> Volume:
    """Read a 3D label map; a scale factor in its header is applied."""
    volume = read_volume(path)
    if (volume.slope, volume.inter) == (1.0, 0.0):
        return volume
    return replace(volume, array=volume.array * volume.slope + volume.inter, slope=1.0, inter=0.0)


def from_itk(image: SimpleITK.Image) -> Volume:
    """An ITK image as a volume: axes in (x, y, z) order, LPS world turned into RAS."""
    return Volume(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), itk_affine(image))


def itk_affine(image: "SimpleITK.Image | SimpleITK.ImageFileReader") -> np.ndarray:
    """Index -> mm in the RAS+ world, of an image or of a reader that has read the header."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


def to_ras(volume: Volume) -> Volume:
    """Axes exchanged and reversed until they run along RAS; no voxel changes its value or its place."""
    turn = orientations.io_orientation(volume.affine)
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.array.shape)
    return replace(volume, array=orientations.apply_orientation(volume.array, turn), affine=affine)


def with_square_axes(volume: Volume) -> tuple[Volume, float]:
    """The volume with the nearest rotation in place of axes that are not perpendicular, and by how many degrees they were not.

    ITK, with which nnU-Net reads, refuses other files.
    """
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    cosines = volume.affine[:3, :3] / spacing
    skew_degrees = float(np.degrees(np.arcsin(np.clip(np.abs(cosines.T @ cosines - np.eye(3)).max(), 0, 1))))
    left, _, right = np.linalg.svd(cosines)
    affine = volume.affine.copy()
    affine[:3, :3] = (left @ right) * spacing
    return replace(volume, affine=affine), skew_degrees


def same_grid(first: Volume, second: Volume) -> bool:
    """Whether two volumes of one shape put their corner voxels at the same places, to a tenth of a voxel."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in first.array.shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    gaps_mm = np.abs((first.affine - second.affine) @ corners)[:3].max()
    return gaps_mm <= _MAX_GRID_GAP_VOXELS * np.linalg.norm(first.affine[:3, :3], axis=0).min()


def placed_in(box: Volume, image: Volume) -> Volume:
    """A label map that covers a box of an image's grid, on the whole grid and in the image's axes; 0 elsewhere.

    It may leave out slices at regular distances: its voxels then lie on every second, third, ... slice of the image.

    Raises:
        ValueError: its voxels are not voxels of the image, or it reaches beyond the image.
    """
    grid, box = to_ras(image), to_ras(box)
    last_voxel = np.array(box.array.shape) - 1
    index = np.linalg.inv(grid.affine) @ box.affine
    first = np.rint(index[:3, 3]).astype(int)
    steps = np.where(last_voxel, np.maximum(np.rint(np.diagonal(index)[:3]), 1), 1).astype(int)
    corners = np.array(np.meshgrid(*[(0, size) for size in last_voxel])).reshape(3, -1)
    gaps = index[:3, :3] @ corners + index[:3, 3:] - (first[:, None] + steps[:, None] * corners)
    if np.abs(gaps).max() > _MAX_GRID_GAP_VOXELS:
        raise ValueError("the label map's voxels are not voxels of the image; it was drawn on another series, or resampled")
    last = first + steps * last_voxel
    if (first < 0).any() or (last >= grid.array.shape).any():
        raise ValueError("the label map reaches beyond the image; it was drawn on another series")
    whole = np.zeros(grid.array.shape, dtype=box.array.dtype)
    whole[tuple(slice(a, b + 1, step) for a, b, step in zip(first, last, steps, strict=True))] = box.array
    return replace(box, array=whole, affine=grid.affine)


def has_identity_affine(volume: Volume) -> bool:
    """Whether the header says nothing but 1 mm along every axis, which no scanner does."""
    return bool(np.array_equal(volume.affine[:3, :3], np.eye(3)))


def bounding_box(array: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box that holds all that is not 0; a box without voxels where all is."""
    box = [slice(None)] * 3
    for axis in (2, 1, 0):  # the slowest axis of a file first: what it leaves out need not be read again
        hit = np.flatnonzero(array[tuple(box)].any(axis=tuple(other for other in range(3) if other != axis)))
        box[axis] = slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0)
    return tuple(box)
