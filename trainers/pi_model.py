"""Pi-model (Laine & Aila 2017) on partly annotated cases."""

from torch import Tensor, nn

from nnunet_partial.losses import MarginalLoss, MeanTeacherLoss
from nnunet_partial.losses.taught import full_resolution
from nnunet_partial.networks import add_dropout
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.helped_trainer import HelpedTrainer


class nnUNetTrainerPiModel(HelpedTrainer):
    """Two views of a patch, each under noise and dropout of its own, through the network as it stands: they are to agree.

    nnU-Net's step runs the network once with gradients: on the first view. The second is run without, and held fixed. The views
    are drawn alike, so that either may be called the first, and the gradient through both has twice the expectation of the one
    through the first: hence the factor 2. On a voxel that may be every class this is the paper's expected gradient; elsewhere
    the second view is taken given the candidate set, which the annotation has already told the first.

    Raises:
        NotImplementedError: (in `initialize`) a network that is none of nnU-Net's U-Nets.
    """

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """The marginal loss and agreement of the views."""
        return MeanTeacherLoss(supervised, weight_consistency=2 * self.settings.weight_consistency)

    def initialize(self) -> None:
        """The set-up of every trainer with helpers; the network then gets its dropout."""
        super().initialize()
        add_dropout(bare(self.network), self.settings.dropout_rate)

    def student_view(self, image: Tensor) -> Tensor:
        """The first view."""
        return self.noisy(image)

    def lessons(self, image: Tensor) -> dict[str, Tensor | float]:
        """What the network says of the second view."""
        return {**super().lessons(image), "teacher_logits": full_resolution(bare(self.network)(self.noisy(image)))}
