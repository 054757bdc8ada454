"""Conservative and radical branch on a segmentation network's last features (Shi et al. 2022, section III D 1)."""

import copy

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import Tensor, nn

from nnunet_partial.networks.last_features import LastFeatures, last_layer


class Branches(nn.Module):
    """Two branches of two convolutions and a 1 x 1 convolution each, made as the network's own last stage is.

    The third branch of the paper, the normal one, is nnU-Net's own last convolution, so that the network that is saved is
    nnU-Net's. Kernel (3 x 3 in the paper, here the plans' at full resolution), norm and nonlinearity are the network's.

    Args:
        network: One of nnU-Net's U-Nets.
        num_organs: K, foreground classes.
    Shape:
        features (B, channels, *S); returns log-odds of each organ, twice (B, K, *S): conservative, radical.
    Raises:
        NotImplementedError: the network has no `decoder.seg_layers`.
    """

    def __init__(self, network: nn.Module, num_organs: int):
        super().__init__()
        channels, made_as = last_layer(network).in_channels, network.decoder.encoder

        def branch() -> nn.Module:
            convolutions = StackedConvBlocks(
                2,
                made_as.conv_op,
                channels,
                channels,
                made_as.kernel_sizes[0],
                1,
                conv_bias=made_as.conv_bias,
                norm_op=made_as.norm_op,
                norm_op_kwargs=made_as.norm_op_kwargs,
                nonlin=made_as.nonlin,
                nonlin_kwargs=made_as.nonlin_kwargs,
            )
            return nn.Sequential(convolutions, made_as.conv_op(channels, num_organs, 1))

        self.conservative, self.radical = branch(), branch()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of the conservative and of the radical branch."""
        return self.conservative(features), self.radical(features)


class Relabeller(nn.Module):
    """Network and branches as they stood when they last were asked to label: a frozen copy of both.

    The paper stores a label map of every unlabelled image and renews it every 5 epochs. Patches are cut out of their cases anew,
    turned and scaled, at every step; the networks that would have drawn the map label the patch instead.

    Args:
        network: One of nnU-Net's U-Nets, before anything reads its features.
        branches: The branches on it.
    Shape:
        image (B, input channels, *S); returns logits (B, C, *S) and the log-odds of both branches, (B, K, *S) each.
    """

    def __init__(self, network: nn.Module, branches: Branches):
        super().__init__()
        self.network, self.branches = copy.deepcopy(network), copy.deepcopy(branches)
        self.network.decoder.deep_supervision = False
        self._features = LastFeatures(self.network)
        self.requires_grad_(False)
        self.eval()

    def refresh(self, network: nn.Module, branches: Branches) -> None:
        """Take over the weights as they stand now."""
        self.network.load_state_dict(network.state_dict())
        self.branches.load_state_dict(branches.state_dict())

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, log-odds of the conservative and of the radical branch."""
        logits = self.network(image)
        return logits, *self.branches(self._features.take())

    def train(self, mode: bool = True) -> "Relabeller":
        """It stays in evaluation mode."""
        return super().train(False)
