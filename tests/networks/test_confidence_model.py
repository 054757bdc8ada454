"""The confidence network on nnU-Net's own architectures."""

import copy

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_partial.losses.log_odds import binary_log_odds
from nnunet_partial.networks import ConfidenceModel, ConfidenceNetwork, VarianceModel
from nnunet_partial.networks.confidence import PAPER_WIDTHS

FEATURES = 6


def unet(dims: int, *, residual: bool = False) -> nn.Module:
    blocks = {"n_blocks_per_stage" if residual else "n_conv_per_stage": (1, 1)}
    norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    return (ResidualEncoderUNet if residual else PlainConvUNet)(
        input_channels=1,
        n_stages=2,
        features_per_stage=(FEATURES, 8),
        conv_op={2: nn.Conv2d, 3: nn.Conv3d}[dims],
        kernel_sizes=3,
        strides=(1, 2),
        num_classes=4,
        n_conv_per_stage_decoder=(1,),
        conv_bias=True,
        norm_op=norm,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
        **blocks,
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_channel_for_each_organ(dims, residual, frozen):
    model = ConfidenceModel(unet(dims, residual=residual), 3, binary_log_odds, frozen=frozen)
    assert model(torch.randn(2, 1, *[16] * dims)).shape == (2, 3, *[16] * dims)


def test_head_sees_what_the_last_convolution_sees():
    """With the last convolution of the network for a head, the correction is the network's own logits."""
    network = unet(3).eval()
    model = ConfidenceModel(network, 4, lambda logits: logits, widths=()).eval()
    last = network.decoder.seg_layers[-1]
    model.head.layers[-1].load_state_dict(last.state_dict())
    network.decoder.deep_supervision = False
    image = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(model(image), 2 * network(image))


def test_before_the_first_step_it_is_maximum_class_probability():
    network = unet(3).eval()
    model = ConfidenceModel(network, 3, binary_log_odds).eval()
    network.decoder.deep_supervision = False
    image = torch.randn(1, 1, 16, 16, 16)
    own = binary_log_odds(network(image))
    torch.testing.assert_close(model(image), own)
    predicted = own > 0
    torch.testing.assert_close(model(image, predicted), own.abs())  # sure of what it says, and of what it does not


def test_layers_of_table_11():
    """U-Net's 64 features in 2D: about 0.8 million parameters, as the paper says."""
    head = ConfidenceNetwork(64, 7, widths=PAPER_WIDTHS, dims=2)
    convolutions = [layer for layer in head.layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [400, 120, 64, 64, 7]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3)] * 4 + [(1, 1)]
    assert sum(parameter.numel() for parameter in head.parameters()) == pytest.approx(0.8e6, rel=0.06)


def test_default_widths_follow_the_features():
    head = ConfidenceNetwork(FEATURES, 3, dims=3)
    assert [layer.out_channels for layer in head.layers if isinstance(layer, nn.Conv3d)] == [12, 6, 6, 6, 3]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_segmentation_network_keeps_its_weights(frozen):
    network = unet(3)
    before = copy.deepcopy(network.state_dict())
    model = ConfidenceModel(network, 3, binary_log_odds, frozen=frozen).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    backbone_moved = any(not torch.equal(before[name], value) for name, value in model.backbone.state_dict().items())
    assert backbone_moved is not frozen
    assert network.decoder.deep_supervision


def test_a_network_without_known_features_is_refused():
    with pytest.raises(NotImplementedError, match=r"Sequential has no decoder.seg_layers.*--criterion mcp"):
        ConfidenceModel(nn.Sequential(nn.Conv3d(1, 2, 1)), 1, binary_log_odds)


@pytest.mark.parametrize("frozen", [False, True])
def test_noise_begins_alike_everywhere_beside_the_networks_own_log_odds(frozen):
    network = unet(3).eval()
    model = VarianceModel(network, 3, binary_log_odds, frozen=frozen).eval()
    network.decoder.deep_supervision = False
    image = torch.randn(1, 1, 16, 16, 16)
    mean, log_variance = model(image)
    torch.testing.assert_close(mean, binary_log_odds(network(image)))
    assert log_variance.shape == mean.shape
    assert not log_variance.any()
    (mean + log_variance).sum().backward()
    learning = {name.partition(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert learning == ({"head"} if frozen else {"backbone", "head"})
