"""Paired statistics against SciPy, and Holm's correction by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from nnunet_partial.evaluation.paired import bootstrap_interval, holm, t_test_p, wilcoxon_p


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_scipys(seed):
    """Both are random: the ends differ by about 1 % of the width, and by 4 to 13 % without the acceleration."""
    differences = np.random.default_rng(seed).gamma(1.0, 0.05, 25) - 0.03  # skewed, as differences of Dice are
    low, high = bootstrap_interval(differences, resamples=100_000)
    theirs = scipy.stats.bootstrap((differences,), np.mean, method="BCa", n_resamples=100_000).confidence_interval
    assert abs(low - theirs.low) < 0.03 * (high - low)
    assert abs(high - theirs.high) < 0.03 * (high - low)
    assert bootstrap_interval(differences) == bootstrap_interval(differences)  # seeded


def test_intervals_of_little():
    assert all(map(math.isnan, bootstrap_interval(np.array([0.1]))))
    assert bootstrap_interval(np.array([0.25, 0.25, 0.25])) == (0.25, 0.25)


def test_tests_are_scipys_on_pairs():
    rng = np.random.default_rng(1)
    first, second = rng.random(20), rng.random(20) + 0.1
    assert t_test_p(second - first) == pytest.approx(scipy.stats.ttest_rel(second, first).pvalue)
    assert wilcoxon_p(second - first) == pytest.approx(scipy.stats.wilcoxon(second, first).pvalue)


def test_wilcoxon_by_hand():
    assert wilcoxon_p(np.array([1.0, 2, 3])) == pytest.approx(2 / 2**3)  # all ranks on one side
    assert wilcoxon_p(np.array([1.0, 0, 2, 3])) == pytest.approx(2 / 2**3)  # a zero difference says nothing
    assert wilcoxon_p(np.zeros(4)) == 1
    assert math.isnan(wilcoxon_p(np.array([])))


def test_t_test_of_little():
    assert math.isnan(t_test_p(np.array([1.0])))
    assert t_test_p(np.zeros(3)) == 1
    assert math.isnan(t_test_p(np.full(3, 0.5)))  # no spread, no t


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[0::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])
    assert holm([]) == []
