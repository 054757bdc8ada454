"""Consistency with a teacher (Tarvainen & Valpola 2017), on the voxels that the annotation leaves open."""

from typing import Any

from torch import Tensor, nn

from nnunet_partial.losses.candidates import candidate_probabilities
from nnunet_partial.losses.log_odds import at_least_float32
from nnunet_partial.losses.taught import TaughtLoss, full_resolution
from nnunet_partial.losses.voxel_mean import voxel_mean
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels


def logits_on_candidates(logits: Tensor, target: PartialTarget) -> Tensor:
    """The logit of n where n is a candidate class of the voxel, else minus infinity.

    Their softmax is the network's distribution *given* what the annotation says, and their largest is the class that it would
    choose among those the annotation allows. Without annotation both are the network's own.

    Args:
        logits: Network output before softmax.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); returns (B, C, *S), float32 at least.
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    return candidate_probabilities(logits, target).candidate_logits.view(logits.shape)


def consistency_loss(logits: Tensor, teacher_probabilities: Tensor, where: Tensor, *, over: Tensor | None = None) -> Tensor:
    """Squared distance of the student's distribution to the teacher's, mean over voxels.

    Args:
        logits: The student's output before softmax.
        teacher_probabilities: What it is to agree with; no gradient flows into it.
        where: The voxels that count.
        over: The voxels over which the mean is taken, if others than `where`.
    Shape:
        logits and teacher_probabilities (B, C, *S); where and over (B, 1, *S) bool; returns a scalar in [0, 2].
    Raises:
        ValueError: shapes differ.
    Source: Shi et al. 2022 (CoraNet), eq. (8), a mean over voxels in place of a sum, so that patches of any size weigh alike;
        over classes it stays the sum, so that more organs do not make it smaller.
    """
    if teacher_probabilities.shape != logits.shape:
        raise ValueError(f"the teacher's {tuple(teacher_probabilities.shape)} must have the logits' shape {tuple(logits.shape)}")
    student = at_least_float32(logits).softmax(1)
    squared = (student - teacher_probabilities.detach()).square().sum(1, keepdim=True)  # (B, 1, *S)
    return voxel_mean(squared, where, over)


class MeanTeacherLoss(TaughtLoss):
    """A loss by annotation, and consistency with the teacher on ambiguous voxels.

    With deep supervision the consistency is that of the full resolution alone, so that its weight does not depend on how many
    resolutions there are.

    Args:
        supervised: See `TaughtLoss`.
        weight_consistency: Weight of the consistency.
    """

    def __init__(self, supervised: nn.Module, *, weight_consistency: float = 1.0):
        super().__init__(supervised)
        self.weight_consistency = weight_consistency

    def further_terms(self, output: Any, target: TaughtTarget) -> Tensor | float:
        """The consistency, weighted; 0 where there is no teacher yet."""
        if target.teacher_logits is None:
            return 0.0
        teacher = logits_on_candidates(target.teacher_logits, target.full_resolution).softmax(1)
        consistency = consistency_loss(full_resolution(output), teacher, self.taught_voxels(target))
        return target.weight * self.weight_consistency * consistency

    def taught_voxels(self, target: TaughtTarget) -> Tensor:
        """True on the voxels that are to agree with the teacher: the ambiguous ones; (B, 1, *S)."""
        return ambiguous_voxels(target.full_resolution)
