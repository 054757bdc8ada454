"""Means of what was measured: by class, source and protocol, over the cases in which somebody looked."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nnunet_partial.evaluation.case import ClassKey


def summarise(cases: list[dict[str, Any]], keys: Sequence[ClassKey], names: Sequence[str]) -> dict[str, Any]:
    """Fill in what a case is not judged on, and take the means.

    Args:
        cases: Entries of `metric_per_case`, with `source`, `protocol` and `metrics`.
        keys: Every class, then every union that some case is judged under.
        names: The metrics.
    """
    for case in cases:
        case["metrics"] = {key: case["metrics"].get(key, dict.fromkeys(names, float("nan"))) for key in keys}
    mean = {key: _means(cases, key, names) for key in keys}
    return {
        "foreground_mean": {name: foreground_mean(mean, name) for name in names},
        "mean": mean,
        "metric_per_case": cases,
        "per_source": _by(cases, "source", keys, names),
        "per_protocol": _by(cases, "protocol", keys, names),
        "annotated_cases": {key: _known(cases, key, "TP") for key in keys},
        "empty_cases": {key: _empty_cases(cases, key) for key in keys},
    }


def nanmean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN, without a warning, where none is left."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _by(cases: Sequence[dict[str, Any]], what: str, keys: Sequence[ClassKey], names: Sequence[str]) -> dict[str, Any]:
    values = sorted({case[what] for case in cases})
    return {value: _annotated_means([case for case in cases if case[what] == value], keys, names) for value in values}


def foreground_mean(mean: dict[ClassKey, dict[str, float]], name: str) -> float:
    """Mean of a metric over the classes, and over the unions of which nothing else is known."""
    classes = [values[name] for key, values in mean.items() if isinstance(key, int)]
    unions = [key for key in mean if isinstance(key, tuple) and all(np.isnan(mean[number][name]) for number in key)]
    return nanmean([*classes, *(mean[key][name] for key in unions)])


def _annotated_means(
    cases: Sequence[dict[str, Any]], keys: Sequence[ClassKey], names: Sequence[str]
) -> dict[ClassKey, dict[str, float]]:
    """Of the classes that were looked for in any of the cases: the means, and in how many cases they are known."""
    annotated = [key for key in keys if _known(cases, key, "TP")]
    return {
        key: {"annotated_cases": _known(cases, key, "TP"), "dice_cases": _known(cases, key, "Dice"), **_means(cases, key, names)}
        for key in annotated
    }


def _known(cases: Sequence[dict[str, Any]], key: ClassKey, name: str) -> int:
    return sum(not np.isnan(case["metrics"][key][name]) for case in cases)


def _means(cases: Sequence[dict[str, Any]], key: ClassKey, names: Sequence[str]) -> dict[str, float]:
    return {name: nanmean(case["metrics"][key][name] for case in cases) for name in names}


def _empty_cases(cases: Sequence[dict[str, Any]], key: ClassKey) -> dict[str, int]:
    """In how many annotated cases one or both sides show nothing."""
    shown = [(case["metrics"][key]["n_ref"], case["metrics"][key]["n_pred"]) for case in cases]
    return {
        "neither": sum(n_ref == 0 and n_pred == 0 for n_ref, n_pred in shown),
        "only_reference": sum(n_ref > 0 and n_pred == 0 for n_ref, n_pred in shown),
        "only_prediction": sum(n_ref == 0 and n_pred > 0 for n_ref, n_pred in shown),
    }
