"""A loss by annotation, and what a network is taught beside it: the form that all helped trainers' losses have."""

from typing import Any

from torch import Tensor, nn

from nnunet_partial.targets import TaughtTarget


class TaughtLoss(nn.Module):
    """A loss by annotation, and further terms in training.

    Args:
        supervised: The loss by annotation, called as nnU-Net calls it; in validation it is all there is.
    """

    def __init__(self, supervised: nn.Module):
        super().__init__()
        self.supervised = supervised

    def forward(self, output: Any, target: Any) -> Tensor:
        """The sum of both, a scalar."""
        if not isinstance(target, TaughtTarget):
            return self.supervised(output, target)
        return self.supervised(output, target.supervised) + self.further_terms(output, target)

    def further_terms(self, output: Any, target: TaughtTarget) -> Tensor | float:
        """What is added in training; a scalar, 0 where there is nothing yet."""
        raise NotImplementedError


def full_resolution(output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """The logits at the network's own resolution; nnU-Net puts them first."""
    return output[0] if isinstance(output, (list, tuple)) else output
