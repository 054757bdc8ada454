"""Marginal and exclusion loss (Shi et al. 2021)."""

from torch import nn

from nnunet_partial.losses import MarginalExclusionLoss, MarginalLoss
from nnunet_partial.training.partial_trainer import PartialTrainer


class nnUNetTrainerMarginal(PartialTrainer):
    """Marginal cross entropy + Dice on partly annotated cases (Shi et al. 2021, eq. 4-6)."""

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)


class nnUNetTrainerMarginalExclusion(PartialTrainer):
    """Marginal + exclusion loss, weighted 1 : 2 unless the plans say otherwise (Shi et al. 2021, eq. 4-11, table 5)."""

    def build_partial_loss(self) -> nn.Module:
        """Marginal + exclusion loss with the plans' weights."""
        return MarginalExclusionLoss(
            batch_dice=self.configuration_manager.batch_dice,
            ddp=self.is_ddp,
            weight_marginal=self.settings.weight_marginal,
            weight_exclusion=self.settings.weight_exclusion,
        )
