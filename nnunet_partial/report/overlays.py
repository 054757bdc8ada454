"""Pictures of predictions: three planes with reference, prediction and what differs, or the prediction alone."""

import io
from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_partial.report.slices import SIDES, VIEWS, ShownCase, View, class_colour, draw_slice

RIGHT, MISSED, TOO_MUCH, CONFUSED, NOT_JUDGED = 1, 2, 3, 4, 5
DIFFERENCES = {  # colours that no class near the front of the palette has
    RIGHT: ("as in the reference", "#8796a5"),
    MISSED: ("missed", "#ff4d5a"),
    TOO_MUCH: ("too much", "#19e6ff"),
    CONFUSED: ("another class", "#ff7bf0"),
    NOT_JUDGED: ("nobody looked for it here: not judged", "#ffffff"),
}
PAPER, INK, FAINT = "#0e1116", "#f2f4f8", "#9aa4b2"


def difference_map(reference: np.ndarray, prediction: np.ndarray, table: np.ndarray) -> np.ndarray:
    """How each voxel of a prediction stands to a partly annotated reference; 0 where both say background.

    Args:
        reference: Label map whose ids the table explains.
        prediction: Label map with the label space's own ids.
        table: Row l holds the candidate classes of label id l (`AnnotationProtocol.candidate_table`).

    Shape:
        reference and prediction *S, table (L, C) bool; returns *S uint8 with the keys of `DIFFERENCES`.

    Raises:
        ValueError: a label id that the table does not know.
    """
    for name, labels, limit in (("reference", reference, len(table)), ("prediction", prediction, table.shape[1])):
        if labels.size and not 0 <= labels.min() <= labels.max() < limit:
            raise ValueError(f"{name} holds label ids {labels.min()}..{labels.max()}, known are 0..{limit - 1}")
    kind = np.zeros(table.shape, dtype=np.uint8)
    for number, candidates in enumerate(table):
        kind[number] = np.where(candidates, RIGHT, TOO_MUCH if number == 0 else CONFUSED)
    kind[1:, 0] = MISSED
    kind[0] = np.where(table[0], NOT_JUDGED, TOO_MUCH)
    kind[table.all(axis=1)] = NOT_JUDGED  # the ignore label, or a case nobody annotated
    kind[0, 0] = 0
    planes = [kind[np.asarray(r, np.intp), np.asarray(p, np.intp)] for r, p in zip(reference, prediction, strict=True)]
    return np.stack(planes)  # plane by plane: the indices take 16 bytes a voxel


def views_of_errors(difference: np.ndarray, reference: np.ndarray, prediction: np.ndarray) -> list[View]:
    """The axial, coronal and sagittal slice with most wrong voxels, each class counted relative to its size."""
    wrong = np.isin(difference, (MISSED, TOO_MUCH, CONFUSED))
    if not wrong.any():
        return views_of_labels(reference)
    concerned = np.where(reference > 0, reference, prediction)
    return _busiest(np.where(wrong, concerned, 0), np.bincount(concerned.ravel()))


def views_of_labels(labels: np.ndarray) -> list[View]:
    """The axial, coronal and sagittal slice that show most of all classes, each counted relative to its size."""
    return _busiest(labels, np.bincount(labels.ravel()))


def draw_comparison(case: ShownCase, difference: np.ndarray, views: Sequence[View], num_classes: int) -> bytes:
    """A row a plane: reference, prediction, difference; what nobody looked for is hatched where it is predicted.

    Args:
        case: With the reference and the prediction as label maps.
        difference: `difference_map` of the two.
        views: Which slices.
        num_classes: Background included.

    Returns:
        A PNG.
    """
    reference, prediction = case.label_maps
    colours = {number: class_colour(number) for number in range(1, max(num_classes, int(reference.max()) + 1))}
    unknown = len(colours) + 1
    not_judged = difference == NOT_JUDGED
    annotated = np.where(not_judged, unknown, reference)
    hatch = {unknown: DIFFERENCES[NOT_JUDGED][1]}
    columns = (
        ("reference", annotated, colours | hatch, [unknown]),
        ("prediction", prediction, colours, []),
        ("difference", difference, {number: colour for number, (_, colour) in DIFFERENCES.items()}, [NOT_JUDGED]),
    )
    return _draw_grid(case, views, columns)


def draw_preview(case: ShownCase, class_names: Mapping[int, str], title: str) -> bytes:
    """Three planes of an image with its prediction side by side, and the names of the classes found.

    Args:
        case: With the prediction as its label map.
        class_names: Label id -> name.
        title: Written above.

    Returns:
        A PNG.
    """
    from matplotlib.patches import Patch

    prediction = case.label_maps[0]
    views = views_of_labels(prediction)
    found = [number for number in class_names if (prediction == number).any()]
    widths, heights = zip(*(view.extent_mm(case) for view in views), strict=True)
    scale = 11.0 / sum(widths)
    rows = -(-len(found) // 8) or 1
    figure, below = _figure(11.0, max(heights) * scale + 0.35 + 0.28 * rows), 0.28 * rows
    inches = figure.get_figheight()
    grid = figure.add_gridspec(
        1, 3, width_ratios=widths, left=0.0, right=1.0, top=1 - 0.35 / inches, bottom=below / inches, wspace=0.01
    )
    for column, view in enumerate(views):
        axes = figure.add_subplot(grid[0, column])
        draw_slice(axes, case, view, prediction, {number: class_colour(number) for number in found})
        _mark_sides(axes, view)
    figure.text(0.008, 1 - 0.1 / inches, title, color=INK, fontsize=11, va="top")
    if found:
        handles = [Patch(color=class_colour(number), label=class_names[number]) for number in found]
        figure.legend(handles=handles, loc="lower center", ncols=8, frameon=False, labelcolor=INK, fontsize=9, borderpad=0.1)
    else:
        figure.text(0.5, 0.05 / inches, "the prediction is empty", color=FAINT, fontsize=10, ha="center")
    return _png(figure)


def _draw_grid(case: ShownCase, views: Sequence[View], columns: Sequence[tuple]) -> bytes:
    ratios = [height / width for width, height in (view.extent_mm(case) for view in views)]
    panel = 3.4
    figure = _figure(panel * len(columns), panel * sum(ratios) + 0.3 + 0.04 * len(views))
    inches = figure.get_figheight()
    grid = figure.add_gridspec(
        len(views), len(columns), height_ratios=ratios, left=0, right=1, top=1 - 0.3 / inches, bottom=0, wspace=0.012, hspace=0.02
    )
    for row, view in enumerate(views):
        for column, (name, labels, colours, hatched) in enumerate(columns):
            axes = figure.add_subplot(grid[row, column])
            draw_slice(axes, case, view, labels, colours, hatched)
            _mark_sides(axes, view)
            if row == 0:
                axes.set_title(name, color=INK, fontsize=11, pad=5)
    return _png(figure)


def _mark_sides(axes: object, view: View) -> None:
    for text, x, align in zip(SIDES[view.name], (0.015, 0.985), ("left", "right"), strict=True):
        axes.text(x, 0.5, text, transform=axes.transAxes, color=FAINT, fontsize=9, va="center", ha=align)
    axes.text(0.015, 0.015, f"{view.name} {view.index}", transform=axes.transAxes, color=FAINT, fontsize=8)


def _busiest(labels: np.ndarray, sizes: np.ndarray) -> list[View]:
    """In each plane the slice with the largest sum over classes of area / size; the middle where there is nothing."""
    views = []
    for name, axis in VIEWS:
        others = tuple(k for k in range(3) if k != axis)
        areas = [
            np.count_nonzero(labels == number, axis=others) / sizes[number] for number in range(1, len(sizes)) if sizes[number]
        ]
        score = np.sum(areas, axis=0) if areas else np.zeros(1)
        views.append(View(name, axis, int(np.argmax(score)) if np.any(score) else labels.shape[axis] // 2))
    return views


def _figure(width: float, height: float) -> object:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: object) -> bytes:
    """The figure, without a word on when or by what it was drawn."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100, facecolor=PAPER, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return content.getvalue()
