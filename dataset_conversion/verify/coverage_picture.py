"""The coverage matrix as a picture: a row a class, a column a source."""

from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.dataset_conversion.verify.coverage import Cell, Coverage, short_number
from nnunet_partial.labels import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = (".png", ".svg")
_INK, _FAINT, _PAPER = "#1d2733", "#6b7785", "#ffffff"
_PRESENT, _ABSENT, _UNION, _UNANNOTATED, _UNREAD = "#2a7f9e", "#c97b12", "#7d6bb5", "#eef1f4", "#c8506a"
_GAP = 0.05
_CELL_INCHES = (1.35, 0.5)
_NAME_LENGTH = 16


def draw_coverage(coverage: Coverage, path: Path, *, title: str) -> None:
    """Draw the matrix: cases in which a class was looked for and is there, or is absent; nobody looked; unions in one piece.

    Args:
        coverage: The matrix.
        path: A .png or .svg file.
        title: What it is of.

    Raises:
        ValueError: the file's ending is another one.
    """
    check_picture_path(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    num_rows, num_columns = len(coverage.classes), len(coverage.sources) + 1
    margin_left, margin_top, margin_bottom = 0.4 + 0.095 * max(map(len, coverage.classes)), 1.15, 0.75
    width = margin_left + _CELL_INCHES[0] * num_columns + 0.2
    height = margin_top + _CELL_INCHES[1] * num_rows + margin_bottom
    with rc_context({"svg.hashsalt": "coverage", "font.family": "DejaVu Sans"}):  # same content, same bytes
        figure = Figure(figsize=(width, height), facecolor=_PAPER)
        box = (
            margin_left / width,
            margin_bottom / height,
            1 - (margin_left + 0.2) / width,
            1 - (margin_top + margin_bottom) / height,
        )
        axes = figure.add_axes(box)
        axes.set(xlim=(0, num_columns), ylim=(num_rows, 0), xticks=[], yticks=[])
        axes.set_axis_off()
        for column, (source, cases) in enumerate(coverage.sources.items()):
            _draw_head(axes, column, source, f"{cases} cases" if cases != 1 else "1 case")
            _draw_column(axes, column, [coverage.cells[name, source] for name in coverage.classes], coverage.classes)
        _draw_totals(axes, coverage)
        figure.text(0.15 / width, 1 - 0.3 / height, title, fontsize=13, color=_INK, weight="bold", va="center")
        _draw_legend(figure, coverage, 0.42 / height)
        with replacing(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(temporary, dpi=130, facecolor=_PAPER, metadata=metadata)


def check_picture_path(path: Path) -> None:
    """Refuse a file whose format we do not draw."""
    if path.suffix not in _FORMATS:
        raise ValueError(f"'{path}' must end in {' or '.join(_FORMATS)}")


def _draw_head(axes: "Axes", column: float, name: str, what: str) -> None:
    axes.text(column + 0.5, -0.52, _short(name), ha="center", va="center", fontsize=9.5, color=_INK, weight="bold")
    axes.text(column + 0.5, -0.2, what, ha="center", va="center", fontsize=8, color=_FAINT)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def _draw_column(axes: "Axes", column: int, cells: list[Cell], classes: tuple[str, ...]) -> None:
    """The cells of one source; neighbours that stand under one id are drawn as one."""
    first = 0
    while first < len(cells):
        together = {classes[first], *cells[first].shares_id_with}
        last = first + 1
        while cells[first].shares_id_with and last < len(cells) and {classes[last], *cells[last].shares_id_with} == together:
            last += 1
        away = [name for name in cells[first].shares_id_with if name not in classes[first:last]]
        _draw_cell(axes, column, (first, last), cells[first], away)
        first = last


def _draw_cell(axes: "Axes", column: int, rows: tuple[int, int], cell: Cell, away: list[str]) -> None:
    """A rectangle over some rows, split by how many of the annotated cases have the class; `away`: union members elsewhere."""
    from matplotlib.patches import Rectangle

    top, height = rows[0] + _GAP, rows[1] - rows[0] - 2 * _GAP
    middle = (rows[0] + rows[1]) / 2
    if not cell.annotated:
        axes.add_patch(Rectangle((column + _GAP, top), 1 - 2 * _GAP, height, facecolor=_UNANNOTATED, edgecolor="none"))
        return
    left, full = column + _GAP, 1 - 2 * _GAP
    present = _UNION if cell.shares_id_with else _PRESENT
    for number, colour in ((cell.present, present), (cell.absent, _ABSENT), (cell.unread, _UNREAD)):
        width = full * number / cell.annotated
        axes.add_patch(Rectangle((left, top), width, height, facecolor=colour, edgecolor="none"))
        left += width
    said = str(cell.annotated) + (" as one id" if cell.shares_id_with else "")
    if away:
        said += f"\nwith {_short(away[0].replace('_', ' '))}" + (f" + {len(away) - 1}" if len(away) > 1 else "")
    lines = said.count("\n") + 1
    axes.text(
        column + 0.5, middle - 0.1, said, ha="center", va="center", fontsize=10 if lines == 1 else 7, color="white", weight="bold"
    )
    asides = [f"{number} {what}" for number, what in ((cell.absent, "absent"), (cell.unread, "unread")) if number]
    below = " · ".join([*asides, f"{short_number(cell.voxels)} voxels"])
    axes.text(column + 0.5, middle + 0.27, below, ha="center", va="center", fontsize=6.5, color="white")


def _draw_totals(axes: "Axes", coverage: Coverage) -> None:
    """The names of the rows, and in how many cases of all sources each was looked for."""
    column, total = len(coverage.sources), sum(coverage.sources.values())
    _draw_head(axes, column, "looked for in", f"of {total} cases")
    for row, name in enumerate(coverage.classes):
        number = coverage.annotated_in(name)
        axes.text(-0.08, row + 0.5, name, ha="right", va="center", fontsize=9.5, color=_INK)
        axes.text(column + 0.5, row + 0.5, str(number), ha="center", va="center", fontsize=10, color=_INK if number else _UNREAD)


def _draw_legend(figure: object, coverage: Coverage, y: float) -> None:
    from matplotlib.patches import Patch

    cells = coverage.cells.values()
    entries = [
        (_PRESENT, "looked for, there", any(cell.present and not cell.shares_id_with for cell in cells)),
        (_UNION, "there, under one id for several classes", any(cell.present and cell.shares_id_with for cell in cells)),
        (_ABSENT, "looked for, absent", any(cell.absent for cell in cells)),
        (_UNREAD, "not read", any(cell.unread for cell in cells)),
        (_UNANNOTATED, "nobody looked", any(not cell.annotated for cell in cells)),
    ]
    handles = [Patch(facecolor=colour, label=label) for colour, label, is_used in entries if is_used]
    figure.legend(
        handles=handles, loc="center", bbox_to_anchor=(0.5, y), ncols=len(handles), frameon=False, fontsize=8.5, labelcolor=_INK,
        handlelength=1.2, handleheight=1.2, columnspacing=1.6,
    )  # fmt: skip
