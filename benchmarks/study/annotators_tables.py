"""The tables of a part of the study that is judged by several annotators, after tables 2 and 3 of Silva & Oliveira 2021.

A fold's figure is the mean over organs of the mean over its validation cases; tables give mean and sample standard deviation over
folds, and compare methods case by case.
"""

from collections.abc import Iterator

import pandas as pd

from benchmarks.markdown import markdown_table, mean_and_spread, missing_folds
from benchmarks.study.differences import EXPLAINED, Difference, differences_table
from benchmarks.study.protocol import Part
from benchmarks.study.tables import fold_means
from nnunet_partial.evaluation.folder import ALL_CLASSES

WORDS = ("method",)  # columns of words
METHOD_COLUMNS = {  # figure -> its column, factor, decimals
    "ECE": ("ECE", 100, 2),
    "Brier": ("Brier", 100, 2),
    "Dice_over_levels": ("Dice, 9 levels", 100, 2),
    "Precision_over_levels": ("precision", 100, 2),
    "Recall_over_levels": ("recall", 100, 2),
    "HD95_over_levels_mm": ("HD95 (mm)", 1, 1),
    "GED2_pairs": ("GED²", 1, 4),
    "IoU_distance": ("IoU distance", 1, 4),
    "diversity_pairs": ("diversity", 1, 4),
    "Dice_expected": ("expected Dice", 100, 2),
    "Dice_truth": ("Dice, truth", 100, 2),
}
LEVELS = [f"Dice_{percent}" for percent in range(10, 100, 10)]
COMPARED_FIGURES = ("ECE", "Brier", "Dice_over_levels", "GED2_pairs", "Dice_truth")
CALIBRATION_TEXT = """## Calibration

ECE and Brier score (%) over the voxels of all validation cases of a fold, within 10 mm of what anybody drew or the prediction
shows, against the share of votes: all organs' voxels together in each fold and in the mean, and the mean over organs."""
METHODS_TEXT = """## Methods (after tables 2 and 3)

ECE and Brier score in %, of each case by itself; Dice, precision, recall (%) and HD95: mean
over the confidence levels 10 % to 90 %, probabilities cut there against shares of votes cut there. GED²: squared generalized
energy distance; IoU distance: to the annotators, expected; diversity: the annotators' own; expected Dice (%): of the prediction
at 50 % with an annotator. Dice, truth (%): of the predicted label map with what the annotators were made from. Mean over organs
(± standard deviation over folds)."""
ORGANS_TEXT = """## Organs

ECE and Dice over nine levels, %, mean over folds."""
LEVELS_TEXT = """## Confidence levels

Dice (%) of probabilities cut at each level with shares of votes cut there: mean over organs of the mean over the cases of all
folds; below, of the organ with the highest Dice alone."""
DIFFERENCES_TEXT = f"""## Paired differences

Each case's mean over the organs, first minus second (ECE, Brier, Dice in points): {EXPLAINED}"""


def blocks(part: Part, frame: pd.DataFrame, calibration: pd.DataFrame) -> Iterator[str]:
    """Titles, tables and what has to be known to read them.

    Args:
        part: What is compared.
        frame: Every figure of every case and organ.
        calibration: ECE and Brier score by organ, and of "all", over the cases of a fold; empty where nobody kept it.
    """
    tables = {
        CALIBRATION_TEXT: calibration_table(calibration),
        METHODS_TEXT: methods_table(frame),
        ORGANS_TEXT: organs_table(frame),
        LEVELS_TEXT: levels_table(frame),
        DIFFERENCES_TEXT: method_differences(part, frame),
    }
    for title, table in tables.items():
        if table:
            yield title
            yield table


def calibration_table(calibration: pd.DataFrame) -> str:
    """Rows methods, columns folds and means; nothing where there are no figures."""
    if calibration.empty:
        return ""
    of_all = calibration["class"] == ALL_CLASSES
    together = 100 * calibration[of_all].set_index(["method", "fold"])[["ECE", "Brier"]]
    by_organ = 100 * calibration[~of_all].groupby(["method", "fold"], sort=False)["ECE"].mean()
    folds = sorted(calibration["fold"].unique())
    rows = []
    for method in together.index.unique("method"):
        own = together.loc[method]
        by_fold = [f"{own['ECE'][fold]:.2f}" if fold in own.index else "-" for fold in folds]
        means = own["ECE"].mean(), by_organ.loc[method].mean(), own["Brier"].mean()
        rows.append([method, *by_fold, *(f"{mean:.2f}" for mean in means)])
    return markdown_table(
        ["method", *(f"ECE, fold {fold}" for fold in folds), "ECE, mean", "ECE, organs", "Brier"], rows, left=WORDS
    )


def methods_table(frame: pd.DataFrame) -> str:
    """Rows methods, columns figures."""
    figures = list(METHOD_COLUMNS)
    folds = fold_means(frame, figures, ("method", "fold"))
    rows = [
        [method, *(mean_and_spread(folds.loc[method, name], *METHOD_COLUMNS[name][1:]) for name in figures)]
        for method in folds.index.unique("method")
    ]
    return markdown_table(["method", *(METHOD_COLUMNS[name][0] for name in figures)], rows, left=WORDS) + missing_folds(frame)


def organs_table(frame: pd.DataFrame) -> str:
    """Rows methods, columns organs: two figures each."""
    organs = list(frame["class"].unique())
    means = frame.groupby(["method", "fold", "class"], sort=False)[["ECE", "Dice_over_levels"]].mean()
    means = 100 * means.groupby(["method", "class"], sort=False).mean()
    rows = []
    for method in means.index.unique("method"):
        found = means.loc[method].loc[organs]
        cells = [f"{row['ECE']:.2f} / {row['Dice_over_levels']:.1f}" for _, row in found.iterrows()]
        rows.append([method, *cells])
    return markdown_table(["method", *(f"{organ} (ECE / Dice)" for organ in organs)], rows, left=WORDS)


def levels_table(frame: pd.DataFrame) -> str:
    """Rows methods, then the same of one organ; columns levels."""
    by_class = 100 * frame.groupby(["method", "class"], sort=False)[LEVELS].mean()
    best = by_class.mean(axis=1).groupby("class").mean().idxmax()
    means = by_class.groupby("method", sort=False).mean()
    rows = [[method, *(f"{value:.1f}" for value in row)] for method, row in means.iterrows()]
    of_best = by_class.xs(best, level="class")
    rows += [[f"{method}, {best}", *(f"{value:.1f}" for value in row)] for method, row in of_best.iterrows()]
    return markdown_table(["method", *(f"{name.removeprefix('Dice_')} %" for name in LEVELS)], rows, left=WORDS)


def method_differences(part: Part, frame: pd.DataFrame) -> str:
    """Pairs of methods, case by case."""
    cases = frame.groupby(["method", "case"], sort=False)[list(COMPARED_FIGURES)].mean()
    methods = set(frame["method"])
    found = [
        Difference(
            [f"{second} - {first}", METHOD_COLUMNS[figure][0]],
            (cases.loc[second, figure] - cases.loc[first, figure]).dropna().to_numpy(),
            *METHOD_COLUMNS[figure][1:],
        )
        for first, second in part.compared
        if {first, second} <= methods
        for figure in COMPARED_FIGURES
    ]
    return differences_table(["difference", "of"], found, better="higher in", mean="mean")
