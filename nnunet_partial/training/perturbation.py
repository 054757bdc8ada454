"""An image with noise: what a teacher sees of it, and what is predicted once more to see what stays."""

import torch
from torch import Tensor


def with_noise(image: Tensor, std: float, *, num_image_channels: int, generator: torch.Generator | None = None) -> Tensor:
    """The image with Gaussian noise, cut at twice its standard deviation.

    Args:
        image: A batch of patches as the network is given them.
        std: Standard deviation, in units of normalised intensity.
        num_image_channels: The first channels, which are images; those of a cascade that follow are classes, and stay.
        generator: Noise is drawn from it; None for torch's own.
    Shape:
        image (B, channels, *S); returns the same shape.
    Source: Yu et al. 2019 (UA-MT), which Shi et al. 2022 compare with: standard deviation 0.1, cut at 0.2.
    """
    if std == 0:
        return image
    noise = (std * torch.empty_like(image).normal_(generator=generator)).clamp(-2 * std, 2 * std)
    noise[:, num_image_channels:] = 0
    return image + noise
