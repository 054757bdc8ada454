"""Soft labels: cross entropy against the share of annotators who said each class (Silva & Oliveira 2021, section 3.2)."""

from typing import Any

from torch import Tensor

from nnunet_partial.losses.ce_and_dice import CrossEntropyAndDice
from nnunet_partial.losses.fused_soft import fused_soft_sums
from nnunet_partial.losses.marginal import SMOOTH
from nnunet_partial.losses.reduction import dice_loss
from nnunet_partial.losses.soft_sums import MakeSoftSums, SoftSums, plain_soft_sums
from nnunet_partial.targets import PartialTarget


def soft_cross_entropy(logits: Tensor, target: PartialTarget) -> Tensor:
    """Negative log of the probability of what an annotator says, mean over annotators and voxels.

    Where all say a single class this is cross entropy with the mean of their one-hot labels. One who did not look for an organ
    says of background "background, or that organ": the marginal cross entropy of that annotator. At its minimum the network's
    probability of a class is the share among those who looked for it; those who did not change nothing.

    Args:
        logits: Network output before softmax.
        target: Label map and shares of votes; candidate tables count as one annotator's.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); target.tables (B, L, C); returns a scalar (nats).
    Raises:
        ValueError: C or the spatial shape differs between logits and target.
    Source: Silva & Oliveira 2021, section 3.2; with candidate sets as in Shi et al. 2021, eq. (4)-(5).
    """
    return cross_entropy_of(plain_soft_sums(logits, target, dice=False))


def soft_dice_loss(
    logits: Tensor, target: PartialTarget, *, batch_dice: bool = False, ddp: bool = False, smooth: float = SMOOTH
) -> Tensor:
    """One minus the soft Dice of every class with its share of votes, mean over the classes somebody looked for.

    It is smallest where the network is sure: against a share of 0.3 its best probability is 0 or 1, never 0.3. Whoever wants
    calibrated probabilities leaves it out.

    Args:
        logits: Network output before softmax.
        target: Label map and shares of votes; candidate tables count as one annotator's.
        batch_dice: Add intersections and volumes of a class over the batch before dividing, as nnU-Net's option.
        ddp: Add them over all processes too.
        smooth: Added to numerator and denominator, as in nnU-Net.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); returns a scalar in [0, 1].
    Raises:
        ValueError: C or the spatial shape differs between logits and target.
    Source: Silva & Oliveira 2021, eq. (1), which warns of it; a voxel weighs as much as the annotators know of the class there.
    """
    return dice_of(plain_soft_sums(logits, target), batch_dice, ddp, smooth)


class SoftLabelLoss(CrossEntropyAndDice):
    """Cross entropy with soft labels, alone as in Silva & Oliveira 2021 or with a Dice term beside it.

    Args:
        make_sums: `fused_soft_sums`, or `plain_soft_sums`, which gives the same by plain autograd.
        options: batch_dice, ddp, weight_ce and weight_dice, see `CrossEntropyAndDice`.
    """

    def __init__(self, *, make_sums: MakeSoftSums = fused_soft_sums, **options: Any):
        super().__init__(make_sums, cross_entropy_of, dice_of, **options)


def cross_entropy_of(sums: SoftSums) -> Tensor:
    """Cross entropy from the sums of a batch."""
    return sums.negative_log.sum() / sums.target.num_counted


def dice_of(sums: SoftSums, batch_dice: bool, ddp: bool, smooth: float) -> Tensor:
    """Dice loss from the sums of a batch."""
    own = sums.target.looked_for.to(sums.predicted)  # (B, C)
    organs = (term[:, 1:] for term in (sums.intersection, sums.predicted, sums.reference, own))  # without background
    return dice_loss(*organs, batch_dice=batch_dice, ddp=ddp, smooth=smooth)
