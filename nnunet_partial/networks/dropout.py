"""Dropout in nnU-Net's U-Nets, which have none, and the mean of what a network says under it (Gal & Ghahramani 2016)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from nnunet_partial.networks.last_features import last_layer


def add_dropout(network: nn.Module, rate: float, *, in_evaluation: bool = False) -> list[RemovableHandle]:
    """Drop whole channels behind the last stage of the encoder, and of the decoder before the logits of full resolution.

    The network's modules and its state dict stay as they are.

    Args:
        network: One of nnU-Net's U-Nets, without what torch.compile and DDP wrap around it; to be given before its first run,
            because a compiled network does not look for hooks again.
        rate: Share of the channels that is dropped; the others are scaled up.
        in_evaluation: Drop in evaluation mode too.
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
    return [
        stages[-1].register_forward_hook(lambda stage, _, features: _dropped(features, rate, stage.training or in_evaluation)),
        last.register_forward_pre_hook(lambda layer, inputs: (_dropped(*inputs, rate, layer.training or in_evaluation),)),
    ]


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
    handles = add_dropout(network, rate, in_evaluation=True)
    try:
        total = _log_probabilities(network(view(image)))
        for _ in range(passes - 1):
            total = torch.logaddexp(total, _log_probabilities(network(view(image))))
    finally:
        for handle in handles:
            handle.remove()
    return total - math.log(passes)


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)


def _dropped(features: Tensor, rate: float, training: bool) -> Tensor:
    return (F.dropout3d if features.ndim == 5 else F.dropout2d)(features, rate, training)
