"""Pseudo Dice of every class in every source over the epochs: the CSV a training leaves behind, and its picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_partial.report.style import in_default_style

CSV_NAME, PNG_NAME = "progress_classes.csv", "progress_classes.png"
ALL_SOURCES = "all sources"
COLUMNS = ("epoch", "source", "class", "pseudo_dice", "tp", "fp", "fn")
SMOOTHING = 0.9  # of the moving average, as in nnU-Net's progress.png

Curves = dict[str, dict[str, np.ndarray]]


def read_class_curves(file: Path) -> Curves:
    """Class -> source -> (epochs, 2) epoch and pseudo Dice, NaN where there was nothing to judge."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            point = (float(row["epoch"]), float(row["pseudo_dice"] or "nan"))
            curves.setdefault(row["class"], {}).setdefault(row["source"], []).append(point)
    return {name: {source: np.array(points) for source, points in sources.items()} for name, sources in curves.items()}


@in_default_style
def draw_class_curves(curves: Curves, sources: Sequence[str], file: Path) -> None:
    """A panel a class, a line a source (moving average), and all sources in black; the PNG beside nnU-Net's progress.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    colours = {source: f"C{n % 10}" for n, source in enumerate(sources)} | {ALL_SOURCES: "black"}
    draw_panels(figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True), curves, colours)
    figure.savefig(file, dpi=90, metadata={"Software": None})


def draw_panels(figure: object, panels: np.ndarray, curves: Curves, colours: dict[str, str]) -> None:
    """Fill a grid of axes, a class each, and put the legend above them."""
    lines = {}
    dashed = [source for n, source in enumerate(colours) if colours[source] in list(colours.values())[:n]]  # a colour used before
    for axes, (name, by_source) in zip(panels.flat, curves.items(), strict=False):
        for source, points in by_source.items():
            total = source == ALL_SOURCES
            look = {
                "color": colours[source],
                "linewidth": 2.0 if total else 1.3,
                "label": source,
                "ls": "--" if source in dashed else "-",
            }
            lines[source] = axes.plot(points[:, 0], moving_average(points[:, 1]), **look)[0]
            if total:
                axes.plot(points[:, 0], points[:, 1], color=colours[source], linewidth=0.6, alpha=0.35)
        axes.set(title=name, ylim=(-0.02, 1.02))
        axes.grid(alpha=0.25)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("pseudo Dice", fontsize=10)
    ordered = [lines[source] for source in colours if source in lines]
    if len(ordered) > 1:
        figure.legend(handles=ordered, loc="outside upper center", ncols=min(6, len(ordered)), frameon=False)


def moving_average(values: np.ndarray) -> np.ndarray:
    """Exponential moving average that begins at the first known value and passes over NaN.

    Shape:
        values (epochs,); returns (epochs,), NaN before the first known value.
    """
    averaged, last = np.full(len(values), np.nan), np.nan
    for n, value in enumerate(values):
        if not np.isnan(value):
            last = value if np.isnan(last) else SMOOTHING * last + (1 - SMOOTHING) * value
        averaged[n] = last
    return averaged
