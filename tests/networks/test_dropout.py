"""Dropout by hooks: where, when, of what share; and the mean over passes against a sum by hand."""

import pytest
import torch
from test_confidence_model import unet
from torch import nn
from torch.testing import assert_close

from nnunet_partial.networks import add_dropout, dropped_passes, log_mean_probabilities


def image_of(dims: int) -> torch.Tensor:
    return torch.randn(2, 1, *[16] * dims)


def single(dims: int, **options) -> nn.Module:
    """A network in evaluation mode that answers at full resolution alone."""
    network = unet(dims, **options).eval()
    network.decoder.deep_supervision = False
    return network


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
class TestAddDropout:
    def test_whole_channels_at_two_places_and_the_others_scaled(self, dims, residual):
        network = unet(dims, residual=residual)
        before, after = {}, {}
        network.encoder.stages[-1].register_forward_hook(lambda _, __, x: before.__setitem__("encoder", x))
        network.decoder.stages[-1].register_forward_hook(lambda _, __, x: before.__setitem__("decoder", x))
        add_dropout(network, 0.75)
        network.decoder.transpconvs[0].register_forward_pre_hook(lambda _, inputs: after.__setitem__("encoder", inputs[0]))
        network.decoder.seg_layers[-1].register_forward_pre_hook(lambda _, inputs: after.__setitem__("decoder", inputs[0]))
        kept = {"encoder": [], "decoder": []}
        for _ in range(25):
            network(image_of(dims))
            for place, shares in kept.items():
                ratio = (after[place] / before[place]).flatten(2)
                assert_close(ratio, ratio[..., :1].expand_as(ratio))
                assert set(ratio[..., 0].round(decimals=3).flatten().tolist()) <= {0.0, 4.0}
                shares.append((ratio > 0).float().mean())
        assert float(torch.stack(kept["encoder"]).mean()) == pytest.approx(0.25, abs=0.09)
        assert float(torch.stack(kept["decoder"]).mean()) == pytest.approx(0.25, abs=0.12)

    def test_in_training_alone_and_with_a_stock_state_dict(self, dims, residual):
        network, image = unet(dims, residual=residual), image_of(dims)
        names = list(network.state_dict())
        plain = network.eval()(image)[0]
        handles = add_dropout(network, 0.5)
        assert list(network.state_dict()) == names
        assert torch.equal(network(image)[0], plain)
        assert not torch.equal(network.train()(image)[0], plain)
        for handle in handles:
            handle.remove()
        assert_close(network(image)[0], plain)


def test_a_compiled_network_drops_in_training_and_not_in_evaluation():
    """nnU-Net compiles on a GPU; here the graph is taken as it would be, without the code generator."""
    network, image = unet(2), image_of(2)
    compiled = torch.compile(network, backend="aot_eager")
    add_dropout(network, 0.5)
    for _ in range(2):
        assert not torch.equal(compiled.train()(image)[0], compiled(image)[0])
        assert_close(compiled.eval()(image)[0], network(image)[0])
        assert torch.equal(compiled(image)[0], compiled(image)[0])


class TestLogMeanProbabilities:
    def test_is_the_mean_of_the_passes_softmax(self):
        network, image = single(3), image_of(3)
        torch.manual_seed(1)
        handles = add_dropout(network, 0.5, in_evaluation=True)
        passes = [network(image).double().softmax(1) for _ in range(3)]
        for handle in handles:
            handle.remove()
        assert not torch.equal(passes[0], passes[1])
        torch.manual_seed(1)
        found = log_mean_probabilities(network, image, passes=3, rate=0.5)
        assert not found.requires_grad
        assert_close(found.exp().double(), sum(passes) / 3, rtol=1e-5, atol=1e-6)

    def test_one_pass_without_dropout_is_the_networks_own(self):
        network, image = single(2), image_of(2)
        assert_close(log_mean_probabilities(network, image, passes=1, rate=0), network(image).log_softmax(1))

    def test_each_pass_has_a_view_of_its_own(self):
        network, image = single(2), image_of(2)
        views = iter([image, 2 * image])
        found = log_mean_probabilities(network, image, passes=2, rate=0, view=lambda _: next(views))
        assert_close(found.exp(), (network(image).softmax(1) + network(2 * image).softmax(1)) / 2)

    def test_the_network_is_left_as_it_was_even_by_an_error(self):
        network, image = single(2), image_of(2)
        plain = network(image)
        with pytest.raises(KeyError):
            log_mean_probabilities(network, image, passes=2, rate=0.5, view=lambda _: {}["view"])
        log_mean_probabilities(network, image, passes=2, rate=0.5)
        assert torch.equal(network(image), plain)
        assert not network.training

    def test_probabilities_that_round_to_zero_keep_their_logarithm_in_half_precision_too(self):
        class Sure(nn.Module):
            def forward(self, image):
                return torch.tensor([0.0, 300.0, 100.0]).half().view(1, 3, 1).expand(len(image), 3, image.shape[2])

        network = Sure()
        network.encoder, network.decoder = nn.Module(), nn.Module()
        network.encoder.stages, network.decoder.seg_layers = (nn.ModuleList([nn.Identity()]) for _ in range(2))
        found = log_mean_probabilities(network, torch.zeros(1, 1, 2), passes=2, rate=0.5)
        assert found.dtype == torch.float32
        assert_close(found[0, :, 0], torch.tensor([-300.0, 0.0, -200.0]))

    def test_other_networks_are_refused(self):
        with pytest.raises(NotImplementedError, match=r"Sequential has no decoder\.seg_layers"):
            add_dropout(nn.Sequential(nn.Conv3d(1, 2, 1)), 0.5)
        network = unet(2)
        network.encoder.stages = nn.ModuleList()
        with pytest.raises(NotImplementedError, match=r"has no encoder\.stages, so dropout has no place"):
            add_dropout(network, 0.5)


class TestDroppedPasses:
    @torch.no_grad()
    def test_a_generator_s_seed_says_what_is_dropped_whatever_else_is_drawn(self):
        network, image, generator = single(3), image_of(3), torch.Generator()
        found = []
        for _ in range(2):
            generator.manual_seed(5)
            torch.rand(7)
            found.append(torch.stack(list(dropped_passes(network, image, passes=2, rate=0.3, generator=generator))))
        assert torch.equal(*found)
        assert not torch.equal(*found[0])
        assert not torch.equal(next(dropped_passes(network, image, passes=1, rate=0.3, generator=generator)), found[0][0])

    @torch.no_grad()
    def test_an_abandoned_pass_leaves_no_hook(self):
        network = single(3)
        before = network(image := image_of(3))
        next(dropped_passes(network, image, passes=3, rate=0.5))
        assert torch.equal(network(image), before)
