"""The loss of CoraNet: annotation, conservative and radical branch, self-training and consistency (Shi et al. 2022)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nnunet_partial.losses.conservative_radical import certain_voxels, conservative_loss, radical_loss
from nnunet_partial.losses.consistency import consistency_loss, logits_on_candidates
from nnunet_partial.losses.self_training import self_training_loss
from nnunet_partial.losses.taught import TaughtLoss, full_resolution
from nnunet_partial.targets import TaughtTarget, ambiguous_voxels


class CoraNetLoss(TaughtLoss):
    """Eq. (1) on what is annotated, eq. (7) on certain and eq. (8) on uncertain voxels of what is not.

    Eq. (7) and (8) are means over all ambiguous voxels, certain or not, so that a region weighs by its size as in the paper's
    sums (section III D 3). All terms make one step; the paper's algorithm 1 makes a step for each.

    Args:
        supervised: The loss of nnU-Net's own head by annotation (the paper's L_ce), see `TaughtLoss`.
        branches: Log-odds (B, K, *S) of the conservative and of the radical branch on the patches that the network saw last.
        cost: alpha of eq. (1).
        weight_self_training: Weight of eq. (7).
        weight_consistency: Weight of eq. (8).
    """

    def __init__(
        self,
        supervised: nn.Module,
        branches: Callable[[], tuple[Tensor, Tensor]],
        *,
        cost: float = 5.0,
        weight_self_training: float = 1.0,
        weight_consistency: float = 1.0,
    ):
        super().__init__(supervised)
        self.branches, self.cost = branches, cost
        self.weight_self_training, self.weight_consistency = weight_self_training, weight_consistency

    def further_terms(self, output: Any, target: TaughtTarget) -> Tensor:
        """The branches' own losses by annotation, and eq. (7) and (8) once there is a teacher."""
        partial = target.full_resolution
        conservative, radical = self.branches()
        loss = conservative_loss(conservative, partial, cost=self.cost) + radical_loss(radical, partial, cost=self.cost)
        return loss if target.teacher_logits is None else loss + target.weight * self._on_ambiguous(output, target)

    def _on_ambiguous(self, output: Any, target: TaughtTarget) -> Tensor:
        logits, partial = full_resolution(output), target.full_resolution
        ambiguous = ambiguous_voxels(partial)
        certain = certain_voxels(target.branches_agree, partial)
        labels = logits_on_candidates(target.label_logits, partial).argmax(1, keepdim=True)
        teacher = logits_on_candidates(target.teacher_logits, partial).softmax(1)
        self_trained, consistent = self.regions(ambiguous, certain)
        self_training = self_training_loss(logits, labels, self_trained, over=ambiguous)
        consistency = consistency_loss(logits, teacher, consistent, over=ambiguous)
        return self.weight_self_training * self_training + self.weight_consistency * consistency

    @staticmethod
    def regions(ambiguous: Tensor, certain: Tensor) -> tuple[Tensor, Tensor]:
        """Where eq. (7) holds, and where eq. (8)."""
        return ambiguous & certain, ambiguous & ~certain
