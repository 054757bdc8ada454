"""What verification found, for a terminal and for programs."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_conversion.verify.coverage import Coverage, coverage_rows, coverage_table
from nnunet_partial.dataset_conversion.verify.finding import FAULT, REMARK, Finding
from nnunet_partial.labels import replacing


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    Attributes:
        dataset: Name of the dataset.
        sources: Case identifier -> its source.
        findings: Everything found: of the dataset as a whole, then case by case.
        coverage: Who annotated what in how many cases.
        num_cached: Cases whose result an earlier run left.
        num_checked: Cases read now.
    """

    dataset: str
    sources: dict[str, str]
    findings: tuple[Finding, ...]
    coverage: Coverage
    num_cached: int
    num_checked: int

    def of(self, severity: str) -> list[Finding]:
        """The findings of a severity."""
        return [finding for finding in self.findings if finding.severity == severity]


def report_text(report: Report, *, max_examples: int) -> str:
    """The report for a terminal: the coverage, then faults and remarks by kind with some examples of each."""
    unread = len(report.sources) - report.num_cached - report.num_checked
    head = f"{report.dataset}: {_count(len(report.sources), 'case')}; {report.num_checked} read now, "
    head += f"{report.num_cached} known from an earlier run" + (f", {unread} not checked: files are missing" if unread else "")
    lines = [head, "", coverage_table(report.coverage)]
    for severity in (FAULT, REMARK):
        found = report.of(severity)
        for kind in dict.fromkeys(finding.kind for finding in found):
            lines += ["", *_kind_lines(kind, [finding for finding in found if finding.kind == kind], severity, max_examples)]
    return "\n".join([*lines, "", verdict(report)])


def _kind_lines(kind: str, findings: list[Finding], severity: str, max_examples: int) -> list[str]:
    num_cases = len({finding.case for finding in findings if finding.case})
    where = f", in {_count(num_cases, 'case')}" if num_cases else ""
    shown = [f"  {finding.case}: {finding.message}" if finding.case else f"  {finding.message}" for finding in findings]
    more = [f"  and {len(shown) - max_examples} more"] if len(shown) > max_examples else []
    return [f"{severity.upper()} {kind}: {len(findings)}{where}", *shown[:max_examples], *more]


def verdict(report: Report) -> str:
    """The last line: how many faults and remarks."""
    return f"{_count(len(report.of(FAULT)), 'fault')}, {_count(len(report.of(REMARK)), 'remark')}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def finding_rows(report: Report) -> list[dict[str, str]]:
    """One row a finding."""
    return [
        {
            "severity": finding.severity,
            "kind": finding.kind,
            "case": finding.case,
            "source": report.sources.get(finding.case, ""),
            "message": finding.message,
        }
        for finding in report.findings
    ]


def report_json(report: Report) -> dict[str, Any]:
    """Everything, for programs; the same for the same dataset."""
    return {
        "dataset": report.dataset,
        "cases": len(report.sources),
        "faults": len(report.of(FAULT)),
        "remarks": len(report.of(REMARK)),
        "findings": finding_rows(report),
        "coverage": coverage_rows(report.coverage),
    }


def write_rows(rows: list[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    """Write a CSV file with a head, also where there are no rows."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
