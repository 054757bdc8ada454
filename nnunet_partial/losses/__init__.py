"""Losses on candidate sets: pure functions `(logits, target, *, options)` and the Modules that combine them."""

from nnunet_partial.losses.ambiguity import AmbiguityLoss, ambiguity_bce_loss, ambiguity_dice_loss
from nnunet_partial.losses.ambiguity_sums import plain_ambiguity_sums
from nnunet_partial.losses.candidates import plain_sums
from nnunet_partial.losses.exclusion import MarginalExclusionLoss, exclusion_cross_entropy, exclusion_dice_loss
from nnunet_partial.losses.fused import fused_sums
from nnunet_partial.losses.fused_ambiguity import fused_ambiguity_sums
from nnunet_partial.losses.marginal import MarginalLoss, marginal_cross_entropy, marginal_dice_loss

__all__ = [
    "AmbiguityLoss",
    "MarginalExclusionLoss",
    "MarginalLoss",
    "ambiguity_bce_loss",
    "ambiguity_dice_loss",
    "exclusion_cross_entropy",
    "exclusion_dice_loss",
    "fused_ambiguity_sums",
    "fused_sums",
    "marginal_cross_entropy",
    "marginal_dice_loss",
    "plain_ambiguity_sums",
    "plain_sums",
]
