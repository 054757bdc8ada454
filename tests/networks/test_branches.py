"""Conservative and radical branch on nnU-Net's own architectures, and what reads their features."""

import pytest
import torch
from test_confidence_model import FEATURES, unet
from torch import nn
from torch.testing import assert_close

from nnunet_partial.networks import Branches, LastFeatures, Relabeller


def image_of(dims: int) -> torch.Tensor:
    return torch.randn(2, 1, *[16] * dims)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
class TestBranches:
    def test_two_answers_for_each_organ(self, dims, residual):
        network = unet(dims, residual=residual)
        features = LastFeatures(network)
        network(image_of(dims))
        conservative, radical = Branches(network, 3)(features.take())
        assert conservative.shape == radical.shape == (2, 3, *[16] * dims)
        assert not torch.equal(conservative, radical)

    def test_layers_are_the_papers_made_as_the_networks(self, dims, residual):
        """Two 3 x 3 and one 1 x 1 convolution (section III D 2)."""
        for branch in Branches(unet(dims, residual=residual), 3).children():
            leaves = [module for module in branch.modules() if not list(module.children())]
            convolution, norm = {2: (nn.Conv2d, nn.InstanceNorm2d), 3: (nn.Conv3d, nn.InstanceNorm3d)}[dims]
            assert [type(leaf) for leaf in leaves] == [convolution, norm, nn.LeakyReLU] * 2 + [convolution]
            assert [leaf.kernel_size for leaf in leaves[::3]] == [(3,) * dims] * 2 + [(1,) * dims]
            assert [leaf.out_channels for leaf in leaves[::3]] == [FEATURES, FEATURES, 3]

    def test_the_network_keeps_its_state(self, dims, residual):
        network = unet(dims, residual=residual)
        names = set(network.state_dict())
        LastFeatures(network)
        Branches(network, 3)
        assert set(network.state_dict()) == names


class TestLastFeatures:
    def test_are_what_the_last_convolution_gets(self):
        network = unet(3)
        features = LastFeatures(network)
        logits = network(image_of(3))[0]
        assert_close(network.decoder.seg_layers[-1](features.take()), logits)

    def test_are_given_once(self):
        network = unet(3)
        features = LastFeatures(network)
        network(image_of(3))
        features.take()
        with pytest.raises(AssertionError, match="has not run since"):
            features.take()

    def test_of_a_compiled_network_carry_its_gradient(self):
        """nnU-Net compiles on a GPU; here the graph is taken as it would be, without the code generator."""
        network = unet(2)
        compiled = torch.compile(network, backend="aot_eager")
        features = LastFeatures(network)
        gradients = []
        for run in (compiled, compiled, network):
            network.zero_grad()
            torch.manual_seed(0)
            output = run(image_of(2))
            (output[0].square().mean() + features.take().square().mean()).backward()
            gradients.append([parameter.grad.clone() for parameter in network.encoder.parameters()])
        assert_close(gradients[0], gradients[2])
        assert_close(gradients[1], gradients[2])

    def test_a_network_without_known_features_is_refused(self):
        with pytest.raises(NotImplementedError, match=r"Sequential has no decoder\.seg_layers"):
            LastFeatures(nn.Sequential(nn.Conv3d(1, 2, 1)))


class TestRelabeller:
    def test_answers_as_network_and_branches_did(self):
        network = unet(3)
        branches = Branches(network, 3)
        relabeller = Relabeller(network, branches)
        features = LastFeatures(network)
        image = image_of(3)
        network.eval()
        expected = network(image)[0], *branches(features.take())
        with torch.no_grad():
            for parameter in [*network.parameters(), *branches.parameters()]:
                parameter.add_(1)
        assert_close(relabeller(image), expected)
        relabeller.refresh(network, branches)
        assert_close(relabeller(image), (network(image)[0], *branches(features.take())))

    def test_learns_nothing_and_stays_in_evaluation_mode(self):
        network = unet(3)
        relabeller = Relabeller(network, Branches(network, 3)).train()
        assert not any(module.training for module in relabeller.modules())
        assert not any(answer.requires_grad for answer in relabeller(image_of(3)))
        assert not any(parameter.requires_grad for parameter in relabeller.parameters())
        assert network.decoder.deep_supervision
