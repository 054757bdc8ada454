"""Charts as inline SVG whose colours are the page's own, so that they follow it from light to dark and onto paper."""

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_partial.report.class_curves import ALL_SOURCES, draw_panels
from nnunet_partial.report.training_run import TrainingRun

# matplotlib draws with these, the page's variables take their place
INK, FAINT, RULE = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0000{number:02x}" for number in range(0xA0, 0xA8))
_VARIABLES = {INK: "--ink", FAINT: "--faint", RULE: "--rule"} | {c: f"--series-{n}" for n, c in enumerate(SERIES, 1)}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": RULE,
    "axes.titlesize": 10.5,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "grid.color": RULE,
    "legend.fontsize": 9.5,
}


def box_plot(values: Mapping[str, Sequence[float]], metric: str, colour: int = 0) -> str:
    """A horizontal box a class (median, quartiles, whiskers to 1.5 times the box) with a dot for every case.

    Args:
        values: Class name -> its values, without NaN.
        metric: Name of the metric, on the axis.
        colour: Which series' colour.
    """
    names = list(values)
    with _style():
        figure, (axes,) = _panels(1, 1, width=10.6, height=0.42 * len(names) + 0.8)
        for row, name in enumerate(names):
            known = np.asarray(values[name], float)
            axes.scatter(known, row + _spread(len(known)), s=16, color=SERIES[colour], alpha=0.75, linewidths=0, zorder=3)
            if len(known) > 1:
                _draw_box(axes, row, known)
        axes.set_yticks(range(len(names)), [f"{name}  (n={len(values[name])})" for name in names])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set(xlabel=metric.replace("_mm", " (mm)"), ylim=(len(names) - 0.4, -0.6))
        if metric in ("Dice", "IoU", "NSD", "Precision", "Recall"):
            axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="x", linewidth=0.7)
        axes.set_axisbelow(True)
        return _svg(figure, f"box {metric}")


def _draw_box(axes: object, row: int, values: np.ndarray) -> None:
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
    reach = 1.5 * (third - first)
    low, high = values[values >= first - reach].min(), values[values <= third + reach].max()
    axes.barh(row, third - first, left=first, height=0.6, facecolor="none", edgecolor=FAINT)
    axes.plot([low, first], [row, row], color=FAINT, linewidth=1)
    axes.plot([third, high], [row, row], color=FAINT, linewidth=1)
    axes.plot([median, median], [row - 0.3, row + 0.3], color=INK, linewidth=2)


def loss_chart(run: TrainingRun) -> str:
    """Training and validation loss over the epochs."""
    with _style():
        figure, (axes,) = _panels(1, 1, width=10.6, height=3.0)
        for n, (name, values) in enumerate((("training", run.train_loss), ("validation", run.val_loss))):
            axes.plot(run.epochs, values, color=SERIES[n], linewidth=1.6, label=name)
        axes.set(xlabel="epoch", ylabel="loss")
        axes.grid(axis="y", linewidth=0.7)
        axes.legend(frameon=False, loc="best")
        return _svg(figure, f"loss {run.fold}")


def dice_chart(run: TrainingRun) -> str:
    """Pseudo Dice over the epochs: a panel a class, a line a source, all sources in ink."""
    columns = min(3, len(run.curves))
    rows = -(-len(run.curves) // columns)
    sources = sorted({source for by_source in run.curves.values() for source in by_source} - {ALL_SOURCES})
    colours = {source: SERIES[n % len(SERIES)] for n, source in enumerate(sources)} | {ALL_SOURCES: INK}
    with _style():
        figure, _ = _panels(0, 0, width=10.6, height=2.3 * rows + 0.8)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        draw_panels(figure, panels, run.curves, colours)
        return _svg(figure, f"dice {run.fold}")


def _panels(rows: int, columns: int, *, width: float, height: float) -> tuple:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    return figure, figure.subplots(rows, columns, squeeze=False).ravel() if rows else ()


def _style() -> object:
    import matplotlib

    return matplotlib.rc_context(STYLE)


def _svg(figure: object, name: str) -> str:
    """The figure without XML head and dates, with the page's colours; ids are unique to the chart's name."""
    import matplotlib

    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    prefix = re.sub(r"\W+", "-", name.lower())
    svg = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def _spread(count: int) -> np.ndarray:
    """Offsets that keep dots of a row apart, the same for the same number of dots."""
    return 0.2 * np.sin(2.399963 * np.arange(count)) if count > 1 else np.zeros(count)
