"""The discriminator: sizes of patches, what it learns and what it never learns from."""

import pytest
import torch
from torch.nn import functional as F

from nnunet_partial.networks import Discriminator
from nnunet_partial.training.learner import Learner


@pytest.mark.parametrize("patch_size", [(64, 48), (321, 321), (24, 24, 24), (4, 20, 33), (1, 16, 40), (7, 5)])
def test_the_verdict_has_the_size_of_the_map(patch_size):
    maps = torch.randn(2, 3, *patch_size).softmax(1)
    verdict = Discriminator(3, patch_size, width=4)(maps)
    assert verdict.shape == (2, 1, *patch_size)
    assert verdict.isfinite().all()


def test_the_papers_channels():
    layers = [layer for layer in Discriminator(5, (128, 128)).layers if isinstance(layer, torch.nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [
        (5, 64),
        (64, 128),
        (128, 256),
        (256, 512),
        (512, 1),
    ]
    assert {(layer.kernel_size, layer.stride) for layer in layers} == {((4, 4), (2, 2))}


def test_a_flat_axis_is_halved_no_further():
    layers = [layer for layer in Discriminator(2, (8, 64, 64), width=2).layers if isinstance(layer, torch.nn.Conv3d)]
    assert [layer.stride for layer in layers] == [(2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2)]


def test_who_asks_for_a_verdict_teaches_nothing():
    discriminator = Discriminator(3, (16, 16), width=4)
    maps = torch.randn(2, 3, 16, 16).softmax(1).requires_grad_()
    verdict = discriminator.judge(maps)
    torch.testing.assert_close(verdict, discriminator(maps), rtol=0, atol=0)
    verdict.sum().backward()
    assert maps.grad.abs().sum() > 0
    assert all(weight.grad is None and weight.requires_grad for weight in discriminator.parameters())


def test_it_judges_in_float32_under_autocast():
    discriminator, maps = Discriminator(3, (16, 16), width=4), torch.rand(1, 3, 16, 16)
    expected = discriminator(maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(discriminator(maps), expected, rtol=0, atol=0)
    assert discriminator(maps.half()).dtype == torch.float32


def test_it_learns_to_tell_two_maps_apart_and_goes_on_where_it_was():
    def learner() -> Learner:
        network = Discriminator(2, (16, 16), width=4)
        return Learner(network, torch.optim.Adam(network.parameters(), 1e-2))

    def loss(network: Discriminator) -> torch.Tensor:
        sharp = torch.zeros(1, 2, 16, 16)
        sharp[:, 1] = 1
        return F.softplus(network(torch.full_like(sharp, 0.5))).mean() + F.softplus(-network(sharp)).mean()

    torch.manual_seed(0)
    first, second = learner(), learner()
    start = float(loss(first.network).detach())
    for _ in range(20):
        first.step(loss(first.network))
    assert float(loss(first.network).detach()) < 0.5 * start
    second.load_state_dict(first.state_dict())
    for each in (first, second):
        each.step(loss(each.network))
    for ours, theirs in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
