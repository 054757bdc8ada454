"""Reliability diagrams: how often a class is there, against how probable it was said to be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.labels import replacing

_COLUMNS = 4


def draw_reliability(
    calibration: Mapping[str, Mapping[str, Any]], path: Path | str, *, truth: str = "frequency in the reference"
) -> None:
    """Draw one diagram a class into one picture; the format follows the file's ending.

    Args:
        calibration: Class name -> what `calibration_metrics` returns.
        path: Where to write, such as reliability.png or reliability.pdf.
        truth: What the probabilities are held against, as it stands at the axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(calibration))
    rows = -(-len(calibration) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, metrics) in zip(axes, calibration.items(), strict=False):
        _draw(axis, name, metrics, truth)
    for axis in axes[len(calibration) :]:
        axis.axis("off")
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw(axis: Any, name: str, metrics: Mapping[str, Any], truth: str) -> None:
    points = metrics["reliability"]
    voxels = np.array(points["voxels"], dtype=float)
    edges = np.linspace(0, 1, len(voxels) + 1)
    share = voxels / max(voxels.sum(), 1)
    axis.bar(edges[:-1], share, width=np.diff(edges), align="edge", color="#d9e2ec", label="share of voxels")
    axis.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--")
    axis.plot(points["probability"], points["frequency"], color="#c0392b", marker="o", markersize=3, label=truth.split(" in ")[0])
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", ylabel=truth)
    numbers = f"ECE {metrics['ECE']:.3f}, Brier {metrics['Brier']:.3f}" if metrics["voxels"] else "no voxels"
    axis.set_title(f"{name}\n{numbers}", fontsize=9)
    axis.set_aspect("equal")
    axis.legend(loc="upper left", fontsize=7, frameon=False)
