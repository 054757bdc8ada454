"""The tables of `benchmarks.missing_labels`, after those of Petit et al. 2021 (INERRANT).

Dice in percent. A fold's Dice is the mean over organs of the mean over its validation cases; tables give mean and sample standard
deviation over folds, and compare methods case by case.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.differences import EXPLAINED, Difference, differences_table
from benchmarks.markdown import markdown_table, mean_and_spread, missing_folds
from nnunet_partial.labels import replacing
from nnunet_partial.pseudo_labels.audit_rows import ALL_SOURCES, MEAN, read_audit
from nnunet_partial.pseudo_labels.files import RunFiles

WORDS = ("alpha", "method", "criterion")  # columns of words
COLUMNS = ("alpha", "fold", "method", "round", "case", "class", "Dice")
RUN = ["alpha", "method", "fold"]
COMPARED = (
    ("naive", "inerrant0"),
    *(("inerrant0", method) for method in ("longer", "restarts", "all", "mcp", "confidence")),
    ("longer", "all"),
    *(("restarts", method) for method in ("mcp", "confidence")),
    ("all", "confidence"),
    ("mcp", "confidence"),
    *(("ce", method) for method in ("ce_all", "ce_soft")),
    ("ce_all", "ce_soft"),
)
PARENT = "inerrant0"
METHODS_TEXT = """## Methods (after table 4)

Mean Dice over the organs, % (± standard deviation over folds). alpha: percent of annotations that are left."""
ORGANS_TEXT = """## Organs (after table 9)

Dice, % (± standard deviation over folds)."""
DIFFERENCES_TEXT = f"""## Paired differences

Each case's mean Dice over the organs, first minus second, in points: {EXPLAINED}"""
ROUNDS_TEXT = """## Rounds (after table 7)

Added: share of the predicted voxels of missing organs that are labels after the round. Precision: share of the pseudo-labels
that are right; recall: share of the missing organs' voxels that are pseudo-labelled rightly; both by the untouched labels of the
training cases, over all rounds so far, mean over organs. Dice: of the validation cases, by the network that was trained on them;
round 0 is inerrant0, or ce. All in %, mean over folds."""
CONFIDENCE_TEXT = """## Confidence (after table 6)

How well a criterion ranks the predictions that a round could relabel, right ones before wrong ones: %, mean over organs
(± standard deviation over folds). In round 1 both criteria rank the predictions of the same network; later, each those of its
own that it has not labelled yet. A criterion that says nothing has an AUC of 50 and, in round 1, the precision of `all` as its
AP_success. Final Dice: of the validation cases, after the last round."""


def parent_of(method: str) -> str:
    """The training on human labels that a run of rounds starts from: its round 0."""
    return "ce" if method.startswith("ce_") else PARENT


def write_tables(rows: Sequence[Mapping[str, Any]], runs: Mapping[tuple[int, str, int], RunFiles], out: Path) -> None:
    """Write results.csv and tables.md, and print the tables.

    Args:
        rows: Dice of every case and organ after every round, see `COLUMNS`; methods and alphas in the order of the tables.
        runs: Alpha, method and fold of every run of rounds -> its files, for its audit.
        out: Where the two files go.
    """
    if not rows:
        raise SystemExit(f"there are no predictions in {out} yet")
    frame = pd.DataFrame(rows, columns=COLUMNS)
    with replacing(out / "results.csv") as temporary:
        frame.to_csv(temporary, index=False)
    audits = pd.DataFrame(
        {**dict(zip(RUN, key, strict=True)), **row.as_dict()} for key, files in runs.items() for row in read_audit(files)
    )
    if len(audits):
        audits = audits[audits["source"] == ALL_SOURCES]
    text = "\n\n".join(blocks(frame, audits)) + "\n"
    with replacing(out / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def blocks(frame: pd.DataFrame, audits: pd.DataFrame) -> list[str]:
    """Titles, tables and what has to be known to read them.

    Args:
        frame: One row a case, organ and round.
        audits: One row a round and class ("mean" over classes) of every run, as audit.csv has them.
    """
    last = frame[frame["round"] == frame.groupby("method")["round"].transform("max")]
    found = [METHODS_TEXT, methods_table(last), ORGANS_TEXT, organs_table(last), DIFFERENCES_TEXT, method_differences(last)]
    if len(audits):
        found += [ROUNDS_TEXT, rounds_table(frame, audits), CONFIDENCE_TEXT, confidence_table(last, audits)]
    return found


def methods_table(last: pd.DataFrame) -> str:
    """Rows methods, columns alphas."""
    folds = mean_over_organs(last)
    alphas = folds.index.unique("alpha")
    rows = [[name, *(mean_and_spread(_at(folds, alpha, name)) for alpha in alphas)] for name in folds.index.unique("method")]
    return markdown_table(["method", *(f"alpha {alpha} %" for alpha in alphas)], rows, left=WORDS) + missing_folds(
        last, ["method", "alpha"], "{} at {} %"
    )


def organs_table(last: pd.DataFrame) -> str:
    """Rows alphas and methods, columns organs."""
    organs = list(last["class"].unique())
    folds = last.groupby([*RUN, "class"], sort=False)["Dice"].mean().unstack("class")[organs]
    runs = folds.index.droplevel("fold").unique()
    rows = [[f"{alpha} %", name, *(mean_and_spread(_at(folds[organ], alpha, name)) for organ in organs)] for alpha, name in runs]
    return markdown_table(["alpha", "method", *organs], _by_alpha(rows), left=WORDS)


def method_differences(last: pd.DataFrame) -> str:
    """Pairs of methods, case by case."""
    values = last.set_index(["alpha", "method", "case", "class"])["Dice"].sort_index()
    found = [
        Difference([f"{alpha} %", f"{second} - {first}"], _paired(values, alpha, first, second))
        for alpha in last["alpha"].unique()
        for first, second in COMPARED
        if {first, second} <= set(last.loc[last["alpha"] == alpha, "method"])
    ]
    return differences_table(["alpha", "difference"], found, mean="Dice")


def rounds_table(frame: pd.DataFrame, audits: pd.DataFrame) -> str:
    """Each round of each run: what was labelled, how rightly, and what came of it."""
    dice = mean_over_organs(frame, "round")
    means = audits[audits["class"] == MEAN]
    rows = []
    for (alpha, method), own in means[means["round"] > 0].groupby(["alpha", "method"], sort=False):
        folds = own["fold"].unique()
        rows.append([f"{alpha} %", method, "0", "-", "-", "-", _mean(_of_folds(_at(dice, alpha, parent_of(method)), folds))])
        for number, of_round in own.groupby("round"):
            labelled = [_mean(of_round[column]) for column in ("share_added", "precision", "recall")]
            at_round = dice[dice.index.get_level_values("round") == number]
            rows.append([f"{alpha} %", method, str(number), *labelled, _mean(_of_folds(_at(at_round, alpha, method), folds))])
    return markdown_table(["alpha", "method", "round", "added", "precision", "recall", "Dice"], _by_alpha(rows), left=WORDS)


def confidence_table(last: pd.DataFrame, audits: pd.DataFrame) -> str:
    """Each criterion's ranking in each round, and the Dice it ends with."""
    final = mean_over_organs(last)
    organs = audits[(audits["class"] != MEAN) & (audits["round"] > 0) & audits["method"].isin(["mcp", "confidence"])]
    names = ["auc", "ap_success", "ap_error"]
    folds = organs.groupby(["alpha", "round", "method", "fold"], sort=False)[names].mean()
    rows = []
    keys = folds.index.droplevel("fold").unique()
    for alpha, number, method in sorted(keys, key=lambda key: (-key[0], key[1], key[2] != "mcp")):
        own = _at(folds.xs(number, level="round"), alpha, method)
        dice = mean_and_spread(_at(final, alpha, method)) if number == organs["round"].max() else ""
        rows.append([f"{alpha} %", str(number), method, *(mean_and_spread(own[name]) for name in names), dice])
    return markdown_table(["alpha", "round", "criterion", "AUC", "AP_success", "AP_error", "final Dice"], rows, left=WORDS)


def mean_over_organs(frame: pd.DataFrame, *further: str) -> pd.Series:
    """Of every run (and round): mean over organs of the mean over cases; where an organ is neither there nor found is no Dice."""
    return frame.groupby([*RUN, *further, "class"], sort=False)["Dice"].mean().groupby([*RUN, *further], sort=False).mean()


def _paired(values: pd.Series, alpha: int, first: str, second: str) -> Any:
    """Second minus first: each case's mean over the organs that both have."""
    one, other = (values.loc[alpha, name].unstack("class") for name in (first, second))
    return (other - one).mean(axis=1).dropna().to_numpy()


def _at(folds: pd.DataFrame | pd.Series, alpha: int, method: str) -> pd.DataFrame | pd.Series:
    """The folds of one method at one alpha; empty where it was not run."""
    return folds[(folds.index.get_level_values("alpha") == alpha) & (folds.index.get_level_values("method") == method)]


def _of_folds(series: pd.Series, folds: Iterable[int]) -> pd.Series:
    return series[series.index.get_level_values("fold").isin(list(folds))]


def _mean(values: pd.Series) -> str:
    mean = values.astype(float).mean()
    return "-" if math.isnan(mean) else f"{100 * mean:.2f}"


def _by_alpha(rows: list[list[str]]) -> list[list[str]]:
    """Highest alpha first, else as they come."""
    return sorted(rows, key=lambda row: -int(row[0].removesuffix(" %")))
