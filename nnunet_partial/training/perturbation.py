"""What a teacher sees of an image: the same, with noise."""

import torch
from torch import Tensor


def with_noise(image: Tensor, std: float, *, num_image_channels: int) -> Tensor:
    """The image with Gaussian noise, cut at twice its standard deviation.

    Args:
        image: A batch of patches as the network is given them.
        std: Standard deviation, in units of normalised intensity.
        num_image_channels: The first channels, which are images; those of a cascade that follow are classes, and stay.
    Shape:
        image (B, channels, *S); returns the same shape.
    Source: Yu et al. 2019 (UA-MT), which Shi et al. 2022 compare with: standard deviation 0.1, cut at 0.2.
    """
    if std == 0:
        return image
    noise = (std * torch.randn_like(image)).clamp(-2 * std, 2 * std)
    noise[:, num_image_channels:] = 0
    return image + noise
