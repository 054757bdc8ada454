"""Exclusion loss: where one organ is labelled, no other can be (Shi et al. 2021, eq. 9-11)."""

from torch import Tensor, nn

from nnunet_partial.losses.candidates import plain_sums
from nnunet_partial.losses.fused import fused_sums
from nnunet_partial.losses.marginal import SMOOTH, MarginalLoss
from nnunet_partial.losses.reduction import add_over_batch, mean_of_valid
from nnunet_partial.losses.sums import CandidateSums, MakeSums, excluding_ids
from nnunet_partial.targets import PartialTarget


def exclusion_dice_loss(
    logits: Tensor, target: PartialTarget, *, batch_dice: bool = False, ddp: bool = False, smooth: float = SMOOTH
) -> Tensor:
    """Soft Dice between each class and the organs that exclude it, mean over the classes that can be excluded.

    e_n is 1 where a label stands that was looked for and does not include class n. Background is a class like any other here.

    Args:
        logits: Network output before softmax.
        target: Label map, candidate tables and annotated ids of the batch.
        batch_dice: Add overlaps and volumes of a class over the batch before dividing.
        ddp: Add them over all processes too.
        smooth: Added to the denominator only: no overlap is a loss of exactly 0.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); returns a scalar in [0, 1].
    Raises:
        ValueError: C or the spatial shape differs between logits and target.
    Source: Shi et al. 2021, eq. (9)-(10); a mean over classes in place of the sum, as for marginal Dice.
    """
    return dice_of(plain_sums(logits, target), batch_dice, ddp, smooth)


def exclusion_cross_entropy(logits: Tensor, target: PartialTarget) -> Tensor:
    """Sum over classes of e_n log(p_n + 1), mean over voxels.

    Args:
        logits: Network output before softmax.
        target: Label map, candidate tables and annotated ids of the batch.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); returns a scalar (nats, at most log 2 a voxel and excluded class).
    Raises:
        ValueError: C or the spatial shape differs between logits and target.
    Source: Shi et al. 2021, eq. (11) with epsilon = 1.
    """
    return cross_entropy_of(plain_sums(logits, target))


class MarginalExclusionLoss(nn.Module):
    """Marginal loss + exclusion loss, weighted 1 : 2 (Shi et al. 2021, table 5).

    Args:
        batch_dice: Add the Dice terms' sums over the batch, as nnU-Net's option.
        ddp: Add them over all processes too.
        weight_marginal: Weight of marginal cross entropy + marginal Dice.
        weight_exclusion: Weight of exclusion cross entropy + exclusion Dice.
        make_sums: `fused_sums`, or `plain_sums`, which gives the same by plain autograd.
    """

    def __init__(
        self,
        *,
        batch_dice: bool = False,
        ddp: bool = False,
        weight_marginal: float = 1.0,
        weight_exclusion: float = 2.0,
        make_sums: MakeSums = fused_sums,
    ):
        super().__init__()
        self.marginal = MarginalLoss(batch_dice=batch_dice, ddp=ddp)
        self.batch_dice, self.ddp = batch_dice, ddp
        self.weight_marginal, self.weight_exclusion = weight_marginal, weight_exclusion
        self.make_sums = make_sums

    def forward(self, logits: Tensor, target: PartialTarget) -> Tensor:
        """The weighted sum of the four terms, a scalar."""
        sums = self.make_sums(logits, target, exclusion=True)
        exclusion = cross_entropy_of(sums) + dice_of(sums, self.batch_dice, self.ddp, SMOOTH)
        return self.weight_marginal * self.marginal.of(sums) + self.weight_exclusion * exclusion


def cross_entropy_of(sums: CandidateSums) -> Tensor:
    """Exclusion cross entropy (eq. 11) from the sums of a batch."""
    return sums.mean_over_voxels(sums.excluded_log)


def dice_of(sums: CandidateSums, batch_dice: bool, ddp: bool, smooth: float) -> Tensor:
    """Exclusion Dice loss (eq. 9-10) from the sums of a batch."""
    excludes = excluding_ids(sums.target).to(sums.volume)  # (B, L, C)
    excludable = excludes.amax(1)  # (B, C)
    excluded_volume = (sums.counts[:, :, None] * excludes).sum(1)  # (B, C), sum of e_n
    terms = (sums.overlap, excluded_volume, sums.volume * excludable, excludable)
    overlap, excluded_volume, predicted, excludable = add_over_batch(*terms, batch_dice=batch_dice, ddp=ddp)
    return mean_of_valid(2 * overlap / (excluded_volume + predicted + smooth).clamp_min(1e-8), excludable > 0)
