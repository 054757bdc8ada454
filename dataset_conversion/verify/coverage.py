"""Class x source: in how many cases somebody looked for a class, where it is, and where it is known not to be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_partial.labels import Annotation, AnnotationProtocol

_UNANNOTATED = "-"


@dataclass(frozen=True)
class Cell:
    """One class in one source.

    Attributes:
        annotated: Cases in which it was looked for, alone or within a union.
        present: Those of them whose label map has its id; for a union, any of its classes.
        absent: Those of them whose label map does not.
        unread: Those of them whose label map is missing or could not be read.
        voxels: Voxels of its id.
        shares_id_with: The classes that stand under the same id, in any of the cases.
    """

    annotated: int = 0
    present: int = 0
    absent: int = 0
    unread: int = 0
    voxels: int = 0
    shares_id_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """The matrix.

    Attributes:
        classes: Its rows, in the order of their label ids.
        sources: Its columns with their numbers of cases, in the order of dataset.json.
        cells: (class, source) -> what is known; every combination is there.
    """

    classes: tuple[str, ...]
    sources: dict[str, int]
    cells: dict[tuple[str, str], Cell]

    def annotated_in(self, class_name: str) -> int:
        """Cases of all sources in which a class was looked for."""
        return sum(self.cells[class_name, source].annotated for source in self.sources)


def measure_coverage(annotation: Annotation, label_counts: Mapping[str, dict[int, int] | None]) -> Coverage:
    """The coverage of a dataset, from what its label maps hold (None, or no entry, where one was not read)."""
    sources: dict[str, int] = {}
    cells: dict[tuple[str, str], Cell] = {}
    for key, case in annotation.cases.items():
        sources[case.source] = sources.get(case.source, 0) + 1
        for name, cell in _case_cells(annotation.protocol_of(key), label_counts.get(key)):
            cells[name, case.source] = _sum(cells.get((name, case.source), Cell()), cell)
    classes = annotation.space.classes
    return Coverage(
        classes, sources, {(name, source): cells.get((name, source), Cell()) for name in classes for source in sources}
    )


def _case_cells(protocol: AnnotationProtocol, counts: dict[int, int] | None) -> Iterator[tuple[str, Cell]]:
    for number, classes in protocol.labels.items():
        voxels = 0 if counts is None else counts.get(number, 0)
        for name in classes:
            yield (
                name,
                Cell(
                    annotated=1,
                    present=int(voxels > 0),
                    absent=int(counts is not None and voxels == 0),
                    unread=int(counts is None),
                    voxels=voxels,
                    shares_id_with=tuple(other for other in classes if other != name),
                ),
            )


def _sum(one: Cell, other: Cell) -> Cell:
    return Cell(
        one.annotated + other.annotated,
        one.present + other.present,
        one.absent + other.absent,
        one.unread + other.unread,
        one.voxels + other.voxels,
        tuple(dict.fromkeys((*one.shares_id_with, *other.shares_id_with))),
    )


def coverage_rows(coverage: Coverage) -> list[dict[str, Any]]:
    """One row a class and source, for CSV and JSON."""
    return [
        {
            "class": name,
            "source": source,
            "cases": cases,
            "annotated": (cell := coverage.cells[name, source]).annotated,
            "present": cell.present,
            "absent": cell.absent,
            "unread": cell.unread,
            "voxels": cell.voxels,
            "shares_id_with": " ".join(cell.shares_id_with),
        }
        for name in coverage.classes
        for source, cases in coverage.sources.items()
    ]


def coverage_table(coverage: Coverage) -> str:
    """The matrix for a terminal: cases in which a class was looked for, how many of them have it not, and its voxels."""
    heads = ["", *(f"{source} ({cases})" for source, cases in coverage.sources.items()), "looked for in"]
    total = sum(coverage.sources.values())
    lines = [
        [name, *(_in_words(coverage.cells[name, s]) for s in coverage.sources), f"{coverage.annotated_in(name)} of {total}"]
        for name in coverage.classes
    ]
    widths = [max(len(row[column]) for row in (heads, *lines)) for column in range(len(heads))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *lines)]
    legend = f"cases looked for: voxels   {_UNANNOTATED} nobody looked   U one id for a union of classes"
    return "\n".join([*text, legend])


def _in_words(cell: Cell) -> str:
    if not cell.annotated:
        return _UNANNOTATED
    asides = ", ".join(f"{number} {what}" for number, what in ((cell.absent, "absent"), (cell.unread, "unread")) if number)
    said = f"{cell.annotated} ({asides})" if asides else str(cell.annotated)
    return f"{'U ' if cell.shares_id_with else ''}{said}: {short_number(cell.voxels)}"


def short_number(number: int) -> str:
    """1234567 as 1.2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
