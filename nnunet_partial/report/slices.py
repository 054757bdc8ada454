"""Slices of a scan with segmentations over them, as radiologists look at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from scipy.ndimage import zoom

WINDOW_HU = (-140.0, 240.0)  # soft tissue
FINE_MM = 1.0  # slices are drawn at this voxel size
VIEWS = (("axial", 2), ("coronal", 1), ("sagittal", 0))
SIDES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}  # what is at the left and right edge
CLASS_COLOURS = (
    "#e8833a", "#9b6bd6", "#f5d547", "#3fa7e0", "#3ccf91", "#e05a7a", "#a8c94b", "#5bd6d6", "#d98bd0", "#c9a066",
    "#7d8ff0", "#f2b0b0", "#6fbf5f", "#d0d0d0", "#b5754d", "#4fb3a0",
)  # fmt: skip


@dataclass(frozen=True)
class ShownCase:
    """What a picture needs of one case, arrays running to right, anterior, superior.

    Attributes:
        image: Intensities; Hounsfield units in CT.
        label_maps: Segmentations on the image's voxels.
        spacing_mm: Voxel size along each axis.
        window: The intensities that are drawn black and white.
    """

    image: np.ndarray
    label_maps: tuple[np.ndarray, ...]
    spacing_mm: tuple[float, ...]
    window: tuple[float, float] = WINDOW_HU


@dataclass(frozen=True)
class View:
    """One slice through a case: the axis it is cut along and where."""

    name: str
    axis: int
    index: int

    def of(self, array: np.ndarray) -> np.ndarray:
        """The slice as radiologists see it: patient's right (in a sagittal slice, front) on the left, anterior or superior up."""
        return np.take(array, self.index, axis=self.axis)[::-1].T[::-1]

    def extent_mm(self, case: ShownCase) -> tuple[float, float]:
        """Width and height of the slice."""
        across, up = (k for k in range(3) if k != self.axis)
        return case.image.shape[across] * case.spacing_mm[across], case.image.shape[up] * case.spacing_mm[up]


def class_colour(number: int) -> str:
    """The colour of a label id in every picture; ids beyond the palette begin it again."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def read_shown_case(image: Path, *label_maps: Path, is_ct: bool = True) -> ShownCase:
    """Read an image and segmentations on its voxels, all brought to right, anterior, superior.

    Args:
        image: The scan.
        label_maps: Segmentations of it.
        is_ct: Whether the soft-tissue window is shown; otherwise the middle 99 % of the intensities.

    Raises:
        ValueError: a file that cannot be read or has not three axes, or shapes that differ.
    """
    arrays, spacing_mm = zip(*map(_read_volume, (image, *label_maps)), strict=True)
    for path, array in zip(label_maps, arrays[1:], strict=True):
        if array.dtype.kind == "f" and np.any(array % 1):
            raise ValueError(f"{path} holds fractions; label ids are whole numbers (is it an image or a probability map?)")
        if array.shape != arrays[0].shape:
            raise ValueError(f"{path} has shape {array.shape}, but its image {image} has {arrays[0].shape}")
    window = WINDOW_HU if is_ct else tuple(float(value) for value in np.percentile(arrays[0], (0.5, 99.5)))
    return ShownCase(arrays[0], tuple(array.astype(np.int16) for array in arrays[1:]), spacing_mm[0], window)


def draw_slice(
    axes: object, case: ShownCase, view: View, labels: np.ndarray, colours: Mapping[int, str], hatched: Sequence[int] = ()
) -> None:
    """Draw a slice of the image with the outline and a tint of each label id that has a colour.

    Args:
        axes: matplotlib's.
        case: The image and its spacing.
        view: Which slice.
        labels: Label map on the image's voxels.
        colours: Label id -> colour.
        hatched: Ids that are hatched in place of tinted.
    """
    width_mm, height_mm = view.extent_mm(case)
    low, high = case.window
    grey = _finer(np.clip(view.of(case.image).astype(np.float32), low, high), case, view)
    axes.imshow(grey, cmap="gray", vmin=low, vmax=high, extent=(0, width_mm, height_mm, 0), interpolation="bilinear")
    plane = view.of(labels)
    for number, colour in colours.items():
        share = _finer((plane == number).astype(np.float32), case, view)
        if share.max() > 0.5:
            rows, columns = share.shape
            x, y = (np.arange(columns) + 0.5) * width_mm / columns, (np.arange(rows) + 0.5) * height_mm / rows
            if number in hatched:
                areas = axes.contourf(x, y, share, levels=[0.5, 2], colors="none", hatches=["//////"])
                areas.set_edgecolor(colour)
                areas.set_linewidth(0)
            else:
                axes.contourf(x, y, share, levels=[0.5, 2], colors=[colour], alpha=0.42)
            axes.contour(x, y, share, levels=[0.5], colors=[colour], linewidths=1.3)
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0), xticks=[], yticks=[], facecolor="black", aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _read_volume(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """The voxels running to right, anterior, superior, and their size; nibabel reads NIfTI, ITK everything else."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.name.endswith((".nii", ".nii.gz")):
        try:
            volume = nib.load(path)
            volume = nib.as_closest_canonical(volume) if volume.ndim == 3 else volume
            array, spacing_mm = np.asarray(volume.dataobj), tuple(float(step) for step in volume.header.get_zooms()[:3])
        except (nib.filebasedimages.ImageFileError, OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
    else:
        image = SimpleITK.ReadImage(str(path))
        if image.GetDimension() == 3:
            image = SimpleITK.DICOMOrient(image, "LPS")
        array, spacing_mm = SimpleITK.GetArrayFromImage(image).T[::-1, ::-1], image.GetSpacing()
    if array.ndim != 3:
        raise ValueError(f"{path} has {array.ndim} axes; pictures are drawn of volumes with three")
    return array, spacing_mm


def _finer(plane: np.ndarray, case: ShownCase, view: View) -> np.ndarray:
    """A slice at `FINE_MM`, by linear interpolation, so that outlines do not show the voxels' steps."""
    across, up = (k for k in range(3) if k != view.axis)
    factors = (case.spacing_mm[up] / FINE_MM, case.spacing_mm[across] / FINE_MM)
    return zoom(plane, factors, order=1, mode="nearest", grid_mode=True)
