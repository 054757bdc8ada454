"""What was found about several annotators, as text for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_partial.evaluation.report_text import aligned

_COUNTS = ("annotators", "drawn_by")
_AMONG = (
    ("annotators", "looked"),
    ("drawn_by", "drew"),
    ("volume_ml", "volume ml"),
    ("Dice_pairs", "Dice"),
    ("diversity_pairs", "IoU distance"),
    ("disagreement", "disagreement"),
)
_ENERGY = (
    ("GED2_pairs", "GED2_pairs"),
    ("GED2_draws", "GED2_draws"),
    ("IoU_distance", "IoU distance"),
    ("diversity_pairs", "of annotators"),
    ("Dice_expected", "Dice"),
)
_LEVELS = (
    ("Dice_over_levels", "Dice"),
    ("Precision_over_levels", "precision"),
    ("Recall_over_levels", "recall"),
    ("HD95_over_levels_mm", "HD95 mm"),
)
_ANNOTATORS = (
    ("Dice_to_others", "Dice to the others"),
    ("IoU_distance_to_others", "IoU distance to them"),
    ("IoU_distance_among_others", "of them to each other"),
    ("Dice_to_prediction", "Dice to prediction"),
)


def agreement_text(summary: Mapping[str, Any]) -> str:
    """Annotators among themselves, each against the others, and tables 2 and 3 of the paper where there are predictions."""
    blocks = [
        _titled(
            "annotators with each other, mean over pairs (SD over cases); looked, drew: how many of them",
            _by_class(summary, _AMONG, "sd"),
        ),
        _titled("each annotator, mean over the classes", _by_annotator(summary)),
    ]
    if "calibration" in summary:
        blocks += [
            _titled(
                "p >= t against the averaged annotation >= t, mean over t = 10 % ... 90 % (SD over t)",
                _by_class(summary, _LEVELS, "sd_over_levels"),
            ),
            _titled("p >= 50 % against each annotator, mean over cases (SD over cases)", _by_class(summary, _ENERGY, "sd")),
            _titled("calibration against the averaged annotation", _calibration(summary)),
        ]
    return "\n\n".join([*blocks, *_remarks(summary)])


def _titled(title: str, rows: Sequence[Sequence[str]]) -> str:
    return f"{title}\n\n{aligned(rows)}"


def _by_class(summary: Mapping[str, Any], columns: Sequence[tuple[str, str]], spread: str) -> list[list[str]]:
    columns = [(figure, title) for figure, title in columns if figure in summary["mean"]]
    rows = [["class", "cases", *(title for _, title in columns)]]
    for name, figures in summary["per_class"].items():
        rows.append([name, str(figures["cases"]), *(_cell(figure, figures[figure], spread) for figure, _ in columns)])
    rows.append(["mean", "", *("" if figure in _COUNTS else _number(summary["mean"][figure]) for figure, _ in columns)])
    return rows


def _by_annotator(summary: Mapping[str, Any]) -> list[list[str]]:
    annotators = summary["per_annotator"]
    columns = [(figure, title) for figure, title in _ANNOTATORS if any(figure in found for found in annotators.values())]
    rows = [["annotator", "cases", *(title for _, title in columns)]]
    for name, found in annotators.items():
        cells = [_number(found.get(figure, float("nan"))) for figure, _ in columns]
        rows.append([name, str(found["cases"]), *cells])
    return rows


def _calibration(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = [["class", "ECE", "Brier"]]
    rows += [[name, _number(found["ECE"]), _number(found["Brier"])] for name, found in summary["calibration"].items()]
    return rows


def _remarks(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the means must know: cases in which a class was not there for some or for anybody."""
    lines = []
    for name, found in summary["per_class"].items():
        counts = {"nobody drew it": found["cases_nobody_drew"], "only some drew it": found["cases_only_some_drew"]}
        listed = [f"{what} in {count} of {found['cases']} cases" for what, count in counts.items() if count]
        if listed:
            lines.append(f"  {name}: {', '.join(listed)}")
    return (
        ["\n".join(["two empty masks agree (Dice 1, IoU distance 0); classes that are empty somewhere", *lines])] if lines else []
    )


def _cell(figure: str, found: Mapping[str, float], spread: str) -> str:
    """Mean and spread; of how many annotators there were, the mean alone."""
    if figure in _COUNTS:
        return f"{found['mean']:.3g}"
    deviation = found.get(spread, float("nan"))
    return _number(found["mean"]) + ("" if math.isnan(deviation) else f" ({_number(deviation)})")


def _number(value: float) -> str:
    if math.isnan(value):
        return "."
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.4f}"
