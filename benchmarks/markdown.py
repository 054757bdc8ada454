"""Tables as Markdown."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[str]) -> str:
    """A table whose columns named in `left`, the first ones, are aligned to the left, the others to the right."""
    of_words = sum(name in left for name in head)
    rule = "|" + "---|" * of_words + "---:|" * (len(head) - of_words)
    return "\n".join([_line(head), rule, *map(_line, rows)])


def number_or_dash(value: float) -> str:
    """Two decimals; a dash for nan."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def mean_and_spread(values: pd.Series, factor: float = 100, decimals: int = 2) -> str:
    """Mean and sample standard deviation, times a factor; a dash where there is no value."""
    values = factor * values.dropna()
    if not len(values):
        return "-"
    return f"{values.mean():.{decimals}f}" + (f" (± {values.std():.{decimals}f})" if len(values) > 1 else "")


def missing_folds(frame: pd.DataFrame, by: Sequence[str] = ("method",), called: str = "{}") -> str:
    """Says below a table which trainings do not have all folds, since their means are not comparable; empty where all have.

    Args:
        frame: Has a column `fold`, and those of `by`.
        by: Columns that name a training.
        called: How it is named from them.
    """
    every = sorted(frame["fold"].unique())
    found = {
        f"{called.format(*key)}: folds {', '.join(map(str, folds))} only"
        for key, own in frame.groupby(list(by))
        if (folds := sorted(own["fold"].unique())) != every
    }
    return f"\n\nNot comparable yet: {'; '.join(sorted(found))}." if found else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
