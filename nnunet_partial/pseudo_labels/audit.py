"""What a round of pseudo-labels did, class by class and source by source, and how right it was where references say so.

Relabelling precision, recall and their critical success index judge all pseudo-labels so far (Petit et al. 2021, table 7; Shi et
al. 2022, figure 3). The ranking metrics judge the
criterion over what could be relabelled, predicted and not labelled yet (tables 6 and 10). Voxels of all cases are pooled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import numpy as np
from scipy.special import expit
from tqdm import tqdm

from nnunet_partial.evaluation import ranking_metrics
from nnunet_partial.labels import Annotation
from nnunet_partial.pseudo_labels.audit_rows import ALL_SOURCES, MEAN, AuditRow, markdown_audit, read_audit, write_audit
from nnunet_partial.pseudo_labels.case_audit import CaseAudit, CaseAuditor
from nnunet_partial.pseudo_labels.files import RoundFiles
from nnunet_partial.pseudo_labels.references import ReferenceMaps

__all__ = ["AuditRow", "audit_round", "markdown_audit", "read_audit", "write_audit"]

_RANKING_COLUMNS = {"auc": "AUC", "ap_success": "AP_success", "ap_error": "AP_error"}
_SUMMED = ("predicted", "candidates", "voxels_added", "voxels_total", "reference_voxels")
_AVERAGED = (
    *("share_added", "threshold_lowest", "threshold_median", "changed_fraction", "precision", "recall", "csi"),
    *(*_RANKING_COLUMNS, "dice"),
)


def audit_round(
    files: RoundFiles,
    number: int,
    annotation: Annotation,
    human_folder: Path,
    references: ReferenceMaps | None,
    cases: Sequence[str],
    dice: Mapping[str, float] | None = None,
    *,
    progress: bool = False,
) -> list[AuditRow]:
    """Audit a round, one case in memory at a time.

    Args:
        files: Of the round; those of the round before lie beside them.
        number: The round; 0 is the training on human labels alone, of which there is only Dice to tell.
        annotation: Label space, protocols and cases.
        human_folder: nnU-Net's preprocessed cases.
        references: Untouched label maps; what is judged by them is unknown without them, and of classes they do not tell apart.
        cases: The training cases that the round relabelled.
        dice: Class -> Dice after the round; NaN is unknown.
        progress: Show a progress bar.

    Returns:
        For each class a row for every source in which somebody left it out, and one for all sources; last, the mean over classes.

    Raises:
        FileNotFoundError: a case has no record, or a file of it is missing.
        LabelError: records that contradict the annotation or the label maps; every fault is listed.
        ValueError: label maps that do not lie on the same voxels, or scores that are NaN.
    """
    truths = references if references is not None and references.available else None
    auditor = CaseAuditor(files, _previous(files, number), annotation, human_folder, truths)
    audits: list[CaseAudit] = []
    rankings: dict[tuple[str, str], np.ndarray] = {}
    for record in tqdm(auditor.records(cases if number else ()), f"round {number}: auditing", unit="case", disable=not progress):
        audit = auditor.audit(record)
        for name, ranking in audit.rankings.items():  # added at once: memory does not grow with the cases
            for key in ((name, audit.source), (name, ALL_SOURCES)):
                rankings[key] = rankings.get(key, 0) + ranking
        audits.append(replace(audit, rankings={}))
    return _rows(number, annotation, audits, rankings, dice or {})


def _previous(files: RoundFiles, number: int) -> RoundFiles | None:
    name = f"round_{number - 1}"
    return RoundFiles(files.results.with_name(name), files.preprocessed.with_name(name)) if number > 1 else None


def _rows(
    number: int,
    annotation: Annotation,
    audits: Sequence[CaseAudit],
    rankings: Mapping[tuple[str, str], np.ndarray],
    dice: Mapping[str, float],
) -> list[AuditRow]:
    rows, totals = [], []
    for name in annotation.space.classes:
        own = [audit for audit in audits if name in audit.selections]
        for source in sorted({audit.source for audit in own}):
            of_source = [audit for audit in own if audit.source == source]
            rows.append(_row(number, name, source, of_source, rankings.get((name, source))))
        totals.append(_row(number, name, ALL_SOURCES, own, rankings.get((name, ALL_SOURCES)), dice.get(name)))
        rows.append(totals[-1])
    return [*rows, _mean_row(number, totals, audits)]


def _row(
    number: int, name: str, source: str, audits: Sequence[CaseAudit], ranking: np.ndarray | None, dice: float | None = None
) -> AuditRow:
    """One row, from the cases in which nobody looked for the class."""
    selections = [audit.selections[name] for audit in audits]
    predicted = sum(selection.predicted for selection in selections)
    thresholds = [float(expit(selection.threshold)) for selection in selections if selection.threshold is not None]
    considered = [audit.selections[name] for audit in audits if not audit.record.dropped]
    changes = [audit.record.changed_fraction for audit in audits if audit.record.changed_fraction is not None]
    return AuditRow(
        round=number,
        class_name=name,
        source=source,
        cases=len(audits),
        cases_touched=sum(selection.added > 0 for selection in selections),
        cases_dropped=sum(audit.record.dropped for audit in audits),
        predicted=predicted,
        candidates=sum(selection.predicted - selection.already for selection in considered),
        voxels_added=sum(selection.added for selection in selections),
        voxels_total=sum(selection.total for selection in selections),
        share_added=_ratio(sum(selection.already + selection.added for selection in selections), predicted),
        threshold_lowest=min(thresholds, default=None),
        threshold_median=median(thresholds) if thresholds else None,
        changed_fraction=fmean(changes) if changes else None,
        **_judged(name, audits),
        **_ranked(ranking),
        dice=_known(dice),
    )


def _judged(name: str, audits: Sequence[CaseAudit]) -> dict[str, float | int | None]:
    truths = [audit.truths[name] for audit in audits if name in audit.truths]
    correct, total, reference = (sum(getattr(truth, part) for truth in truths) for part in ("correct", "total", "reference"))
    return {
        "reference_voxels": reference if truths else None,
        "precision": _ratio(correct, total),
        "recall": _ratio(correct, reference),
        "csi": _ratio(correct, total + reference - correct),
    }


def _ranked(ranking: np.ndarray | None) -> dict[str, float | None]:
    found = ranking_metrics(*ranking) if ranking is not None else {}
    return {column: _known(found.get(name)) for column, name in _RANKING_COLUMNS.items()}


def _mean_row(number: int, rows: Sequence[AuditRow], audits: Sequence[CaseAudit]) -> AuditRow:
    """Cases once, voxels summed, everything else averaged over the classes that have it."""

    def over_classes(column: str, combine: object) -> float | None:
        known = [getattr(row, column) for row in rows if getattr(row, column) is not None]
        return combine(known) if known else None

    return AuditRow(
        round=number,
        class_name=MEAN,
        source=ALL_SOURCES,
        cases=len(audits),
        cases_touched=sum(any(selection.added for selection in audit.selections.values()) for audit in audits),
        cases_dropped=sum(audit.record.dropped for audit in audits),
        **{column: over_classes(column, sum) for column in _SUMMED},
        **{column: over_classes(column, fmean) for column in _AVERAGED},
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value
