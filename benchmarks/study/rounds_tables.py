"""Tables of rounds of pseudo-labels, after tables 6 and 7 of Petit et al. 2021 (INERRANT)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.markdown import markdown_table, mean_and_spread, number_or_dash
from benchmarks.study.job import StudyJob
from benchmarks.study.tables import fold_means
from nnunet_partial.pseudo_labels.audit_rows import ALL_SOURCES, MEAN, read_audit

ROUNDS_TEXT = """## Rounds

Added: share of the predicted voxels of missing organs that are labels after the round. Precision: share of the pseudo-labels
that are right; recall: share of the missing organs' voxels that are pseudo-labelled rightly; both by the untouched labels of the
training cases, over all rounds so far, mean over organs. Dice: of the validation cases, by the network that was trained on them;
round 0 is the training that the rounds go on from. All in %, mean over folds."""
CONFIDENCE_TEXT = """## Confidence

How well a criterion ranks the predictions that a round could relabel, right ones before wrong ones: %, mean over organs
(± standard deviation over folds). In round 1 criteria rank the predictions of the same network; later, each those of its own that
it has not labelled yet. A criterion that says nothing has an AUC of 50."""
LABELLED = ("share_added", "precision", "recall")
RANKED = ("auc", "ap_success", "ap_error")
RANKING = ("mcp", "confidence")  # criteria that rank


def audit_rows(job: StudyJob, out: Path) -> Iterator[dict[str, Any]]:
    """What each round of a job did with each organ, over all sources; nothing where it has no rounds."""
    run = job.run
    for row in read_audit(job.files(out)) if job.rounds else ():
        if row.source == ALL_SOURCES and row.round:
            found = row.as_dict()
            yield {**run, **{name: found[name] for name in ("round", "class", *LABELLED, *RANKED)}}


def blocks(jobs: Sequence[StudyJob], rows: pd.DataFrame, audits: pd.DataFrame) -> Iterator[str]:
    """Titles, tables and what has to be known to read them; nothing where there were no rounds.

    Args:
        jobs: Of which some go on with rounds of pseudo-labels.
        rows: A row a method, fold, round, case and organ.
        audits: A row a method, fold, round and organ, as `audit_rows` has it.
    """
    if audits.empty:
        return
    audits = audits.reindex(columns=[*audits.columns.difference([*LABELLED, *RANKED]), *LABELLED, *RANKED])
    yield ROUNDS_TEXT
    yield rounds_table({job.method: job for job in jobs}, rows, audits)
    ranking = {job.method: job.entry.rounds.criterion for job in jobs if job.rounds and job.entry.rounds.criterion in RANKING}
    if len(organs := audits[(audits["class"] != MEAN) & audits["method"].isin(ranking)]):
        yield CONFIDENCE_TEXT
        yield confidence_table(ranking, organs)


def rounds_table(jobs: dict[str, StudyJob], rows: pd.DataFrame, audits: pd.DataFrame) -> str:
    """Each round of each method: what was labelled, how rightly, and what came of it."""
    dice = fold_means(rows, ["Dice"], ("method", "round", "fold"))["Dice"]
    lines = []
    for method, own in audits[audits["class"] == MEAN].groupby("method", sort=False):
        folds = sorted(own["fold"].unique())
        lines.append([method, "0", "-", "-", "-", _mean(dice.reindex([(jobs[method].entry.after, 0, fold) for fold in folds]))])
        for number, of_round in own.groupby("round"):
            labelled = [_mean(of_round[column]) for column in LABELLED]
            lines.append([method, str(number), *labelled, _mean(dice.reindex([(method, number, fold) for fold in folds]))])
    return markdown_table(["method", "round", "added", "precision", "recall", "Dice"], lines, left=["method"])


def confidence_table(ranking: dict[str, str], organs: pd.DataFrame) -> str:
    """Each criterion's ranking in each round."""
    folds = organs.groupby(["round", "method", "fold"])[list(RANKED)].mean()
    keys = sorted(folds.index.droplevel("fold").unique(), key=lambda key: (key[0], list(ranking).index(key[1])))
    lines = [
        [str(number), method, ranking[method], *(mean_and_spread(folds.loc[number, method][name]) for name in RANKED)]
        for number, method in keys
    ]
    return markdown_table(
        ["round", "method", "criterion", "AUC", "AP_success", "AP_error"], lines, left=["round", "method", "criterion"]
    )


def _mean(values: pd.Series) -> str:
    return number_or_dash(100 * values.astype(float).mean())
