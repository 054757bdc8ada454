"""How far two trainings of the same method are from each other: figures of this run beside those of an earlier one."""

import math

import pandas as pd

from benchmarks.markdown import markdown_table
from benchmarks.study.protocol import Study
from benchmarks.study.tables import after_last_round, fold_means

TEXT = """# The same trainings, once more

Mean Dice over organs, %, of the same method on the same fold: earlier, and in this run. Nothing is seeded, as in nnU-Net: two
trainings differ by chance."""


def repeats(made: pd.DataFrame, earlier: pd.DataFrame, study: Study) -> str:
    """Title, table and what a training scatters by; empty where nothing was trained in both.

    The standard deviation of one training is that of a difference of two by the square root of 2. What goes on from another
    training shares its chance with it, and is left out of that.

    Args:
        made: This run's rows, a row a method, fold, round, case and organ.
        earlier: Those of another run of the same study.
        study: Says which trainings go on from others.
    """
    both = pd.concat([_means(earlier).rename("earlier"), _means(made).rename("now")], axis=1, join="inner").dropna()
    if both.empty:
        return ""
    both["difference"] = both["now"] - both["earlier"]
    lines = [
        [method, str(fold), f"{row['earlier']:.2f}", f"{row['now']:.2f}", f"{row['difference']:+.2f}"]
        for (method, fold), row in both.iterrows()
    ]
    table = markdown_table(["method", "fold", "earlier", "now", "difference"], lines, left=["method"])
    alone = both["difference"][[not study.methods[method].after for method in both.index.get_level_values("method")]]
    return "\n\n".join([TEXT, table, *([_scatter(alone)] if len(alone) else [])]) + "\n"


def _means(rows: pd.DataFrame) -> pd.Series:
    """Of every method and fold, in %."""
    rows = rows.reindex(columns=rows.columns.union(["Dice"]))
    return 100 * fold_means(after_last_round(rows), ["Dice"], ("method", "fold"))["Dice"]


def _scatter(differences: pd.Series) -> str:
    deviation = math.sqrt((differences**2).mean() / 2)
    count = len(differences)
    return f"By these, the standard deviation of one training is {deviation:.2f} points ({count} that go on from no other)."
