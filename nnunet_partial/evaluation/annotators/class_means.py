"""Means over cases of what several annotators' cases gave: by class, by level and by annotator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_partial.evaluation.annotators.definitions import NESTED
from nnunet_partial.evaluation.annotators.levels import LEVEL_METRICS, averaged_name
from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.means import foreground_mean, nanmean

_OF_ANNOTATORS = (
    "Dice_to_others",
    "IoU_distance_to_others",
    "IoU_distance_among_others",
    "Dice_to_prediction",
    "IoU_distance_to_prediction",
)


def summarise_agreement(cases: Sequence[dict[str, Any]], names: Mapping[ClassKey, str]) -> dict[str, Any]:
    """Take the means.

    Args:
        cases: Entries with `classes`: class or union -> its row.
        names: The name of every class, then of every union that some case is judged under.

    Returns:
        `per_class`: name -> cases, and mean and sd (sample standard deviation) over cases of each figure; `levels` with the
        means at each confidence level. `mean`: means over the classes, and over unions of which nothing else is known.
        `per_annotator`: the same of single annotators.
    """
    rows = {key: [case["classes"][key] for case in cases if key in case["classes"]] for key in names}
    figures = _figures(rows)
    means = {key: {figure: nanmean(row[figure] for row in rows[key]) for figure in figures} for key in names}
    return {
        "per_class": {names[key]: _class(rows[key], figures) for key in names if rows[key]},
        "mean": {figure: foreground_mean(means, figure) for figure in figures},
        "per_annotator": _annotators(cases, names),
    }


def _figures(rows: Mapping[ClassKey, Sequence[dict[str, Any]]]) -> list[str]:
    some_row = next(found[0] for found in rows.values() if found)
    return [figure for figure in some_row if figure not in NESTED]


def _class(rows: Sequence[dict[str, Any]], figures: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cases": len(rows),
        "cases_nobody_drew": sum(row["drawn_by"] == 0 for row in rows),
        "cases_only_some_drew": sum(0 < row["drawn_by"] < row["annotators"] for row in rows),
    }
    found.update({figure: _mean_and_sd([row[figure] for row in rows]) for figure in figures})
    if "levels" in rows[0]:
        found["levels"] = _levels([row["levels"] for row in rows])
        for metric in LEVEL_METRICS:
            if averaged_name(metric) in found:
                over_levels = [level[metric] for level in found["levels"].values()]
                found[averaged_name(metric)]["sd_over_levels"] = _sd(over_levels)
    return found


def _levels(cases: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Level -> mean over cases of each metric, and in how many cases a side shows nothing there."""
    found = {}
    for level in cases[0]:
        at_level = [case[level] for case in cases]
        metrics = [metric for metric in LEVEL_METRICS if metric in at_level[0]]
        empty = [(metrics_of["n_ref"] == 0, metrics_of["n_pred"] == 0) for metrics_of in at_level]
        found[level] = {
            **{metric: nanmean(metrics_of[metric] for metrics_of in at_level) for metric in metrics},
            "neither": empty.count((True, True)),
            "only_reference": empty.count((False, True)),
            "only_prediction": empty.count((True, False)),
        }
    return found


def _annotators(cases: Sequence[dict[str, Any]], names: Mapping[ClassKey, str]) -> dict[str, Any]:
    """Annotator -> cases, means over the classes, and `per_class` means over cases."""
    found = {}
    for annotator in sorted({name for case in cases for name in case["annotators"]}):
        rows = {
            key: [
                case["classes"][key]["by_annotator"][annotator]
                for case in cases
                if annotator in case["classes"].get(key, {}).get("by_annotator", {})
            ]
            for key in names
        }
        figures = [
            figure for figure in _OF_ANNOTATORS if any(figure in row for found_rows in rows.values() for row in found_rows)
        ]
        means = {key: {figure: nanmean(row[figure] for row in rows[key]) for figure in figures} for key in names}
        found[annotator] = {
            "cases": sum(annotator in case["annotators"] for case in cases),
            **{figure: foreground_mean(means, figure) for figure in figures},
            "per_class": {names[key]: {"cases": len(rows[key]), **means[key]} for key in names if rows[key]},
        }
    return found


def _mean_and_sd(values: Sequence[float]) -> dict[str, float]:
    return {"mean": nanmean(values), "sd": _sd(values)}


def _sd(values: Sequence[float]) -> float:
    """Sample standard deviation of the values that are not NaN; NaN for fewer than two."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
