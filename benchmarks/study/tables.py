"""The tables of a part of the study that is judged by labels.

A fold's figure is the mean over organs of the mean over its validation cases; tables give mean and sample standard deviation over
folds, and compare methods case by case.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from benchmarks.markdown import markdown_table, mean_and_spread, missing_folds
from benchmarks.study.differences import EXPLAINED, Difference, differences_table
from benchmarks.study.protocol import Group, Part, several

FIGURES = {"Dice": ("Dice", 100), "Precision": ("precision", 100), "Recall": ("recall", 100), "HD95_mm": ("HD95 (mm)", 1)}
FIGURES_TEXT = """Dice, precision and recall in %, mean over organs (± standard deviation over folds). Of an organ that a network
does not find, Dice and recall are 0, and precision and HD95 do not exist. minutes: of a training, one of two side by side; of
what goes on from another, its own."""
ORGANS_TEXT = "Dice of each organ, % (± standard deviation over folds)."
DIFFERENCES_TEXT = f"""## Paired differences

Each case's mean Dice over the organs, first minus second, in points: {EXPLAINED}"""


def blocks(part: Part, rows: pd.DataFrame) -> Iterator[str]:
    """Titles, tables and what has to be known to read them.

    Args:
        part: What is shown and compared.
        rows: A row a method, fold, round, case and organ, with `FIGURES` and minutes.
    """
    rows = rows.reindex(columns=[*rows.columns.difference([*FIGURES, "minutes"]), *FIGURES, "minutes"])  # some are known in part
    last = after_last_round(rows)
    explained = False
    for group in part.groups:
        shown = shown_rows(group, last)
        if shown.empty:
            continue
        yield f"## {group.title}"
        if group.text:
            yield group.text
        if not explained:
            yield FIGURES_TEXT
        yield figures_table(shown)
        if not explained:
            yield ORGANS_TEXT
        explained = True
        yield organs_table(shown)
    found = pd.concat([shown_rows(group, last) for group in part.groups]).drop_duplicates(["shown", "method", "case", "class"])
    if differences := method_differences(part, found):
        yield DIFFERENCES_TEXT
        yield differences


def after_last_round(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of every method after its last round."""
    return rows[rows["round"] == rows.groupby("method")["round"].transform("max")]


def shown_rows(group: Group, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a group's methods in its order, each under the name by which it is shown (column `shown`).

    Where several are shown as one, the folds that all of them have.
    """
    found = [rows[:0].assign(shown="")]
    for shown, methods in group.methods.items():
        own = rows[rows["method"].isin(several(methods))]
        whole = own.groupby("fold")["method"].transform("nunique") == len(several(methods))
        found.append(own[whole].assign(shown=shown))
    return pd.concat([of_method for of_method in found if len(of_method)] or found)


def fold_means(rows: pd.DataFrame, figures: list[str], by: Sequence[str] = ("shown", "fold")) -> pd.DataFrame:
    """Of every shown method and fold, or what else `by` names: the mean over organs of the mean over its cases."""
    by_class = rows.groupby([*by, "class"], sort=False)[figures].mean()
    return by_class.groupby(list(by), sort=False).mean()


def figures_table(rows: pd.DataFrame) -> str:
    """Rows methods, columns those figures and minutes that were noted."""
    measured = [name for name in FIGURES if rows[name].notna().any()]
    folds = fold_means(rows, measured)
    minutes = rows.drop_duplicates(["shown", "method", "fold"]).groupby(["shown", "fold"])["minutes"].sum(min_count=1)
    timed = minutes.notna().any()
    lines = [
        [
            shown,
            *(mean_and_spread(folds.loc[shown, name], FIGURES[name][1]) for name in measured),
            *([mean_and_spread(minutes.loc[shown], 1, 1)] if timed else []),
        ]
        for shown in folds.index.unique("shown")
    ]
    heads = ["method", *(FIGURES[name][0] for name in measured), *(["minutes"] if timed else [])]
    return markdown_table(heads, lines, left=["method"]) + missing_folds(rows, ["shown"])


def organs_table(rows: pd.DataFrame) -> str:
    """Rows methods, columns organs."""
    organs = list(rows["class"].unique())
    folds = rows.groupby(["shown", "fold", "class"], sort=False)["Dice"].mean().unstack("class")[organs]
    lines = [
        [shown, *(mean_and_spread(folds.loc[shown, organ], decimals=1) for organ in organs)]
        for shown in folds.index.unique("shown")
    ]
    return markdown_table(["method", *organs], lines, left=["method"])


def method_differences(part: Part, rows: pd.DataFrame) -> str:
    """Pairs of methods, case by case; empty where no pair is there."""
    dice = rows.set_index(["shown", "case", "class"])["Dice"].unstack("class")
    found = [
        Difference([f"{second} - {first}"], (dice.loc[second] - dice.loc[first]).mean(axis=1).dropna().to_numpy())
        for first, second in part.compared
        if {first, second} <= set(rows["shown"])
    ]
    return differences_table(["difference"], found, mean="Dice") if found else ""
