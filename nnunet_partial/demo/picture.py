"""The demonstration's picture: slices of held-out cases with the truth and both segmentations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_partial.demo.phantom import ORGANS
from nnunet_partial.report.slices import VIEWS, ShownCase, View, class_colour, draw_slice

COLOURS = {number: class_colour(number) for number in range(1, len(ORGANS) + 1)}
COLUMNS = (
    ("truth", "what is there"),
    ("stock nnU-Net", "unannotated organs are background"),
    ("nnunet_partial", "unannotated organs are left open"),
)
PAPER, INK, FAINT = "#0e1116", "#f2f4f8", "#9aa4b2"


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
    heights = [height_mm / width_mm for width_mm, height_mm in (view.extent_mm(cases[n]) for n, view in views)]
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
            draw_slice(axes, cases[n], view, cases[n].label_maps[column], COLOURS)
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


def telling_views(truth: np.ndarray) -> list[View]:
    """The axial and the coronal slice that show most of all organs: largest product of the organs' areas."""
    views = []
    for name, axis in VIEWS[:2]:
        others = tuple(k for k in range(3) if k != axis)
        areas = np.stack([np.count_nonzero(truth == number, axis=others) for number in range(1, len(ORGANS) + 1)])
        largest = np.maximum(areas.max(axis=1, keepdims=True), 1)
        views.append(View(name, axis, int(np.argmax(np.log(areas / largest + 0.05).sum(axis=0)))))
    return views


def _draw_legend(figure: object, annotated: Mapping[str, int], training_cases: int, scans: str) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=COLOURS[number],
            edgecolor="none",
            label=f"{organ.replace('_', ' ')}  {annotated[organ]} of {training_cases}",
        )
        for number, organ in enumerate(ORGANS, 1)
    ]
    inches = figure.get_figheight()
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor=INK, fontsize=10.5, handlelength=1.1,
        handleheight=1.1, columnspacing=1.8, bbox_to_anchor=(0.5, 0.36 / inches),
    )  # fmt: skip
    text = f"numbers: in how many of the training cases somebody looked for the organ · {scans} that neither network has seen"
    figure.text(0.5, 0.2 / inches, text, color=FAINT, fontsize=9, ha="center")
