"""Statistics of paired differences: bootstrap confidence interval, Wilcoxon signed-rank, paired t-test, Holm."""

from collections.abc import Sequence

import numpy as np
import scipy  # scipy.stats takes a second to import, which it does when it is first asked for

RESAMPLES = 10_000
CONFIDENCE = 0.95
_DRAWS = 2**20


def bootstrap_interval(differences: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """The 95 % confidence interval of the mean, bias-corrected and accelerated (BCa).

    The same differences give the same interval. Fewer than two differences give NaN, equal ones an interval without width.

    Args:
        differences: One value a case.
        resamples: How often the cases are drawn anew, with replacement.
        seed: Of these draws.

    Source: Efron 1987, Better bootstrap confidence intervals.
    """
    if len(differences) < 2:
        return float("nan"), float("nan")
    mean = differences.mean()
    if np.ptp(differences) == 0:
        return float(mean), float(mean)
    means = np.sort(_resampled_means(differences, resamples, np.random.default_rng(seed)))
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * resamples)
    bias = scipy.stats.norm.ppf(np.clip(below, 1 / resamples, 1 - 1 / resamples))
    centred = differences - mean
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)  # the jackknife of a mean
    shifted = bias + scipy.stats.norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = np.quantile(means, scipy.stats.norm.cdf(bias + shifted / (1 - acceleration * shifted)))
    return float(low), float(high)


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of as many values, drawn with replacement; a bounded number of draws is in memory at a time."""
    rows = max(1, _DRAWS // len(values))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes])


def wilcoxon_p(differences: np.ndarray) -> float:
    """Two-sided p of the Wilcoxon signed-rank test; zero differences are dropped, and 1 where all are zero; NaN for none."""
    if not len(differences):
        return float("nan")
    changed = differences[differences != 0]
    return float(scipy.stats.wilcoxon(changed).pvalue) if len(changed) else 1.0


def t_test_p(differences: np.ndarray) -> float:
    """Two-sided p of the paired t-test; 1 where all differences are zero; NaN where fewer than two or all are alike."""
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else float("nan")
    return float(scipy.stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests; NaN is no test and stays.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    tests = sorted((p, place) for place, p in enumerate(p_values) if not np.isnan(p))
    corrected = list(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tests):
        largest = max(largest, min(1.0, p * (len(tests) - rank)))
        corrected[place] = largest
    return corrected
