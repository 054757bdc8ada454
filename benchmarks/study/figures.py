"""A picture of a part of the study: every method's Dice, fold by fold."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pandas as pd
from matplotlib import pyplot as plt

from benchmarks.study.protocol import Part
from benchmarks.study.tables import after_last_round, fold_means, shown_rows
from nnunet_partial.labels import replacing

BAR, DOT, LINE_INCHES, WIDTH_INCHES = "#9db4c0", "#253237", 0.3, 8.0


def draw(part: Part, rows: pd.DataFrame, path: Path) -> None:
    """A bar for each method's mean over folds, a dot for each fold; a panel for each table.

    Args:
        part: Says what stands in which panel.
        rows: A row a method, fold, round, case and organ.
        path: Of the PNG.
    """
    last = after_last_round(rows)
    groups = [(group, shown) for group in part.groups if len(shown := shown_rows(group, last))]
    heights = [shown["shown"].nunique() + 2 for _, shown in groups]
    figure, panels = plt.subplots(
        len(groups),
        figsize=(WIDTH_INCHES, LINE_INCHES * sum(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for (group, shown), panel in zip(groups, panels[:, 0], strict=True):
        folds = 100 * fold_means(shown, ["Dice"])["Dice"]
        names = list(folds.index.unique("shown"))
        panel.barh(names, [folds[name].mean() for name in names], color=BAR)
        for place, name in enumerate(names):
            panel.plot(folds[name], [place] * len(folds[name]), "o", color=DOT, markersize=4)
        panel.invert_yaxis()
        panel.set_title(group.title, loc="left", fontsize="medium")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("mean Dice over organs (%): mean over folds, and each fold")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
