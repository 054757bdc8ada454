"""What was found about several annotators, as files beside each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_partial.evaluation.annotators.definitions import NESTED, definitions_of
from nnunet_partial.evaluation.reliability import draw_reliability
from nnunet_partial.evaluation.report_text import for_programs
from nnunet_partial.labels import replacing, write_json

SUMMARY_NAME = "agreement.json"


def write_agreement(summary: Mapping[str, Any], folder: Path | str, made_by: Mapping[str, Any]) -> list[Path]:
    """Write agreement.json, three tables and, with predictions, the reliability diagrams.

    Args:
        summary: What `annotator_agreement` returns.
        folder: Where to; it is made.
        made_by: Arguments and versions, for the file.

    Returns:
        The files that were written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "agreement.csv": _class_rows(summary),
        "agreement_annotators.csv": _annotator_rows(summary),
        "agreement_levels.csv": _level_rows(summary),
    }
    written = [folder / SUMMARY_NAME]
    for name, rows in tables.items():
        frame = pd.DataFrame(rows)
        if len(frame):
            _write_csv(frame, folder / name)
            written.append(folder / name)
    if "calibration" in summary:
        draw_reliability(summary["calibration"], folder / "reliability.png", truth="share of votes")
        written.append(folder / "reliability.png")
    write_json(for_programs({"made_by": made_by, **summary}, {}), folder / SUMMARY_NAME)
    return written


def _class_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a case and class."""
    for case, name, row in _rows(summary):
        yield {"identifier": case, "class": name, **{key: value for key, value in row.items() if key not in NESTED}}


def _annotator_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a case, class and annotator."""
    for case, name, row in _rows(summary):
        for annotator, figures in row["by_annotator"].items():
            yield {"identifier": case, "class": name, "annotator": annotator, **figures}


def _level_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a case, class and confidence level."""
    for case, name, row in _rows(summary):
        for level, figures in row.get("levels", {}).items():
            yield {"identifier": case, "class": name, "level_percent": int(level), **figures}


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for case in summary["per_case"]:
        for name, row in case["classes"].items():
            yield case["identifier"], name, row


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Rows under lines that begin with '#' and say what each column means (pandas: `comment='#'`)."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        for name, definition in definitions_of(*frame.columns).items():
            stream.write(f"# {name}: {definition}\n")
        frame.to_csv(stream, index=False, lineterminator="\n")
