"""How far trainings of the same method are from each other: figures of this run beside those of earlier ones."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from benchmarks.markdown import markdown_table, number_or_dash
from benchmarks.study.protocol import Study
from benchmarks.study.tables import after_last_round

TRAINING = ["method", "digest", "fold"]
FOUND = 5.0  # an organ of less Dice, %, was not found
TEXT = """# The same trainings, once more

Mean Dice over organs, %, of the same method on the same fold in each run, this one last, and their standard deviation; of soft
labels, Dice with the labels that annotators drew after. Nothing is seeded, as in nnU-Net: trainings differ by chance."""
ORGANS_TEXT = f"""Of each organ: the standard deviation of one training in points of Dice, over all methods that go on from no
other, and over those of which every training found it (above {FOUND:g} %)."""


def repeats(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean Dice over cases, %, of what was trained in more than one run; what a method of rounds has after its last one.

    Args:
        runs: Rows of each, a row a method, fold, round, case and organ.

    Returns:
        A row a method, digest, fold and organ; a column a run, counted from 1.
    """
    means = pd.concat({str(number): _means(rows) for number, rows in enumerate(runs, start=1)}, axis=1)
    return means[means.notna().sum(axis=1) > 1]


def repeats_text(found: pd.DataFrame, study: Study) -> str:
    """Titles, tables and what a training scatters by.

    Args:
        found: As `repeats` has it.
        study: Says which trainings go on from others.
    """
    return "\n\n".join(_blocks(found, study)) + "\n"


def _blocks(found: pd.DataFrame, study: Study) -> Iterator[str]:
    means = found.groupby(TRAINING, sort=False).mean()
    lines = [[method, str(fold), *map(number_or_dash, [*row, row.std()])] for (method, _, fold), row in means.iterrows()]
    yield TEXT
    yield markdown_table(["method", "fold", *found.columns, "SD"], lines, left=["method"])
    after = [name for name, method in study.methods.items() if method.after]  # shares the chance of what it goes on from
    alone, means = (rows.drop(index=after, level="method", errors="ignore") for rows in (found, means))
    if alone.empty:
        return
    yield (
        f"By the {len(means)} that go on from no other, {means.notna().sum().sum()} trainings, the standard deviation of one "
        f"training is {_deviation(means):.2f} points."
    )
    yield ORGANS_TEXT
    lines = []
    for organ, every in alone.groupby("class", sort=False):
        finding = every[every.min(axis=1) > FOUND]
        lines.append([organ, *_count_and_deviation(every), *_count_and_deviation(finding)])
    yield markdown_table(["organ", "methods", "SD", "methods that find it", "SD of these"], lines, left=["organ"])


def _means(rows: pd.DataFrame) -> pd.Series:
    """Of every method, fold and organ, in %."""
    rows = rows.reindex(columns=rows.columns.union(["Dice", "Dice_truth"]))
    rows = rows.assign(Dice=rows["Dice"].fillna(rows["Dice_truth"]).astype(float))
    return 100 * after_last_round(rows).groupby([*TRAINING, "class"], sort=False)["Dice"].mean().dropna()


def _count_and_deviation(repeated: pd.DataFrame) -> list[str]:
    return [str(len(repeated)), number_or_dash(_deviation(repeated))]


def _deviation(repeated: pd.DataFrame) -> float:
    """Standard deviation within a row, over all rows; nan of none."""
    squares = (repeated.sub(repeated.mean(axis=1), axis=0) ** 2).sum().sum()
    freedom = int(repeated.notna().sum().sum()) - len(repeated)
    return math.sqrt(squares / freedom) if freedom else math.nan
