"""The audit of pseudo-label rounds as a picture: a row a class, a column a question, the rounds from left to right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.labels import replacing
from nnunet_partial.report.style import in_default_style

ALL_SOURCES, MEAN = "all", "mean"
_BLUE, _ORANGE, _GREEN, _GREY = "#2a6fbb", "#d9772b", "#2f8f5b", "#9aa7b4"
_ROW_HEIGHT, _COLUMN_WIDTH = 1.15, 2.7  # inches
_HEADROOM = 1.35  # of a panel of bars, for the numbers above them
_MOST_TICKS = 10
_MOST_NUMBERS = 5  # above the bars of a panel; of more bars only the first and the last have one


@dataclass(frozen=True)
class _Column:
    """A column of panels.

    Attributes:
        title: Above it.
        lines: Audit column -> its name in the legend and its colour.
        bars: Whether counts are drawn, each panel to its own scale; else numbers in [0, 1], all panels to one scale.
    """

    title: str
    lines: Mapping[str, tuple[str, str]]
    bars: bool = False


_DICE = _Column("Dice after the round", {"dice": ("Dice", _BLUE)})
_RELABELLING = _Column("relabelling", {"precision": ("precision", _BLUE), "recall": ("recall", _ORANGE)})
_VOXELS = _Column("voxels added", {"voxels_added": ("voxels", _GREY)}, bars=True)
_RANKING = _Column("AUC of the criterion", {"auc": ("AUC", _GREEN)})
_THRESHOLDS = _Column(
    "lowest confidence added", {"threshold_median": ("median case", _BLUE), "threshold_lowest": ("lowest case", _ORANGE)}
)
_CASES = _Column("cases relabelled", {"cases_touched": ("cases", _GREY)}, bars=True)


@in_default_style
def draw_audit(rows: Sequence[Mapping[str, Any]], path: Path | str) -> None:
    """Draw the rows of all sources; without references, thresholds and cases take the place of what they would tell.

    Args:
        rows: Rows of audit.json, of one run and all its rounds.
        path: Where to write, such as audit.png.

    Raises:
        ValueError: there is no row over all sources.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = _by_class([row for row in rows if row["source"] == ALL_SOURCES])
    if not classes:
        raise ValueError("the audit has no row over all sources to draw; audit a round first")
    judged = any(row["precision"] is not None or row["auc"] is not None for own in classes.values() for row in own)
    columns = [_DICE, _RELABELLING, _VOXELS, _RANKING] if judged else [_DICE, _VOXELS, _THRESHOLDS, _CASES]
    columns = [column for column in columns if column.bars or _values(classes, column)]
    figure = Figure(figsize=(_COLUMN_WIDTH * len(columns) + 1.4, _ROW_HEIGHT * len(classes) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(classes), len(columns), squeeze=False, sharex=True)
    for column, axes in zip(columns, panels.T, strict=True):
        _draw_column(column, axes, classes)
    for name, axes in zip(classes, panels[:, 0], strict=True):
        shown, weight = ("all classes", "bold") if name == MEAN else (name.replace("_", " "), "normal")
        axes.set_ylabel(shown, rotation=0, ha="right", va="center", weight=weight)
    figure.supxlabel("round (0: human labels alone); all classes: means over classes, and the sum of their voxels", fontsize=9)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _by_class(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of each class by round; the mean first."""
    names = dict.fromkeys(row["class"] for row in rows)
    found = {name: sorted((row for row in rows if row["class"] == name), key=lambda row: row["round"]) for name in names}
    return {name: found[name] for name in sorted(found, key=lambda name: name != MEAN)}


def _values(classes: Mapping[str, Sequence[Mapping[str, Any]]], column: _Column) -> list[float]:
    return [row[key] for own in classes.values() for row in own for key in column.lines if row[key] is not None]


def _draw_column(column: _Column, panels: np.ndarray, classes: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for axes, own in zip(panels, classes.values(), strict=True):
        rounds = [row["round"] for row in own]
        if column.bars:
            _draw_bars(axes, column, own)
        else:
            _draw_lines(axes, column, own, lowest=np.floor(10 * min(_values(classes, column))) / 10)
        axes.set_xlim(min(rounds) - 0.5, max(rounds) + 0.12 * len(rounds) + 0.5)
        axes.set_xticks(range(min(rounds), max(rounds) + 1, -(-len(rounds) // _MOST_TICKS)))
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_title(column.title, fontsize=10, pad=18)
    if len(column.lines) > 1:
        panels[0].legend(fontsize=7.5, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 0.99), borderpad=0)


def _draw_lines(axes: Any, column: _Column, rows: Sequence[Mapping[str, Any]], *, lowest: float) -> None:
    """Lines with their last numbers, the higher line's above it and the lower one's below."""
    last = {}
    for key, (label, colour) in column.lines.items():
        points = [(row["round"], row[key]) for row in rows if row[key] is not None]
        axes.plot(
            *zip(*points, strict=True) if points else ([], []), color=colour, marker="o", markersize=3.5, lw=1.4, label=label
        )
        last |= {key: points[-1]} if points else {}
    for place, (key, point) in enumerate(sorted(last.items(), key=lambda item: item[1][1])):
        align = "center" if len(last) == 1 else ("top", "bottom")[place]
        look = {"fontsize": 7.5, "color": column.lines[key][1], "va": align}
        axes.annotate(f"{point[1]:.2f}", point, (5, 0), textcoords="offset points", **look)
    if not last:
        _say(axes, "unknown")
    axes.set_ylim(lowest - 0.06 * (1 - lowest), 1 + 0.06 * (1 - lowest))
    axes.locator_params(axis="y", nbins=4, steps=(1, 2, 5, 10))
    axes.grid(axis="y", alpha=0.25)


def _draw_bars(axes: Any, column: _Column, rows: Sequence[Mapping[str, Any]]) -> None:
    ((key, (_, colour)),) = column.lines.items()
    counts = [row[key] for row in rows]
    filled = [number for number, count in enumerate(counts) if count]
    numbered = filled if len(filled) <= _MOST_NUMBERS else (filled[0], filled[-1])
    bars = axes.bar([row["round"] for row in rows], counts, width=0.6, color=colour)
    labels = [_short(count) if number in numbered else "" for number, count in enumerate(counts)]
    axes.bar_label(bars, labels, fontsize=7.5, padding=1)
    if not filled:
        _say(axes, "none")
    axes.set_ylim(0, _HEADROOM * max(*counts, 1))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8, color=_GREY)


def _short(count: int) -> str:
    """12345 -> 12.3k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)
