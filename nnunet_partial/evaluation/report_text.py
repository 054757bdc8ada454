"""What a summary says, as text for a terminal and as strict JSON for programs."""

import math
from collections.abc import Sequence
from typing import Any

from nnunet_partial.evaluation.summary import dice_table
from nnunet_partial.labels import LabelSpace

_FOR_PROGRAMS = ("foreground_mean", "mean", "annotated_cases", "empty_cases", "per_source", "per_protocol", "calibration")
_SHOWN = ("Dice", "NSD", "HD95_mm", "ASSD_mm", "Precision", "Recall", "volume_error_ml")
_EMPTY = {"neither": "neither shows it", "only_reference": "missed", "only_prediction": "predicted though absent"}


def report_text(summary: dict[str, Any], space: LabelSpace) -> str:
    """Dice by source, the other metrics by class, empty cases, calibration, and predictions of unannotated classes."""
    title = "Dice, mean over the cases in which the class was looked for (number of cases)"
    blocks = [f"{title}\n\n{dice_table(summary, space)}", _metric_table(summary)]
    if "calibration" in summary:
        blocks.append(_calibration_table(summary))
    empty = _empty_lines(summary)
    if empty:
        blocks.append("\n".join(["cases in which a side shows nothing (policy: `empty_policy` in the summary)", *empty]))
    if summary["unannotated_predictions"]["per_class"]:
        blocks.append("\n".join(_unannotated_lines(summary)))
    return "\n\n".join(blocks)


def report_json(summary: dict[str, Any]) -> dict[str, Any]:
    """Everything but the single cases, with classes by name and null for NaN."""
    names = summary["class_names"]
    keys = (*_FOR_PROGRAMS, "unannotated_predictions", "definitions", "without_prediction", "without_reference")
    return {key: for_programs(summary[key], names) for key in keys if key in summary}


def for_programs(value: Any, names: dict[Any, str]) -> Any:
    """The value with keys by name, and None for NaN, which strict JSON does not have."""
    if isinstance(value, dict):
        return {names.get(key, key): for_programs(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [for_programs(item, names) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _metric_table(summary: dict[str, Any]) -> str:
    names = [name for name in _SHOWN if name in summary["foreground_mean"]]
    keys = [key for key, count in summary["annotated_cases"].items() if count]
    rows = [["class", *names]]
    rows += [[summary["class_names"][key], *(_number(summary["mean"][key][name]) for name in names)] for key in keys]
    rows.append(["mean", *(_number(summary["foreground_mean"][name]) for name in names)])
    definition = summary["definitions"].get("NSD")
    return aligned(rows) + (f"\nNSD: {definition}" if definition else "")


def _calibration_table(summary: dict[str, Any]) -> str:
    names = ("ECE", "Brier", "AUC", "AP_success", "AP_error")
    rows = [["calibration", *names]]
    for key, values in summary["calibration"].items():
        rows.append([summary["class_names"].get(key, key), *(_number(values[name]) for name in names)])
    return aligned(rows)


def _empty_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    for key, counts in summary["empty_cases"].items():
        listed = [f"{phrase} {counts[what]}" for what, phrase in _EMPTY.items() if counts[what]]
        if listed:
            lines.append(f"  {summary['class_names'][key]}: {', '.join(listed)}")
    return lines


def _unannotated_lines(summary: dict[str, Any]) -> list[str]:
    found = summary["unannotated_predictions"]
    lines = ["predicted where nobody looked (no errors; details in the summary)"]
    for key, counts in found["per_class"].items():
        lines.append(f"  {summary['class_names'][key]}: {counts['cases']} cases, {counts['plausible_cases']} of them plausible")
    return lines


def _number(value: float) -> str:
    return "." if math.isnan(value) else f"{value:.4f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of text: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
