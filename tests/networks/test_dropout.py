"""Monte Carlo dropout on nnU-Net's own architectures: off it changes nothing, on it is countable by hand."""

import pytest
import torch
from torch import nn

from nnunet_partial.networks import LastFeatures, MonteCarloDropout, decoder_dropout
from tests.networks.test_confidence_model import FEATURES, unet


def ready(dims: int = 3, **options) -> nn.Module:
    torch.manual_seed(0)
    network = unet(dims, **options).eval()
    network.decoder.deep_supervision = False
    return network


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_on_it_changes_what_is_predicted_and_off_nothing_at_all(dims, residual):
    network, image = ready(dims, residual=residual), torch.randn(2, 1, *[16] * dims)
    before, state = network(image), {name: value.clone() for name, value in network.state_dict().items()}
    with decoder_dropout(network, 0.5):
        during = network(image)
        assert network.state_dict().keys() == state.keys()
    assert not torch.equal(during, before)
    assert torch.equal(network(image), before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def test_whole_channels_are_dropped_and_the_others_scaled():
    network, image = ready(), torch.randn(2, 1, 16, 16, 16)
    read = LastFeatures(network)
    with decoder_dropout(network, 0.25):
        network(image)
    dropped = read.take()
    network(image)
    whole = read.take()
    factors = (dropped / whole)[:, :, 8, 8, 8].flatten()
    assert len(factors) == 2 * FEATURES
    torch.testing.assert_close(dropped, whole * factors.view(2, FEATURES, 1, 1, 1))  # all voxels of a channel alike
    assert {round(factor, 4) for factor in factors.tolist()} == {0, 1.3333}


@torch.no_grad()
def test_the_mean_of_passes_is_that_of_each():
    network, image = ready(), torch.randn(1, 1, 16, 16, 16)
    generator = torch.Generator().manual_seed(3)
    several = MonteCarloDropout(network, 0.3, 4, generator)
    expected = torch.stack([logits.softmax(1) for logits in several.each(image)])
    assert expected.std(0).max() > 0, "all passes were alike"
    generator.manual_seed(3)
    torch.testing.assert_close(several(image), expected.mean(0))


@torch.no_grad()
def test_a_generator_s_seed_says_what_is_dropped_whatever_else_is_drawn():
    network, image = ready(), torch.randn(1, 1, 16, 16, 16)
    generator = torch.Generator()
    found = []
    for _ in range(2):
        generator.manual_seed(5)
        torch.rand(7)
        found.append(MonteCarloDropout(network, 0.3, 2, generator)(image))
    assert torch.equal(*found)
    assert not torch.equal(MonteCarloDropout(network, 0.3, 2, generator)(image), found[0])


def test_an_abandoned_pass_leaves_no_hook():
    network = ready()
    with pytest.raises(ZeroDivisionError), decoder_dropout(network, 0.5):
        raise ZeroDivisionError
    passes = MonteCarloDropout(network, 0.5, 3).each(torch.randn(1, 1, 16, 16, 16))
    next(passes)
    assert not any(stage._forward_hooks for stage in network.decoder.stages)


def test_refusals():
    with pytest.raises(ValueError, match=r"a dropout rate lies in \[0, 1\), got 1"), decoder_dropout(ready(), 1):
        pass
    with pytest.raises(NotImplementedError, match=r"Sequential has no decoder\.stages"), decoder_dropout(nn.Sequential(), 0.5):
        pass
