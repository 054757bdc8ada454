"""Means with bootstrap intervals over cases; same numbers, same interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0
COVERAGE = 0.95


@dataclass(frozen=True)
class MeanInterval:
    """A mean over `n` values and the percentile interval of its bootstrap; NaN where there is none (n below 2)."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Mean of the values that are not NaN, and its 95 % percentile bootstrap interval.

    Args:
        values: One number a case.

    Source: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    known = np.array([value for value in values if not np.isnan(value)])
    if len(known) < 2:
        return MeanInterval(float(known[0]) if len(known) else float("nan"), float("nan"), float("nan"), len(known))
    picked = np.random.default_rng(SEED).integers(0, len(known), (RESAMPLES, len(known)))
    low, high = np.quantile(known[picked].mean(axis=1), ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    return MeanInterval(float(known.mean()), float(low), float(high), len(known))


def mean_of_means_interval(values: np.ndarray, sources: Sequence[str]) -> MeanInterval:
    """Mean over classes of their means over cases, as nnU-Net's foreground_mean, with whole cases redrawn within each source.

    Redrawing within sources keeps every class in the sample wherever a source annotates it in all its cases.

    Args:
        values: One row a case, one column a class, NaN where the case is not judged for it.
        sources: The source of each case.
    Shape:
        values (cases, classes).
    """
    mean = _mean_of_means(values[None])[0]
    if len(values) < 2:
        return MeanInterval(float(mean), float("nan"), float("nan"), len(values))
    generator = np.random.default_rng(SEED)
    groups = [np.flatnonzero(np.array(sources) == source) for source in sorted(set(sources))]
    picked = np.concatenate([group[generator.integers(0, len(group), (RESAMPLES, len(group)))] for group in groups], axis=1)
    low, high = np.nanquantile(_mean_of_means(values[picked]), ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    return MeanInterval(float(mean), float(low), float(high), len(values))


def _mean_of_means(samples: np.ndarray) -> np.ndarray:
    """(R, cases, classes) -> (R,); NaN counts nowhere."""
    known = ~np.isnan(samples)
    counts = known.sum(1)
    per_class = np.where(known, samples, 0).sum(1) / np.maximum(counts, 1)
    judged = counts > 0
    return np.where(judged, per_class, 0).sum(1) / np.where(judged.any(1), judged.sum(1), np.nan)
