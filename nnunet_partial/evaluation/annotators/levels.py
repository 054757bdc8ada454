"""Prediction and averaged annotation cut at the same confidence levels (table 2 of the paper)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_partial.evaluation.means import nanmean
from nnunet_partial.evaluation.probabilities import reaches
from nnunet_partial.evaluation.surfaces import robust_hausdorff, surface_distances

TENTHS = range(1, 10)
LEVEL_METRICS = ("Dice", "Precision", "Recall", "HD95_mm")
_AVERAGED = {
    "Dice": "Dice_over_levels",
    "Precision": "Precision_over_levels",
    "Recall": "Recall_over_levels",
    "HD95_mm": "HD95_over_levels_mm",
}


def metrics_at_levels(
    probability: np.ndarray, votes: np.ndarray, num_annotators: int, spacing_mm: Sequence[float] | None
) -> dict[str, dict[str, float]]:
    """Dice, precision, recall and HD95 of {p >= t} against {mean annotation >= t} for t = 10 %, 20 %, ... 90 %.

    Shares of votes are never rounded: 3 of 10 votes reach 30 %. Empty masks are judged as `evaluate` judges them: Dice is NaN
    where both are, 0 where one is; precision is NaN where nothing is predicted, recall where nothing is annotated, and HD95
    where either is empty.

    Args:
        probability: Probability of the class.
        votes: How many annotators drew the class.
        num_annotators: How many looked for it.
        spacing_mm: Distance of neighbouring voxels along each axis; None leaves HD95 out.

    Shape:
        probability *S floating, votes *S integers.

    Returns:
        "10", "20", ... "90" -> the metrics, and `n_pred` and `n_ref`, the voxels of either mask.

    Source: Silva & Oliveira 2021, section 5 and table 2.
    """
    found = {}
    for tenth in TENTHS:
        needed = -(-tenth * num_annotators // 10)  # the least number of votes that is a share of at least tenth / 10
        reference, prediction = votes >= needed, reaches(probability, tenth / 10)
        found[f"{tenth}0"] = _metrics(reference, prediction, spacing_mm)
    return found


def averages_over_levels(levels: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the levels at which it has a value."""
    present = [name for name in LEVEL_METRICS if name in next(iter(levels.values()))]
    return {_AVERAGED[name]: nanmean(metrics[name] for metrics in levels.values()) for name in present}


def averaged_name(metric: str) -> str:
    """What the average over levels of a metric is called."""
    return _AVERAGED[metric]


def _metrics(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float] | None) -> dict[str, Any]:
    n_ref, n_pred, shared = (int(np.count_nonzero(mask)) for mask in (reference, prediction, reference & prediction))
    nan = float("nan")
    found = {
        "n_ref": n_ref,
        "n_pred": n_pred,
        "Dice": 2 * shared / (n_ref + n_pred) if n_ref + n_pred else nan,
        "Precision": shared / n_pred if n_pred else nan,
        "Recall": shared / n_ref if n_ref else nan,
    }
    if spacing_mm is not None:
        shown = n_ref and n_pred
        found["HD95_mm"] = robust_hausdorff(surface_distances(reference, prediction, spacing_mm), percent=95) if shown else nan
    return found
