"""A summary as file, table and rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_partial.evaluation.folder import class_name
from nnunet_partial.labels import LabelSpace, replacing, write_json


def write_summary(summary: dict[str, Any], path: Path | str) -> None:
    """Write a summary so that nnU-Net's `load_summary_json` reads it, NaN and unions included."""
    write_json(_text_keys(summary), Path(path))


def dice_table(summary: dict[str, Any], space: LabelSpace) -> str:
    """Mean Dice of each class and source, with the number of cases behind it; '.' where nobody looked for the class.

    '(11 of 13)' says that 2 of 13 annotated cases have no Dice, since neither reference nor prediction shows the class.
    """
    sources = list(summary["per_source"])
    keys = [key for key, count in summary["annotated_cases"].items() if count or isinstance(key, int)]
    rows = [["class", *sources, "all"]]
    for key in keys:
        cells = [summary["per_source"][source].get(key) for source in sources]
        judged = [cell for cell in cells if cell]
        total = {
            "Dice": summary["mean"][key]["Dice"],
            "dice_cases": sum(cell["dice_cases"] for cell in judged),
            "annotated_cases": summary["annotated_cases"][key],
        }
        rows.append([class_name(key, space), *map(_cell, cells), _cell(total if judged else None)])
    rows.append(["mean", *[""] * len(sources), f"{summary['foreground_mean']['Dice']:.4f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    rule = "-" * sum(widths, 2 * len(widths) - 2)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def metric_rows(summary: dict[str, Any], space: LabelSpace) -> pd.DataFrame:
    """One row per case and class: identifier, source, protocol, class, whether it was looked for, and every metric."""
    return pd.DataFrame(
        {
            "identifier": case["identifier"],
            "source": case["source"],
            "protocol": case["protocol"],
            "class": class_name(key, space),
            "annotated": not np.isnan(metrics["TP"]),
            **metrics,
        }
        for case in summary["metric_per_case"]
        for key, metrics in case["metrics"].items()
    )


def write_csv(summary: dict[str, Any], space: LabelSpace, path: Path | str) -> None:
    """Write the rows, under lines that begin with '#' and say what each metric means (pandas: `comment='#'`)."""
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        for name, definition in summary["definitions"].items():
            stream.write(f"# {name}: {definition}\n")
        metric_rows(summary, space).to_csv(stream, index=False, lineterminator="\n")


def write_parquet(summary: dict[str, Any], space: LabelSpace, path: Path | str) -> None:
    """Write the rows as Parquet; what each metric means stands in the schema's metadata under `definitions` (JSON)."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(metric_rows(summary, space), preserve_index=False)
    definitions = json.dumps(summary["definitions"], ensure_ascii=False)
    with replacing(Path(path)) as temporary:
        pyarrow.parquet.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), "definitions": definitions}), temporary
        )


def _cell(numbers: dict[str, float] | None) -> str:
    if numbers is None:
        return "."
    valid, annotated = numbers["dice_cases"], numbers["annotated_cases"]
    return f"{numbers['Dice']:.4f} ({valid if valid == annotated else f'{valid} of {annotated}'})"


def _text_keys(value: Any) -> Any:
    """JSON has text keys only; nnU-Net writes the union (4, 5) as '(4, 5)'."""
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value
