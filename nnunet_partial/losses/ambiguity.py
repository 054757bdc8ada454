"""Ambiguity loss: a binary classifier an organ, taught only where the label tells (Petit et al. 2021, eq. 1-2)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_partial.losses.fused_ambiguity import LINEAR, counted_voxels, fused_ambiguity_bce_loss
from nnunet_partial.losses.marginal import SMOOTH
from nnunet_partial.losses.reduction import add_over_batch, mean_of_valid
from nnunet_partial.losses.sums import annotated_ids, check
from nnunet_partial.targets import PartialTarget, ambiguity_map, ambiguity_tables
from nnunet_partial.targets.ambiguity import by_voxel


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
    check(logits, target)
    _, positive = ambiguity_tables(target)
    with torch.autocast(logits.device.type, enabled=False):
        gaps = logit_gaps(logits)  # (B, K, *S)
        costs = F.softplus(torch.where(by_voxel(positive, target), -gaps, gaps), threshold=LINEAR)
        return (costs * ambiguity_map(target)).sum() / counted_voxels(target)


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
    check(logits, target)
    _, positive = ambiguity_tables(target)
    with torch.autocast(logits.device.type, enabled=False):
        known = ambiguity_map(target).flatten(2)  # (B, K, V)
        reference = by_voxel(positive, target).flatten(2)
        p = logit_gaps(logits).flatten(2).sigmoid() * known
        own = (annotated_ids(target)[:, :, None] & positive).any(1).to(p)  # (B, K)
        terms = ((p * reference).sum(2) * own, p.sum(2) * own, reference.sum(2) * own, own)
        intersection, predicted, volume, own = add_over_batch(*terms, batch_dice=batch_dice, ddp=ddp)
        dice = (2 * intersection + smooth) / (predicted + volume + smooth).clamp_min(1e-8)
        return mean_of_valid(1 - dice, own > 0)


class AmbiguityLoss(nn.Module):
    """Ambiguity cross entropy, alone as in Petit et al. 2021 or with a Dice term beside it.

    Args:
        batch_dice: See `ambiguity_dice_loss`.
        ddp: See `ambiguity_dice_loss`.
        weight_ce: Weight of the cross entropy.
        weight_dice: Weight of the Dice loss, which is not computed at 0.
        bce_loss: `fused_ambiguity_bce_loss`, or `ambiguity_bce_loss`, which gives the same by plain autograd.
    """

    def __init__(
        self,
        *,
        batch_dice: bool = False,
        ddp: bool = False,
        weight_ce: float = 1.0,
        weight_dice: float = 0.0,
        bce_loss: Callable[[Tensor, PartialTarget], Tensor] = fused_ambiguity_bce_loss,
    ):
        super().__init__()
        self.batch_dice, self.ddp = batch_dice, ddp
        self.weight_ce, self.weight_dice = weight_ce, weight_dice
        self.bce_loss = bce_loss

    def forward(self, logits: Tensor, target: PartialTarget) -> Tensor:
        """The weighted sum of the terms, a scalar."""
        loss = self.weight_ce * self.bce_loss(logits, target)
        if self.weight_dice > 0:
            loss = loss + self.weight_dice * ambiguity_dice_loss(logits, target, batch_dice=self.batch_dice, ddp=self.ddp)
        return loss


def logit_gaps(logits: Tensor) -> Tensor:
    """d_k = z_k - z_0 of every class but background, in float32 at least: (B, C, *S) -> (B, K, *S)."""
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return z[:, 1:] - z[:, :1]
