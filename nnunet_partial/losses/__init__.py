"""Losses on candidate sets: pure functions `(logits, target, *, options)` and the Modules that combine them."""

from nnunet_partial.losses.adversarial import AdversarialLoss, adversarial_loss, discriminator_loss, maps_to_judge
from nnunet_partial.losses.ambiguity import AmbiguityLoss, ambiguity_bce_loss, ambiguity_dice_loss
from nnunet_partial.losses.ambiguity_sums import plain_ambiguity_sums
from nnunet_partial.losses.candidates import plain_sums
from nnunet_partial.losses.conservative_radical import branches_agree, certain_voxels, conservative_loss, radical_loss
from nnunet_partial.losses.consistency import MeanTeacherLoss, consistency_loss, logits_on_candidates
from nnunet_partial.losses.coranet import CoraNetLoss
from nnunet_partial.losses.entropy import EntropyMinimizationLoss, candidate_entropy, entropy_loss
from nnunet_partial.losses.exclusion import MarginalExclusionLoss, exclusion_cross_entropy, exclusion_dice_loss
from nnunet_partial.losses.fused import fused_sums
from nnunet_partial.losses.fused_ambiguity import fused_ambiguity_sums
from nnunet_partial.losses.fused_soft import fused_soft_sums
from nnunet_partial.losses.marginal import MarginalLoss, marginal_cross_entropy, marginal_dice_loss
from nnunet_partial.losses.organ_sizes import OrganSizes
from nnunet_partial.losses.prior_aware import PriorAwareLoss, organ_shares, size_prior_loss
from nnunet_partial.losses.self_training import self_training_loss
from nnunet_partial.losses.soft import SoftLabelLoss, soft_cross_entropy, soft_dice_loss
from nnunet_partial.losses.soft_sums import plain_soft_sums
from nnunet_partial.losses.uncertainty_aware import UncertaintyAwareLoss

__all__ = [
    "AdversarialLoss",
    "AmbiguityLoss",
    "CoraNetLoss",
    "EntropyMinimizationLoss",
    "MarginalExclusionLoss",
    "MarginalLoss",
    "MeanTeacherLoss",
    "OrganSizes",
    "PriorAwareLoss",
    "SoftLabelLoss",
    "UncertaintyAwareLoss",
    "adversarial_loss",
    "ambiguity_bce_loss",
    "ambiguity_dice_loss",
    "branches_agree",
    "candidate_entropy",
    "certain_voxels",
    "conservative_loss",
    "consistency_loss",
    "discriminator_loss",
    "entropy_loss",
    "exclusion_cross_entropy",
    "exclusion_dice_loss",
    "fused_ambiguity_sums",
    "fused_soft_sums",
    "fused_sums",
    "logits_on_candidates",
    "maps_to_judge",
    "marginal_cross_entropy",
    "marginal_dice_loss",
    "organ_shares",
    "plain_ambiguity_sums",
    "plain_soft_sums",
    "plain_sums",
    "radical_loss",
    "self_training_loss",
    "size_prior_loss",
    "soft_cross_entropy",
    "soft_dice_loss",
]
