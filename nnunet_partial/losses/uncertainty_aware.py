"""Consistency with a teacher where it is certain (Yu et al. 2019, UA-MT)."""

from torch import Tensor

from nnunet_partial.losses.consistency import MeanTeacherLoss
from nnunet_partial.losses.entropy import candidate_entropy
from nnunet_partial.targets import TaughtTarget


class UncertaintyAwareLoss(MeanTeacherLoss):
    """The mean teacher's loss on those ambiguous voxels alone on which the teacher's entropy is below a threshold.

    `TaughtTarget.teacher_logits` is to be the logarithm of a mean over several passes of the teacher. Taken given the candidate
    set, it is both what the student is to agree with and what the entropy is of. The mean is over the voxels kept, however few.

    Args: see `MeanTeacherLoss`.
    Source: Yu et al. 2019, eq. (2)-(3); entropy and threshold by the largest entropy of the voxel's candidate set.
    """

    def taught_voxels(self, target: TaughtTarget) -> Tensor:
        """True on ambiguous voxels of which the teacher is certain; (B, 1, *S)."""
        entropy = candidate_entropy(target.teacher_logits, target.full_resolution)
        return super().taught_voxels(target) & (entropy < target.entropy_threshold)
