"""Mean teacher (Tarvainen & Valpola 2017) on partly annotated cases."""

from torch import nn

from nnunet_partial.losses import MarginalLoss, MeanTeacherLoss
from nnunet_partial.training.teacher_trainer import TeacherTrainer


class nnUNetTrainerMeanTeacher(TeacherTrainer):
    """Marginal loss, and agreement with a moving average of the network where a voxel has several candidate classes."""

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """The marginal loss and consistency."""
        return MeanTeacherLoss(supervised, weight_consistency=self.settings.weight_consistency)
