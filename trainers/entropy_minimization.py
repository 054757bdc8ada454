"""Entropy minimisation (Grandvalet & Bengio 2005; Vu et al. 2019, ADVENT's MinEnt) on partly annotated cases."""

from torch import nn

from nnunet_partial.losses import EntropyMinimizationLoss, MarginalLoss
from nnunet_partial.training.helped_trainer import HelpedTrainer


class nnUNetTrainerEntropyMinimization(HelpedTrainer):
    """Marginal loss, and low entropy among its candidate classes where a voxel has several."""

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """The marginal loss and the entropy."""
        return EntropyMinimizationLoss(supervised, weight_entropy=self.settings.weight_entropy)
