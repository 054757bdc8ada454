"""What verification says: one sentence each, with how bad it is and what kind of thing it is."""

from typing import NamedTuple

FAULT = "fault"
"""Training on it would go wrong, or the files contradict each other."""
REMARK = "remark"
"""Unusual; somebody should look, and it may well be right."""


class Finding(NamedTuple):
    """One thing found.

    Attributes:
        severity: FAULT or REMARK.
        kind: What it is about, in a word or two; a report is grouped by it.
        message: The sentence.
        case: The case's identifier; empty where it is about the dataset.
    """

    severity: str
    kind: str
    message: str
    case: str = ""


def fault(kind: str, message: str) -> Finding:
    """Something that must be mended."""
    return Finding(FAULT, kind, message)


def remark(kind: str, message: str) -> Finding:
    """Something to look at."""
    return Finding(REMARK, kind, message)
