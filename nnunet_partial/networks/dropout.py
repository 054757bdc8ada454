"""Dropout in nnU-Net's U-Nets, which have none, and the mean of what a network says under it (Gal & Ghahramani 2016)."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nnunet_partial.networks.last_features import last_layer


def add_dropout(
    network: nn.Module, rate: float, *, in_evaluation: bool = False, generator: torch.Generator | None = None
) -> list[RemovableHandle]:
    """Drop whole channels behind the last stage of the encoder, and of the decoder before the logits of full resolution.

    The network's modules and its state dict stay as they are.

    Args:
        network: One of nnU-Net's U-Nets, without what torch.compile and DDP wrap around it; to be given before its first run,
            because a compiled network does not look for hooks again.
        rate: Share of the channels that is dropped; the others are scaled up.
        in_evaluation: Drop in evaluation mode too.
        generator: What is dropped is drawn from it; None for torch's own.
    Returns:
        Handles whose `remove` takes the dropout out again.
    Raises:
        NotImplementedError: the network has no `encoder.stages` or no `decoder.seg_layers`.
    Source: the two places of Yu et al. 2019 (UA-MT; V-Net, rate 0.5), and of Shi et al. 2022 (table VI, U-Net).
    """
    last = last_layer(network)
    stages = getattr(getattr(network, "encoder", None), "stages", None)
    if not stages:
        raise NotImplementedError(
            f"{type(network).__name__} has no encoder.stages, so dropout has no place; it works on nnU-Net's U-Nets alone"
        )

    def drop(module: nn.Module, features: Tensor) -> Tensor:
        return _dropped(features, rate, generator) if module.training or in_evaluation else features

    return [
        stages[-1].register_forward_hook(lambda stage, _, features: drop(stage, features)),
        last.register_forward_pre_hook(lambda layer, inputs: (drop(layer, *inputs),)),
    ]


def dropped_passes(
    network: nn.Module,
    image: Tensor,
    *,
    passes: int,
    rate: float,
    view: Callable[[Tensor], Tensor] = lambda image: image,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """The logits (B, C, *S) of one pass under dropout after the other; between them the network is as it was.

    Args: see `log_mean_probabilities`.
    """
    for _ in range(passes):
        handles = add_dropout(network, rate, in_evaluation=True, generator=generator)
        try:
            logits = network(view(image))
        finally:
            for handle in handles:
                handle.remove()
        yield logits


@torch.no_grad()
def log_mean_probabilities(
    network: nn.Module, image: Tensor, *, passes: int, rate: float, view: Callable[[Tensor], Tensor] = lambda image: image
) -> Tensor:
    """Logarithm of the mean of a network's softmax over several passes under dropout (Monte Carlo dropout).

    One pass is held at a time, and means are taken of logarithms, so that no probability is rounded to 0. `.exp()` is the mean
    probability; as logits, the result has that for its softmax.

    Args:
        network: See `add_dropout`; in the mode it is to be asked in, without deep supervision and without dropout of its own. A
            network in evaluation mode is asked with dropout all the same, and left without.
        image: A batch of patches.
        passes: T.
        rate: See `add_dropout`.
        view: What a pass sees of the image, such as noise on it, drawn anew each time.
    Shape:
        image (B, channels, *S); returns (B, C, *S), float32 at least.
    Raises:
        NotImplementedError: see `add_dropout`.
    Source: Yu et al. 2019 (UA-MT), eq. (2), the mean.
    """
    each = dropped_passes(network, image, passes=passes, rate=rate, view=view)
    total = _log_probabilities(next(each))
    for logits in each:
        total = torch.logaddexp(total, _log_probabilities(logits))
    return total - math.log(passes)


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)


def _dropped(features: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Whole channels: a neighbour's value would fill in a single voxel's at the next convolution."""
    kept = features.new_empty((*features.shape[:2], *[1] * (features.ndim - 2))).bernoulli_(1 - rate, generator=generator)
    return features * kept.div_(1 - rate)
