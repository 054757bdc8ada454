"""What pseudo-label rounds left behind in a fold's folder, for the report: the audit of every run, and its picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEAN, ALL_SOURCES = "mean", "all"


@dataclass(frozen=True)
class RoundsRun:
    """A run of rounds on one fold.

    Attributes:
        fold: '0' or 'all'.
        name: The run's name.
        criterion: How its pseudo-labels were ranked.
        rows: The audit's row of each round over all classes and sources.
        picture: The audit's picture, a PNG; None where it is gone.
    """

    fold: str
    name: str
    criterion: str
    rows: Sequence[dict[str, Any]]
    picture: bytes | None

    @property
    def is_judged(self) -> bool:
        """Whether references said how right the pseudo-labels were."""
        return any(row["precision"] is not None for row in self.rows)


def read_rounds(fold: Path) -> list[RoundsRun]:
    """The audited runs of a fold, by name."""
    return [_read(folder.parent) for folder in sorted(fold.glob("rounds/*/audit.json"))]


def _read(folder: Path) -> RoundsRun:
    rows = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["rows"]
    description, picture = folder / "rounds.json", folder / "audit.png"
    known = json.loads(description.read_text(encoding="utf-8"))["arguments"] if description.is_file() else {}
    return RoundsRun(
        fold=folder.parents[1].name.removeprefix("fold_"),
        name=folder.name,
        criterion=known.get("criterion", ""),
        rows=[row for row in rows if row["class"] == MEAN and row["source"] == ALL_SOURCES],
        picture=picture.read_bytes() if picture.is_file() else None,
    )
