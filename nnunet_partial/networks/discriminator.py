"""A fully convolutional discriminator: whether a map of class probabilities comes from annotation (Hung et al. 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

SMALLEST_HALVED = 4
"""Axes with fewer voxels are halved no further: a kernel of 4 and its padding would no longer fit on one."""


class Discriminator(nn.Module):
    """Five convolutions (kernel 4, stride 2) with leaky ReLU (0.2) between them, brought back to the size of the map.

    The paper's, with 64, 128, 256, 512 and 1 channels on images of 321 x 321. A patch may be small or flat: on an axis that has
    fewer than `SMALLEST_HALVED` voxels left, a convolution has kernel 3 and stride 1.

    Args:
        num_classes: C, channels of the maps.
        patch_size: Shape *S of the maps, two or three axes.
        width: Channels of the first convolution; each further one doubles them.
    Shape:
        maps (B, C, *S); returns log-odds of "annotation", (B, 1, *S).
    Source: Hung et al. 2018, section 4 (network architecture).
    """

    def __init__(self, num_classes: int, patch_size: Sequence[int], *, width: int = 64):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[len(patch_size)]
        layers: list[nn.Module] = []
        channels, sizes = num_classes, list(patch_size)
        for wanted in (width, 2 * width, 4 * width, 8 * width, 1):
            halved = [size >= SMALLEST_HALVED for size in sizes]
            kernel, stride = [4 if half else 3 for half in halved], [2 if half else 1 for half in halved]
            layers += [convolution(channels, wanted, kernel, stride, padding=1), nn.LeakyReLU(0.2, inplace=True)]
            channels, sizes = wanted, [size // 2 if half else size for size, half in zip(sizes, halved, strict=True)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, maps: Tensor) -> Tensor:
        """Log-odds that a voxel of the map was annotated, not predicted; in the weights' precision, whatever autocast does."""
        with torch.autocast(maps.device.type, enabled=False):
            coarse = self.layers(maps.to(self.layers[0].weight.dtype))
            return F.interpolate(coarse, maps.shape[2:], mode={4: "bilinear", 5: "trilinear"}[maps.ndim], align_corners=False)

    def judge(self, maps: Tensor) -> Tensor:
        """The same, asked by a network that learns from the answer: gradients flow to the maps and never to the weights."""
        return functional_call(self, {name: weight.detach() for name, weight in self.named_parameters()}, (maps,))
