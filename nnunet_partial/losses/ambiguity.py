"""Ambiguity loss: a binary classifier an organ, taught only where the label tells (Petit et al. 2021, eq. 1-2)."""

from typing import Any

from torch import Tensor

from nnunet_partial.losses.ambiguity_sums import AmbiguitySums, MakeAmbiguitySums, plain_ambiguity_sums
from nnunet_partial.losses.ce_and_dice import CrossEntropyAndDice
from nnunet_partial.losses.fused_ambiguity import fused_ambiguity_sums
from nnunet_partial.losses.marginal import SMOOTH
from nnunet_partial.losses.reduction import dice_loss
from nnunet_partial.losses.sums import annotated_ids
from nnunet_partial.targets import PartialTarget, ambiguity_tables


def ambiguity_bce_loss(logits: Tensor, target: PartialTarget) -> Tensor:
    """Binary cross entropy of every organ against background where it is not ambiguous; sum over organs, mean over voxels.

    The classifier of class k is d_k = z_k - z_0, so that the largest of the K + 1 logits is the class with the highest
    sigmoid(d_k), and background where all are below 0.5. Voxels with the ignore label are in neither the sum nor the mean.

    Args:
        logits: Network output.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); target.tables (B, L, C); returns a scalar (nats).
    Raises:
        ValueError: C or the spatial shape differs between logits and target, or the target is soft.
    Source: Petit et al. 2021, eq. (1)-(2), divided by the number of voxels; softplus in float32 in place of log(sigmoid).
    """
    return cross_entropy_of(plain_ambiguity_sums(logits, target, dice=False))


def ambiguity_dice_loss(
    logits: Tensor, target: PartialTarget, *, batch_dice: bool = False, ddp: bool = False, smooth: float = SMOOTH
) -> Tensor:
    """One minus the soft Dice of every organ's classifier, mean over the organs that were looked for under an id of their own.

    Args:
        logits: Network output.
        target: Label map, candidate tables and annotated ids of the batch.
        batch_dice: Add intersections and volumes of a class over the batch before dividing, as nnU-Net's option.
        ddp: Add them over all processes too.
        smooth: Added to numerator and denominator, as in nnU-Net.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); returns a scalar in [0, 1].
    Raises:
        ValueError: C or the spatial shape differs between logits and target, or the target is soft.
    Source: nnU-Net's soft Dice on sigmoid(d_k), over the voxels that w of eq. (2) selects; not in Petit et al. 2021.
    """
    return dice_of(plain_ambiguity_sums(logits, target), batch_dice, ddp, smooth)


class AmbiguityLoss(CrossEntropyAndDice):
    """Ambiguity cross entropy, alone as in Petit et al. 2021 or with a Dice term beside it.

    Args:
        make_sums: `fused_ambiguity_sums`, or `plain_ambiguity_sums`, which gives the same by plain autograd.
        options: batch_dice, ddp, weight_ce and weight_dice, see `CrossEntropyAndDice`.
    """

    def __init__(self, *, make_sums: MakeAmbiguitySums = fused_ambiguity_sums, **options: Any):
        super().__init__(make_sums, cross_entropy_of, dice_of, **options)


def cross_entropy_of(sums: AmbiguitySums) -> Tensor:
    """Ambiguity cross entropy (eq. 1-2) from the sums of a batch."""
    return sums.negative_log / sums.target.num_counted


def dice_of(sums: AmbiguitySums, batch_dice: bool, ddp: bool, smooth: float) -> Tensor:
    """Dice loss of the classifiers from the sums of a batch."""
    _, positive = ambiguity_tables(sums.target)
    own = (annotated_ids(sums.target)[:, :, None] & positive).any(1).to(sums.predicted)  # (B, K)
    terms = sums.intersection, sums.predicted, sums.reference
    return dice_loss(*terms, own, batch_dice=batch_dice, ddp=ddp, smooth=smooth)
