"""Marginal loss: an unannotated organ is part of a merged background (Shi et al. 2021, eq. 4-6)."""

from torch import Tensor, nn

from nnunet_partial.losses.candidates import plain_sums
from nnunet_partial.losses.fused import fused_sums
from nnunet_partial.losses.reduction import dice_loss
from nnunet_partial.losses.sums import CandidateSums, MakeSums, annotated_ids
from nnunet_partial.targets import PartialTarget

SMOOTH = 1e-5  # nnU-Net's


def marginal_cross_entropy(logits: Tensor, target: PartialTarget) -> Tensor:
    """Negative log of the probability mass on the candidate classes, mean over voxels.

    Equals cross entropy where every voxel has one candidate, and is zero where every class is one.

    Args:
        logits: Network output before softmax.
        target: Label map, candidate tables and annotated ids of the batch.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); target.tables (B, L, C); returns a scalar (nats).
    Raises:
        ValueError: C or the spatial shape differs between logits and target.
    Source: Shi et al. 2021, eq. (4)-(5); log-sum-exp in float32 in place of a summed softmax.
    """
    return cross_entropy_of(plain_sums(logits, target, exclusion=False))


def marginal_dice_loss(
    logits: Tensor, target: PartialTarget, *, batch_dice: bool = False, ddp: bool = False, smooth: float = SMOOTH
) -> Tensor:
    """One minus the soft Dice of the merged labels, mean over the label ids that were looked for.

    For a fully annotated batch this is 1 + nnU-Net's MemoryEfficientSoftDiceLoss (which returns minus the Dice).

    Args:
        logits: Network output before softmax.
        target: Label map, candidate tables and annotated ids of the batch.
        batch_dice: Add intersections and volumes of a label id over the batch before dividing, as nnU-Net's option.
        ddp: Add them over all processes too.
        smooth: Added to numerator and denominator, as in nnU-Net.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); returns a scalar in [0, 1].
    Raises:
        ValueError: C or the spatial shape differs between logits and target.
    Source: Shi et al. 2021, eq. (6), without the term of the merged background.
    """
    return dice_of(plain_sums(logits, target, exclusion=False), batch_dice, ddp, smooth)


class MarginalLoss(nn.Module):
    """Marginal cross entropy + marginal Dice, weighted 1 : 1 as in nnU-Net.

    Args:
        batch_dice: See `marginal_dice_loss`.
        ddp: See `marginal_dice_loss`.
        weight_ce: Weight of the cross entropy.
        weight_dice: Weight of the Dice loss.
        make_sums: `fused_sums`, or `plain_sums`, which gives the same by plain autograd.
    """

    def __init__(
        self,
        *,
        batch_dice: bool = False,
        ddp: bool = False,
        weight_ce: float = 1.0,
        weight_dice: float = 1.0,
        make_sums: MakeSums = fused_sums,
    ):
        super().__init__()
        self.batch_dice, self.ddp = batch_dice, ddp
        self.weight_ce, self.weight_dice = weight_ce, weight_dice
        self.make_sums = make_sums

    def forward(self, logits: Tensor, target: PartialTarget) -> Tensor:
        """The weighted sum of both terms, a scalar."""
        return self.of(self.make_sums(logits, target, exclusion=False))

    def of(self, sums: CandidateSums) -> Tensor:
        """The same from sums over the voxels."""
        return self.weight_ce * cross_entropy_of(sums) + self.weight_dice * dice_of(sums, self.batch_dice, self.ddp, SMOOTH)


def cross_entropy_of(sums: CandidateSums) -> Tensor:
    """Marginal cross entropy (eq. 4-5) from the sums of a batch."""
    return sums.mean_over_voxels(sums.negative_log)


def dice_of(sums: CandidateSums, batch_dice: bool, ddp: bool, smooth: float) -> Tensor:
    """Marginal Dice loss (eq. 6) from the sums of a batch."""
    annotated = annotated_ids(sums.target).to(sums.volume)  # (B, L)
    predicted = (sums.target.tables.to(sums.volume) * sums.volume[:, None]).sum(2)  # (B, L), sum of q_m
    terms = sums.intersection, predicted, sums.counts
    return dice_loss(*terms, annotated, batch_dice=batch_dice, ddp=ddp, smooth=smooth)
