"""The tables of `benchmarks.uncertainty`, after figure 3 of Shi et al. 2022 and table 6 of Petit et al. 2021."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.markdown import markdown_table, mean_and_spread
from nnunet_partial.labels import write_text

WORDS = ("network", "criterion")  # columns of words
RUN = ["parent", "criterion", "fold"]
MEASURES = ("PPV", "TPR", "CSI")
FRACTIONS = {"1/3": 1 / 3, "2/3": 2 / 3, "all": 1.0}
THRESHOLDS = {"> 0.5": 0.5, "> 0.7": 0.7, "> 0.9": 0.9}
RANKING_TEXT = """## Ranking

How well a criterion puts right predictions of missing organs before wrong ones: %, mean over organs (± standard deviation over
folds). One that says nothing has an AUC of 50. Seconds: a case, predicted and ranked, on one thread; learning: the training of
the network that ranks."""
FRACTIONS_TEXT = """## Selected by fraction

The surest third, two thirds, or all of each case's and organ's predicted voxels, as rounds select them, against the untouched
labels: %, mean over organs. PPV: right, of what is selected; TPR: selected rightly, of all voxels of the missing organ; CSI:
right, of what is selected or missed. PPV is over the organs of which anything is selected. `all` is the same for every criterion
of a network."""
THRESHOLDS_TEXT = """## Selected by threshold (after figure 3)

Predicted voxels of which a criterion is surer than 0.5, 0.7 or 0.9; a dash where it was so sure of nothing. For branches, > 0.5
is the paper's certain region: both branches say the organ. For mcp with inerrant0_50 it is all that is predicted; with softmax,
a predicted organ may have less than one half."""


def write_tables(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write uncertainty.csv and uncertainty.md, and print the tables.

    Args:
        rows: One a network, fold, criterion and organ, in the order of the tables.
        out: Where the two files go.
    """
    if not rows:
        raise SystemExit(f"nothing is ranked in {out} yet")
    frame = pd.DataFrame(rows)
    write_text(frame.to_csv(index=False), out / "uncertainty.csv")
    text = "\n\n".join(blocks(frame)) + "\n"
    write_text(text, out / "uncertainty.md")
    print(text)


def blocks(frame: pd.DataFrame) -> list[str]:
    """Titles, tables and what has to be known to read them."""
    columns = [name for name in frame.columns if name not in (*RUN, "class")]
    folds = frame.astype(dict.fromkeys(columns, float)).groupby(RUN, sort=False)[columns].mean()
    found = [RANKING_TEXT, _table(folds, ["AUC", "AP_success", "AP_error"], ["seconds", "learning"])]
    for text, selections in ((FRACTIONS_TEXT, FRACTIONS), (THRESHOLDS_TEXT, THRESHOLDS)):
        found += [text, _table(folds, [f"{measure} {name}" for name in selections for measure in MEASURES])]
    return found


def _table(folds: pd.DataFrame, shares: Sequence[str], seconds: Sequence[str] = ()) -> str:
    """A row a network and criterion; shares in percent, seconds as they are."""
    rows = []
    for (parent, criterion), own in folds.groupby(RUN[:2], sort=False):
        cells = [mean_and_spread(own[name]) for name in shares]
        cells += [mean_and_spread(own[name], factor=1, decimals=1) for name in seconds]
        rows.append([parent, criterion, *cells])
    return markdown_table([*WORDS, *shares, *(f"{name} [s]" for name in seconds)], rows, left=WORDS)
