"""Dropout in a network that has none of its own: Monte Carlo dropout (Gal & Ghahramani 2016) on nnU-Net's U-Nets."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def decoder_dropout(network: nn.Module, rate: float, generator: torch.Generator | None = None) -> Iterator[None]:
    """While it is on, channels are dropped behind every stage of the network's decoder; weights and their names stay.

    Whole channels, because neighbouring voxels of a feature are so alike that single ones would be filled in by the next
    convolution. Behind the last stage stands the 1 x 1 convolution that makes logits.

    Args:
        network: One of nnU-Net's U-Nets, without what torch.compile and DDP wrap around it: a compiled network does not look for
            hooks again.
        rate: Probability with which a channel is dropped; the others are scaled by 1 / (1 - rate).
        generator: What is dropped is drawn from it; None for torch's own.
    Raises:
        NotImplementedError: the network has no `decoder.stages`.
        ValueError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"a dropout rate lies in [0, 1), got {rate}")
    stages = getattr(getattr(network, "decoder", None), "stages", None)
    if not stages:
        raise NotImplementedError(
            f"{type(network).__name__} has no decoder.stages behind which channels could be dropped; dropout works on nnU-Net's "
            "U-Nets alone"
        )

    def drop(_: nn.Module, __: tuple[Tensor, ...], features: Tensor) -> Tensor:
        kept = features.new_empty((*features.shape[:2], *[1] * (features.ndim - 2))).bernoulli_(1 - rate, generator=generator)
        return features * kept.div_(1 - rate)

    hooks = [stage.register_forward_hook(drop) for stage in stages]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class MonteCarloDropout(nn.Module):
    """Several passes through a network, each with other channels dropped, and what they say on average.

    Args:
        network: See `decoder_dropout`; it has to give logits of full resolution alone.
        rate: See `decoder_dropout`.
        passes: T.
        generator: See `decoder_dropout`.
    Shape:
        image (B, channels, *S); returns mean class probabilities (B, C, *S), float32.
    Source: Gal & Ghahramani 2016; Yu et al. 2019 (UA-MT) take T = 8.
    """

    def __init__(self, network: nn.Module, rate: float, passes: int, generator: torch.Generator | None = None):
        super().__init__()
        self.network, self.rate, self.passes, self.generator = network, rate, passes, generator

    def each(self, image: Tensor) -> Iterator[Tensor]:
        """The logits (B, C, *S) of one pass after the other; between them the network is as it was."""
        for _ in range(self.passes):
            with decoder_dropout(self.network, self.rate, self.generator):
                logits = self.network(image)
            yield logits

    def forward(self, image: Tensor) -> Tensor:
        """The mean of all passes' probabilities, which are not kept."""
        return sum(logits.float().softmax(1) / self.passes for logits in self.each(image))
