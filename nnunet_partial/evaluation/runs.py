"""What an evaluated run says of each case and class, read back from its files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

SUMMARY_NAME = "summary.json"
_INDEX = ["identifier", "class"]
_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl", ".tif", ".tiff", ".png", ".bmp")
_FACTS = ["source", "protocol", "annotated"]


@dataclass(frozen=True)
class Run:
    """The metrics of one run.

    Attributes:
        name: As it stands in tables.
        rows: Indexed by identifier and class, a column a metric.
        definitions: Metric -> what it means, where the file says so.
        class_names: Class key as text -> class, where the file says so.
    """

    name: str
    rows: pd.DataFrame
    definitions: Mapping[str, str] = field(default_factory=dict)
    class_names: Mapping[str, str] = field(default_factory=dict)


def read_run(path: Path, name: str | None = None) -> Run:
    """Read a summary.json (ours or nnU-Net's), a folder that holds one, or the CSV or Parquet of `nnunet_partial evaluate`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is no such file.
    """
    file = path / SUMMARY_NAME if path.is_dir() else path
    if not file.is_file():
        hint = "; judge the predictions first: nnunet_partial evaluate" if path.is_dir() else ""
        raise FileNotFoundError(f"there is no file {file}{hint}")
    readers = {".json": _read_summary, ".csv": _read_csv, ".parquet": _read_parquet}
    if file.suffix not in readers:
        raise ValueError(f"{file}: a summary.json, a .csv or a .parquet of `nnunet_partial evaluate` is expected")
    try:
        rows, facts = readers[file.suffix](file)
        twice = rows[rows.duplicated(_INDEX)]
        rows = rows.set_index(_INDEX).drop(columns=_FACTS, errors="ignore").apply(pd.to_numeric)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} does not hold what `nnunet_partial evaluate` writes: {error}") from None
    if len(twice):
        example = "/".join(twice[_INDEX].iloc[0])
        raise ValueError(f"{file}: {len(twice)} cases and classes are listed twice, such as {example}")
    default = path.name if path.is_dir() else file.parent.name if file.name == SUMMARY_NAME else file.stem
    return Run(name or default, rows, **facts)


def name_classes(runs: Sequence[Run]) -> list[Run]:
    """nnU-Net's own summaries know classes by number only: name them as the other runs' summaries do."""
    names = {key: name for run in runs for key, name in run.class_names.items()}
    return [replace(run, rows=run.rows.rename(index=names, level="class")) for run in runs]


def _read_summary(file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    summary = json.loads(file.read_text(encoding="utf-8"))
    names = summary.get("class_names", {})
    rows = [
        {
            "identifier": case.get("identifier") or _identifier(case["prediction_file"]),
            "class": names.get(key, key),
            **metrics,
        }
        for case in summary["metric_per_case"]
        for key, metrics in case["metrics"].items()
    ]
    return pd.DataFrame(rows), {"definitions": summary.get("definitions", {}), "class_names": names}


def _read_csv(file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    with file.open(encoding="utf-8") as stream:
        heads = []
        for line in stream:
            if not line.startswith("#"):
                break
            heads.append(line.removeprefix("#").strip().partition(": "))
    rows = pd.read_csv(file, skiprows=len(heads), dtype={"identifier": str, "class": str})
    return rows, {"definitions": {name: definition for name, _, definition in heads}}


def _read_parquet(file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    definitions = json.loads((table.schema.metadata or {}).get(b"definitions", b"{}"))
    return table.to_pandas(), {"definitions": definitions}


def _identifier(prediction_file: str) -> str:
    name = PurePath(prediction_file).name
    return next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)
