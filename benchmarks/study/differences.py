"""Tables of paired differences, as all studies show them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.markdown import markdown_table
from nnunet_partial.evaluation.paired import bootstrap_interval, holm, wilcoxon_p

EXPLAINED = """mean over the cases of all folds that both have
judged; 95 % interval (bootstrap over cases); Wilcoxon signed-rank test, two-sided, with Holm's correction over the whole table
(*: below 0.05). The cases of a fold share a network: this says whether a difference holds over patients, not over trainings."""


@dataclass(frozen=True)
class Difference:
    """One row.

    Attributes:
        words: The first cells.
        values: A difference a case.
        factor: What they are multiplied by to be shown; 100 for percent.
        decimals: Of mean and interval.
    """

    words: Sequence[str]
    values: np.ndarray
    factor: float = 100
    decimals: int = 2


def differences_table(words: Sequence[str], differences: Sequence[Difference], *, better: str = "better in", mean: str) -> str:
    """A row a difference: in how many cases it is above 0, mean, interval, p.

    Args:
        words: Heads of the columns of words.
        differences: The rows.
        better: What a difference above 0 is.
        mean: Head of the mean.
    """
    p_values = [wilcoxon_p(difference.values) for difference in differences]
    rows = []
    for difference, p, corrected in zip(differences, p_values, holm(p_values), strict=True):
        values, factor, decimals = difference.values, difference.factor, difference.decimals
        low, high = bootstrap_interval(values)
        shown = f"{factor * values.mean():+.{decimals}f}{'*' if corrected < 0.05 else ''}" if len(values) else "-"
        interval = f"[{factor * low:+.{decimals}f}, {factor * high:+.{decimals}f}]"
        count = f"{(values > 0).sum()} of {len(values)}"
        rows.append([*difference.words, count, shown, interval, f"{p:.2g}", f"{corrected:.2g}"])
    return markdown_table([*words, better, mean, "95 % interval", "Wilcoxon p", "Holm p"], rows, left=words)
