"""How sure a network is of each class, against float64 and scipy."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from nnunet_partial.losses.log_odds import binary_log_odds, log_mean_of_passes, mean_log_odds, softmax_log_odds


def slow_softmax_log_odds(z: np.ndarray) -> np.ndarray:
    """z_k - logsumexp of the others, a class at a time, in float64."""
    z = z.astype(np.float64)
    return np.stack([z[:, k] - logsumexp(np.delete(z, k, axis=1), axis=1) for k in range(1, z.shape[1])], axis=1)


@given(st.integers(1, 8), st.floats(0.1, 60), st.integers(0, 2**16))
def test_softmax_log_odds_are_exact_for_every_class(num_organs, scale, seed):
    z = (np.random.default_rng(seed).normal(size=(2, num_organs + 1, 3, 5)) * scale).astype(np.float32)
    found = softmax_log_odds(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found, slow_softmax_log_odds(z), rtol=2e-5, atol=2e-5 * max(1, scale))


def test_margins_that_probabilities_round_to_one():
    """At margins of 20 and 30 both probabilities are 1.0 in float32; the log-odds still tell them apart."""
    z = torch.tensor([[[0.0, 0.0], [20.0, 30.0]]])
    assert len(z.softmax(1)[0, 1].unique()) == 1
    assert softmax_log_odds(z)[0, 0].tolist() == [20, 30]


def test_sigmoid_of_them_is_the_probability():
    z = torch.randn(2, 5, 7)
    torch.testing.assert_close(softmax_log_odds(z).sigmoid(), z.softmax(1)[:, 1:])


def test_binary_log_odds_are_gaps_to_background():
    z = torch.tensor([[[1.0], [3.0], [-2.0]]])
    assert binary_log_odds(z).flatten().tolist() == [2, -3]


def test_half_precision_is_left_for_float32():
    z = torch.tensor([[[0.0], [1.0], [1.001]]]).half()
    assert softmax_log_odds(z).dtype == binary_log_odds(z).dtype == torch.float32
    assert torch.isfinite(softmax_log_odds(z)).all()


def test_the_mean_of_probabilities_counted_by_hand():
    """Probabilities 0.8 and 0.2 are one half on average; 0.9 and 0.5 are 0.7: log-odds of 7 : 3."""
    several = [torch.tensor([0.8, 0.9]).logit(), torch.tensor([0.2, 0.5]).logit()]
    np.testing.assert_allclose(mean_log_odds(iter(several)), [0, np.log(7 / 3)], atol=1e-6)
    log_p, log_rest = log_mean_of_passes(several)
    np.testing.assert_allclose(log_p.exp(), [0.5, 0.7], rtol=1e-6)
    np.testing.assert_allclose(log_rest.exp(), [0.5, 0.3], rtol=1e-6)


@given(st.integers(1, 6), st.floats(0.1, 30), st.integers(0, 2**16))
def test_the_mean_of_probabilities_is_that_of_float64(count, scale, seed):
    several = (np.random.default_rng(seed).normal(size=(count, 9)) * scale).astype(np.float32)
    d = several.astype(np.float64)
    yes, no = -np.logaddexp(0, -d), -np.logaddexp(0, d)
    expected = logsumexp(yes, axis=0) - logsumexp(no, axis=0)
    np.testing.assert_allclose(mean_log_odds(torch.from_numpy(several)), expected, rtol=2e-5, atol=2e-5)


def test_the_mean_of_probabilities_that_all_round_to_one():
    one = mean_log_odds([torch.tensor([20.0, 40.0]), torch.tensor([30.0, 50.0])])
    assert one[0] < one[1]
    np.testing.assert_allclose(one, [20 + np.log(2), 40 + np.log(2)], atol=1e-3)  # the doubts are added, not the certainties
