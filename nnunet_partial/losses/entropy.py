"""Entropy of a network's distribution on the candidate classes (Grandvalet & Bengio 2005; Vu et al. 2019, ADVENT)."""

from typing import Any

from torch import Tensor, nn

from nnunet_partial.losses.consistency import logits_on_candidates
from nnunet_partial.losses.taught import TaughtLoss, full_resolution
from nnunet_partial.losses.voxel_mean import voxel_mean
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels, candidate_map


def candidate_entropy(logits: Tensor, target: PartialTarget) -> Tensor:
    """Entropy of the distribution given the candidate set, by the largest that a set of its size can have.

    An impossible class adds nothing. Divided by ln |S(v)|, a voxel between two classes can be as undecided as one that may be
    anything: both reach 1, where by ln C the former would pass for half decided whatever the network said of it.

    Args:
        logits: Network output before softmax.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); returns (B, 1, *S) in [0, 1], 0 where there is one candidate; float32 at least.
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    log_p = logits_on_candidates(logits, target).log_softmax(1)
    candidates = candidate_map(target)
    entropy = -(log_p.exp() * log_p.masked_fill(~candidates, 0)).sum(1, keepdim=True)  # p log p is 0 at p = 0
    return entropy / candidates.sum(1, keepdim=True).clamp_min(2).to(entropy).log()


def entropy_loss(logits: Tensor, target: PartialTarget) -> Tensor:
    """Entropy on the candidate classes, mean over the voxels that have several.

    Args:
        logits: Network output before softmax.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); returns a scalar in [0, 1].
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    Source: Grandvalet & Bengio 2005, whose conditional entropy is likewise that of the distribution on an example's candidate
        labels; Vu et al. 2019 (ADVENT), direct entropy minimisation, whose map is divided by its largest value.
    """
    return voxel_mean(candidate_entropy(logits, target), ambiguous_voxels(target))


class EntropyMinimizationLoss(TaughtLoss):
    """A loss by annotation, and the entropy at full resolution on ambiguous voxels.

    Args:
        supervised: See `TaughtLoss`.
        weight_entropy: Weight of the entropy.
    """

    def __init__(self, supervised: nn.Module, *, weight_entropy: float = 1e-3):
        super().__init__(supervised)
        self.weight_entropy = weight_entropy

    def further_terms(self, output: Any, target: TaughtTarget) -> Tensor | float:
        """The entropy, weighted."""
        if target.weight == 0:
            return 0.0
        return target.weight * self.weight_entropy * entropy_loss(full_resolution(output), target.full_resolution)
