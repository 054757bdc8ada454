"""Uncertainty-aware mean teacher (Yu et al. 2019, UA-MT) on partly annotated cases."""

from torch import Tensor, nn

from nnunet_partial.losses import MarginalLoss, UncertaintyAwareLoss
from nnunet_partial.networks import add_dropout, log_mean_probabilities
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.ramp_up import sigmoid_ramp_up
from nnunet_partial.training.teacher_trainer import TeacherTrainer


class nnUNetTrainerUncertaintyAwareMeanTeacher(TeacherTrainer):
    """A mean teacher that is asked several times under dropout and noise, and believed where its mean has a low entropy.

    The student trains with dropout, as the paper's V-Net does; without, the teacher's would be an input that no weight has
    seen. Its mean is also what the student is to agree with; the paper's code takes one more pass for that.

    Raises:
        NotImplementedError: (in `initialize`) a network that is none of nnU-Net's U-Nets.
    """

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """The marginal loss and consistency where the teacher is certain."""
        return UncertaintyAwareLoss(supervised, weight_consistency=self.settings.weight_consistency)

    def initialize(self) -> None:
        """The set-up of every trainer with a teacher; the student then gets its dropout, after the teacher was copied from it."""
        super().initialize()
        add_dropout(bare(self.network), self.settings.dropout_rate)

    def lessons(self, image: Tensor) -> dict[str, Tensor | float]:
        """The teacher's word, and how undecided it may be; the threshold rises to the largest entropy as training ends."""
        epochs = self.num_epochs - self.settings.consistency_start_epochs
        threshold = 3 / 4 + 1 / 4 * sigmoid_ramp_up(self.epochs_taught, epochs)
        return {**super().lessons(image), "entropy_threshold": threshold}

    def ask_teacher(self, image: Tensor) -> Tensor:
        """Log of the teacher's mean probability over passes with dropout, each with noise of its own."""
        passes, rate = self.settings.monte_carlo_passes, self.settings.dropout_rate
        return log_mean_probabilities(self.teacher.average.module, image, passes=passes, rate=rate, view=self.noisy)
