"""The rise of a weight, and the noise that a teacher sees."""

import math

import pytest
import torch

from nnunet_partial.training.perturbation import with_noise
from nnunet_partial.training.ramp_up import sigmoid_ramp_up


@pytest.mark.parametrize(
    ("epoch", "expected"), [(-3, math.exp(-5)), (0, math.exp(-5)), (40, math.exp(-1.25)), (80, 1.0), (1000, 1.0)]
)
def test_ramp_up(epoch, expected):
    assert sigmoid_ramp_up(epoch, 80) == pytest.approx(expected)


def test_no_ramp_up_is_the_full_weight_at_once():
    assert sigmoid_ramp_up(0, 0) == 1


def test_noise_is_cut_at_twice_its_standard_deviation():
    image = torch.randn(2, 1, 64, 64)
    gap = with_noise(image, 0.1, num_image_channels=1) - image
    assert gap.abs().max() <= 0.2 + 1e-6
    assert gap.std() == pytest.approx(0.0959, rel=0.05)  # of a normal distribution cut there
    assert gap.mean().abs() < 0.01


def test_classes_of_a_cascade_and_the_image_itself_stay():
    image = torch.ones(1, 3, 8, 8)
    noisy = with_noise(image, 0.1, num_image_channels=1)
    assert (noisy[:, 0] != 1).any()
    assert (noisy[:, 1:] == 1).all()
    assert (image == 1).all()


def test_no_noise():
    image = torch.ones(1, 1, 4)
    assert with_noise(image, 0, num_image_channels=1) is image
