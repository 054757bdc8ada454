"""Losses on candidate sets: pure functions `(logits, target, *, options)` and the Modules that combine them."""

from nnunet_partial.losses.candidates import plain_sums
from nnunet_partial.losses.exclusion import MarginalExclusionLoss, exclusion_cross_entropy, exclusion_dice_loss
from nnunet_partial.losses.fused import fused_sums
from nnunet_partial.losses.marginal import MarginalLoss, marginal_cross_entropy, marginal_dice_loss

__all__ = [
    "MarginalExclusionLoss",
    "MarginalLoss",
    "exclusion_cross_entropy",
    "exclusion_dice_loss",
    "fused_sums",
    "marginal_cross_entropy",
    "marginal_dice_loss",
    "plain_sums",
]
