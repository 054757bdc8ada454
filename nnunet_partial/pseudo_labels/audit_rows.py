"""The audit of pseudo-label rounds as rows, as files and as the tables of Petit et al. 2021."""

import csv
import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nnunet_partial.labels import LabelError, replacing, write_json
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.pseudo_labels.files import RunFiles

ALL_SOURCES, MEAN = "all", "mean"
JSON_NAME, CSV_NAME = "audit.json", "audit.csv"
_DIGITS = 8  # significant ones: what no order of summation changes
_Number = Annotated[float, AfterValidator(lambda value: float(f"{value:.{_DIGITS}g}"))]
_Ratio = _Number | None


class AuditRow(BaseModel):
    """What one round did with one class, in the training cases of one source (or all) in which nobody looked for it.

    Shares, confidences and metrics lie in [0, 1]; None is unknown: nothing to divide by, or no reference. In the row of the
    class 'mean', cases are counted once, voxels are sums over classes, and the rest are means over the classes that have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    round: int = Field(ge=0, description="Counted from 1; 0 is the training on human labels alone")
    class_name: str = Field(alias="class", description="A class of the label space, or 'mean' over classes")
    source: str = Field(description="Source dataset, or 'all'")
    cases: int = Field(default=0, ge=0, description="Training cases in which nobody looked for the class")
    cases_touched: int = Field(default=0, ge=0, description="Those of them that got pseudo-labels of the class in this round")
    cases_dropped: int = Field(default=0, ge=0, description="Those that got none because their predictions changed too much")
    predicted: int = Field(default=0, ge=0, description="Voxels predicted as the class")
    candidates: int = Field(default=0, ge=0, description="Those not labelled by earlier rounds, in cases that were not dropped")
    voxels_added: int = Field(default=0, ge=0, description="Candidates that became pseudo-labels")
    voxels_total: int = Field(default=0, ge=0, description="Pseudo-labels after this round, earlier rounds' included")
    share_added: _Ratio = Field(default=None, description="Share of the predicted voxels that are labelled after this round")
    threshold_lowest: _Ratio = Field(default=None, description="Lowest confidence that was added, over cases")
    threshold_median: _Ratio = Field(default=None, description="Median over cases of the lowest confidence that was added")
    changed_fraction: _Ratio = Field(default=None, description="Mean over cases: how much predictions changed since last round")
    reference_voxels: int | None = Field(default=None, ge=0, description="Voxels of the class in the references")
    precision: _Ratio = Field(default=None, description="PPV: pseudo-labels that are right, of all pseudo-labels, tp / (tp + fp)")
    recall: _Ratio = Field(
        default=None, description="TPR: pseudo-labels that are right, of all voxels of the class, tp / (tp + fn)"
    )
    csi: _Ratio = Field(default=None, description="Critical success index of the pseudo-labels, tp / (tp + fp + fn)")
    auc: _Ratio = Field(default=None, description="Of the criterion over the candidates, right against wrong")
    ap_success: _Ratio = Field(default=None, description="Average precision of the right candidates, most confident first")
    ap_error: _Ratio = Field(default=None, description="Average precision of the wrong candidates, least confident first")
    dice: _Ratio = Field(default=None, description="Of the validation cases after the round, where somebody looked for the class")

    def as_dict(self) -> dict[str, Any]:
        """Column -> value; the class under the name 'class'."""
        return self.model_dump(by_alias=True)


COLUMNS = {field.alias or name: field.description for name, field in AuditRow.model_fields.items()}
"""Column -> what it means."""


def write_audit(run: RunFiles, rows: Sequence[AuditRow]) -> None:
    """Write audit.json and audit.csv into the run's results; same rows, same bytes. Unknown is null, and an empty cell."""
    run.results.mkdir(parents=True, exist_ok=True)
    content = [row.as_dict() for row in rows]
    with (
        replacing(run.results / CSV_NAME) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(content)
    write_json({"columns": COLUMNS, "rows": content}, run.results / JSON_NAME)


def read_audit(run: RunFiles) -> list[AuditRow]:
    """The rows of audit.json; none where no round was audited yet.

    Raises:
        LabelError: the file is not an audit; every fault is listed.
    """
    file = run.results / JSON_NAME
    if not file.exists():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = content["rows"]
    except (ValueError, KeyError, TypeError):
        raise LabelError("is not an audit; remove it and audit the rounds again", where=str(file)) from None
    return [_read_row(row, f"{file}, row {number}") for number, row in enumerate(rows, 1)]


def markdown_audit(rows: Sequence[AuditRow]) -> str:
    """The columns of table 7 (relabelling, Dice) and, where there are references, of table 6 (ranking), in percent."""
    rows = [row for row in rows if row.source == ALL_SOURCES]
    names = list(dict.fromkeys(row.class_name for row in rows))
    rows = sorted(rows, key=lambda row: (row.class_name != MEAN, names.index(row.class_name), row.round))
    tables = [_table(rows, {"added": "share_added", "precision": "precision", "recall": "recall", "Dice": "dice"})]
    ranked = [row for row in rows if row.auc is not None]
    if ranked:
        tables.append(_table(ranked, {"AUC": "auc", "AP_success": "ap_success", "AP_error": "ap_error"}))
    return "\n\n".join(tables)


def _read_row(row: Any, where: str) -> AuditRow:
    try:
        return AuditRow.model_validate(row)
    except ValidationError as error:
        raise LabelError(validation_faults(error), where=where) from None


def _table(rows: Sequence[AuditRow], columns: dict[str, str]) -> str:
    head = ["class", "round", *(f"{title} %" for title in columns)]
    cells = [[row.class_name, str(row.round), *(_percent(getattr(row, column)) for column in columns.values())] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in (head, *cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (aligned[0], rule, *aligned[1:]))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
