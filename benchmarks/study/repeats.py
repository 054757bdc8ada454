"""How far trainings of the same method are from each other: figures of this run beside those of earlier ones."""

import math
from collections.abc import Sequence

import pandas as pd

from benchmarks.markdown import markdown_table
from benchmarks.study.protocol import Study
from benchmarks.study.tables import after_last_round, fold_means

TRAINING = ("method", "digest", "fold")
TEXT = """# The same trainings, once more

Mean Dice over organs, %, of the same method on the same fold in each run, this one last, and their standard deviation; of soft
labels, Dice with the labels that annotators drew after. Nothing is seeded, as in nnU-Net: trainings differ by chance."""


def repeats(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean Dice over organs, %, of what was trained in more than one run; what a method of rounds has after its last one.

    Args:
        runs: Rows of each, a row a method, fold, round, case and organ.

    Returns:
        A row a method, digest and fold; a column a run, counted from 1.
    """
    means = pd.concat({str(number): _means(rows) for number, rows in enumerate(runs, start=1)}, axis=1)
    return means[means.notna().sum(axis=1) > 1]


def repeats_text(found: pd.DataFrame, study: Study) -> str:
    """Title, table and what a training scatters by.

    Args:
        found: As `repeats` has it.
        study: Says which trainings go on from others.
    """
    lines = [
        [method, str(fold), *(_points(dice) for dice in row), f"{row.std():.2f}"] for (method, _, fold), row in found.iterrows()
    ]
    table = markdown_table(["method", "fold", *found.columns, "SD"], lines, left=["method"])
    alone = found[[not study.methods[method].after for method in found.index.get_level_values("method")]]
    return "\n\n".join([TEXT, table, *([_scatter(alone)] if len(alone) else [])]) + "\n"


def _means(rows: pd.DataFrame) -> pd.Series:
    """Of every method and fold, in %."""
    rows = rows.reindex(columns=rows.columns.union(["Dice", "Dice_truth"]))
    rows = rows.assign(Dice=rows["Dice"].fillna(rows["Dice_truth"]))
    return 100 * fold_means(after_last_round(rows), ["Dice"], TRAINING)["Dice"].dropna()


def _scatter(alone: pd.DataFrame) -> str:
    """Standard deviation within a method and fold, over all. What goes on from a training shares its chance, and is left out."""
    trained = int(alone.notna().sum().sum())
    squares = (alone.sub(alone.mean(axis=1), axis=0) ** 2).sum().sum()
    deviation = math.sqrt(squares / (trained - len(alone)))
    return f"By the {len(alone)} that go on from no other, the standard deviation of one training is {deviation:.2f} points."


def _points(dice: float) -> str:
    return "-" if math.isnan(dice) else f"{dice:.2f}"
