"""Noise on log-odds: by hand, against scipy's integral, where the truth is known and where it is not."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, logit

from nnunet_partial.losses.aleatoric import expected_log_odds, noisy_cross_entropy
from tests.losses.builders import random_case, target_of

NO_NOISE = -200.0


def known_voxels():
    """Class 2 was not looked for: at the two background voxels only class 1 counts; at the voxel of class 1 both do."""
    return target_of(torch.tensor([[[0, 1, 0]]]), ({0: {0, 2}}, {1}), num_classes=3)


def test_without_noise_it_is_cross_entropy_counted_by_hand():
    log_odds = torch.tensor([[[1.0, -1.0, 0.5], [3.0, 3.0, 3.0]]])
    expected = -sum(math.log(expit(d)) for d in (-1, -1, -0.5, -3)) / 4
    found = noisy_cross_entropy(log_odds, torch.full_like(log_odds, NO_NOISE), known_voxels(), num_samples=3)
    assert found.item() == pytest.approx(expected)


def test_many_draws_come_to_the_expected_probability():
    torch.manual_seed(0)
    count = 200_000
    target = target_of(torch.ones(1, 1, count, dtype=torch.int16), ({}, {1}), num_classes=2)
    d, std = 1.5, 2.0
    probability = quad(lambda e: expit(d + std * e) * math.exp(-e * e / 2) / math.sqrt(2 * math.pi), -9, 9)[0]
    log_odds, log_variance = torch.full((1, 1, count), d), torch.full((1, 1, count), 2 * math.log(std))
    many = noisy_cross_entropy(log_odds[..., :500], log_variance[..., :500], crop(target, 500), num_samples=2000)
    assert many.item() == pytest.approx(-math.log(probability), abs=5e-3)
    single = noisy_cross_entropy(log_odds, log_variance, target, num_samples=1)
    expected = quad(lambda e: -math.log(expit(d + std * e)) * math.exp(-e * e / 2) / math.sqrt(2 * math.pi), -9, 9)[0]
    assert single.item() == pytest.approx(expected, rel=0.02)


def crop(target, count: int):
    return target_of(target.labels[..., :count], ({}, {1}), num_classes=2)


@pytest.mark.parametrize("d", [-6.0, -1.0, 0.3, 2.0, 8.0])
@pytest.mark.parametrize("std", [0.1, 1.0, 3.0])
def test_the_closed_form_is_near_the_integral(d, std):
    exact = quad(lambda e: expit(d + std * e) * math.exp(-e * e / 2) / math.sqrt(2 * math.pi), -9, 9)[0]
    found = expected_log_odds(torch.tensor([[[d]]]), torch.tensor([[[2 * math.log(std)]]])).item()
    assert found == pytest.approx(d / math.sqrt(1 + math.pi * std**2 / 8), rel=1e-5)
    assert expit(found) == pytest.approx(exact, abs=0.02)
    assert np.sign(found) == np.sign(logit(exact))


def test_noise_makes_less_sure_and_never_decides_otherwise():
    d = torch.linspace(-5, 5, 11).view(1, 1, -1)
    quiet, noisy = expected_log_odds(d, torch.zeros_like(d)), expected_log_odds(d, torch.full_like(d, 3))
    assert (noisy.abs() <= quiet.abs()).all()
    assert (noisy.sign() == d.sign()).all()
    assert expected_log_odds(d, torch.full_like(d, 1e4)).isfinite().all()


def test_noise_is_learned_where_the_network_is_wrong_and_unlearned_where_it_is_right():
    torch.manual_seed(0)
    target = target_of(torch.tensor([[[1, 1]]]), ({}, {1}), num_classes=2)
    log_odds = torch.tensor([[[4.0, -4.0]]])  # right, wrong
    log_variance = torch.zeros(1, 1, 2, requires_grad=True)
    for _ in range(50):
        noisy_cross_entropy(log_odds, log_variance, target, num_samples=50).backward()
    right, wrong = log_variance.grad.flatten().tolist()
    assert right > 0 > wrong  # downhill: less noise where it is right, more where it is wrong


def test_nothing_known_gives_a_zero_that_keeps_the_graph():
    target = target_of(torch.zeros(1, 1, 4, dtype=torch.int16), ({0: {0, 1, 2}}, set()), num_classes=3)
    log_odds = torch.randn(1, 2, 4, requires_grad=True)
    loss = noisy_cross_entropy(log_odds, torch.randn(1, 2, 4), target, num_samples=2)
    loss.backward()
    assert loss.item() == 0
    assert not log_odds.grad.any()


def test_an_unannotated_class_gets_no_push():
    _, target = random_case(0)
    log_odds, log_variance = torch.randn(2, 4, 4, 5, 3), torch.randn(2, 4, 4, 5, 3, requires_grad=True)
    noisy_cross_entropy(log_odds, log_variance, target, num_samples=3).backward()
    background = target.labels[1, 0] == 0
    assert not log_variance.grad[1, 3][background].any()
    assert log_variance.grad[1, 0][background].all()


def test_gradcheck():
    _, target = random_case(1, shape=(2, 3))
    pair = [torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def same_noise(log_odds, log_variance):
        torch.manual_seed(0)
        return noisy_cross_entropy(log_odds, log_variance, target, num_samples=2)

    assert torch.autograd.gradcheck(same_noise, pair)


def test_half_precision_is_left_for_float32():
    _, target = random_case(0)
    log_odds = torch.full((2, 4, 4, 5, 3), 60.0).half()
    loss = noisy_cross_entropy(log_odds, torch.full_like(log_odds, 30), target, num_samples=2)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert expected_log_odds(log_odds, log_odds).dtype == torch.float32


@pytest.mark.parametrize("name", ["log_odds", "log_variance"])
def test_refuses_bad_shapes(name):
    _, target = random_case(0)
    tensors = {key: torch.zeros(2, 4, 4, 5, 3) for key in ("log_odds", "log_variance")}
    tensors[name] = torch.zeros(2, 5, 4, 5, 3)
    with pytest.raises(ValueError, match=rf"{name} must have shape \(B, K, \*S\) = \(2, 4, 4, 5, 3\)"):
        noisy_cross_entropy(target=target, num_samples=2, **tensors)
