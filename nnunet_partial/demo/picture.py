"""The demonstration's picture: slices of held-out cases with the truth and both segmentations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import zoom

from nnunet_partial.demo.phantom import ORGANS

COLOURS = {
    "liver": "#e8833a",
    "spleen": "#9b6bd6",
    "pancreas": "#f5d547",
    "kidney_left": "#3fa7e0",
    "kidney_right": "#3ccf91",
}
COLUMNS = (
    ("truth", "what is there"),
    ("stock nnU-Net", "unannotated organs are background"),
    ("nnunet_partial", "unannotated organs are left open"),
)
WINDOW_HU = (-140, 240)
FINE_MM = 1.0  # slices are drawn at this voxel size
PAPER, INK, FAINT = "#0e1116", "#f2f4f8", "#9aa4b2"


@dataclass(frozen=True)
class ShownCase:
    """What the picture needs of one case, arrays running to right, anterior, superior.

    Attributes:
        image: Hounsfield units.
        label_maps: The truth, then one prediction a method.
        spacing_mm: Voxel size along each axis.
    """

    image: np.ndarray
    label_maps: tuple[np.ndarray, ...]
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True)
class _View:
    """One slice through a case: the axis it is cut along and where."""

    name: str
    axis: int
    index: int

    def of(self, array: np.ndarray) -> np.ndarray:
        """The slice as seen by radiologists: patient's right on the left, anterior or superior up."""
        return np.take(array, self.index, axis=self.axis)[::-1].T[::-1]


def read_shown_case(image: Path, truth: Path, predictions: Sequence[Path]) -> ShownCase:
    """Read a case and its predictions, all brought to right, anterior, superior."""
    volumes = [nib.as_closest_canonical(nib.load(path)) for path in (image, truth, *predictions)]
    arrays = [np.asarray(volume.dataobj) for volume in volumes]
    return ShownCase(arrays[0], tuple(arrays[1:]), tuple(float(step) for step in volumes[0].header.get_zooms()[:3]))


def draw_picture(
    cases: Sequence[ShownCase],
    dice: Sequence[Sequence[float | None]],
    annotated: Mapping[str, int],
    training_cases: int,
    path: Path,
    *,
    scans: str = "phantoms",
) -> None:
    """Draw a row of slices for each case and view, a column for the truth and each method.

    Args:
        cases: Cases with the truth and one prediction for each further column.
        dice: For each case, mean Dice of each prediction.
        annotated: In how many training cases each organ was looked for.
        training_cases: How many training cases there were.
        path: The PNG file.
        scans: What the cases are, for the caption.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    views = [(n, view) for n, case in enumerate(cases) for view in telling_views(case.label_maps[0])]
    heights = [_extent_mm(cases[n], view)[1] / _extent_mm(cases[n], view)[0] for n, view in views]
    width = 3.5
    figure = Figure(figsize=(len(COLUMNS) * width + 0.5, sum(heights) * width + 0.09 * len(views) + 1.75), facecolor=PAPER)
    FigureCanvasAgg(figure)
    inches = figure.get_figheight()
    grid = figure.add_gridspec(
        len(views), len(COLUMNS), height_ratios=heights, left=0.045, right=0.995, top=1 - 0.78 / inches, bottom=0.9 / inches,
        wspace=0.02, hspace=0.03,
    )  # fmt: skip
    for row, (n, view) in enumerate(views):
        for column in range(len(COLUMNS)):
            axes = figure.add_subplot(grid[row, column])
            _draw_slice(axes, cases[n], view, cases[n].label_maps[column])
            if row == 0:
                name, meaning = COLUMNS[column]
                axes.set_title(name, color=INK, fontsize=12.5, fontweight="bold", pad=22)
                axes.annotate(meaning, (0.5, 1), (0, 7), "axes fraction", "offset points", color=FAINT, fontsize=10, ha="center")
            if column == 0:
                axes.set_ylabel(f"case {n + 1}, {view.name}", color=FAINT, fontsize=10)
                axes.text(0.015, 0.5, "R", transform=axes.transAxes, color=FAINT, fontsize=9, va="center")
                axes.text(0.985, 0.5, "L", transform=axes.transAxes, color=FAINT, fontsize=9, va="center", ha="right")
            elif view.axis == 2 and dice[n][column - 1] is not None:
                box = {"boxstyle": "round,pad=0.3", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75}
                text = f"mean Dice {dice[n][column - 1]:.2f}"
                axes.text(0.02, 0.965, text, transform=axes.transAxes, color=INK, fontsize=11, va="top", bbox=box)
    _draw_legend(figure, annotated, training_cases, scans)
    figure.savefig(path, dpi=110, facecolor=PAPER)


def telling_views(truth: np.ndarray) -> list[_View]:
    """The axial and the coronal slice that show most of all organs: largest product of the organs' areas."""
    views = []
    for name, axis in (("axial", 2), ("coronal", 1)):
        others = tuple(k for k in range(3) if k != axis)
        areas = np.stack([np.count_nonzero(truth == number, axis=others) for number in range(1, len(ORGANS) + 1)])
        largest = np.maximum(areas.max(axis=1, keepdims=True), 1)
        views.append(_View(name, axis, int(np.argmax(np.log(areas / largest + 0.05).sum(axis=0)))))
    return views


def _extent_mm(case: ShownCase, view: _View) -> tuple[float, float]:
    across, up = (k for k in range(3) if k != view.axis)
    return case.image.shape[across] * case.spacing_mm[across], case.image.shape[up] * case.spacing_mm[up]


def _draw_slice(axes: object, case: ShownCase, view: _View, labels: np.ndarray) -> None:
    width_mm, height_mm = _extent_mm(case, view)
    extent = (0, width_mm, height_mm, 0)
    low, high = WINDOW_HU
    grey = _finer(np.clip(view.of(case.image).astype(np.float32), low, high), case, view)
    axes.imshow(grey, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    for number, organ in enumerate(ORGANS, 1):
        share = _finer((view.of(labels) == number).astype(np.float32), case, view)
        if share.max() > 0.5:
            rows, columns = share.shape
            x, y = (np.arange(columns) + 0.5) * width_mm / columns, (np.arange(rows) + 0.5) * height_mm / rows
            axes.contourf(x, y, share, levels=[0.5, 2], colors=[COLOURS[organ]], alpha=0.42)
            axes.contour(x, y, share, levels=[0.5], colors=[COLOURS[organ]], linewidths=1.3)
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0), xticks=[], yticks=[], facecolor="black", aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _finer(plane: np.ndarray, case: ShownCase, view: _View) -> np.ndarray:
    """A slice at `FINE_MM`, by linear interpolation, so that outlines do not show the voxels' steps."""
    across, up = (k for k in range(3) if k != view.axis)
    factors = (case.spacing_mm[up] / FINE_MM, case.spacing_mm[across] / FINE_MM)
    return zoom(plane, factors, order=1, mode="nearest", grid_mode=True)


def _draw_legend(figure: object, annotated: Mapping[str, int], training_cases: int, scans: str) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=COLOURS[organ], edgecolor="none", label=f"{organ.replace('_', ' ')}  {annotated[organ]} of {training_cases}"
        )
        for organ in ORGANS
    ]
    inches = figure.get_figheight()
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor=INK, fontsize=10.5, handlelength=1.1,
        handleheight=1.1, columnspacing=1.8, bbox_to_anchor=(0.5, 0.36 / inches),
    )  # fmt: skip
    text = f"numbers: in how many of the training cases somebody looked for the organ · {scans} that neither network has seen"
    figure.text(0.5, 0.2 / inches, text, color=FAINT, fontsize=9, ha="center")
