"""CoraNet: conservative and radical branches, separate self-training (Shi et al. 2022) on partly annotated cases."""

from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from nnunet_partial.losses import CoraNetLoss, MarginalLoss, branches_agree
from nnunet_partial.networks import Branches, LastFeatures, Relabeller
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.teacher_trainer import TeacherTrainer

LARGEST_GRADIENT = 12  # nnU-Net's own, which it applies to its network alone


class nnUNetTrainerCoraNet(TeacherTrainer):
    """CoraNet (Shi et al. 2022, eq. 1-9, algorithm 1) where a voxel has several candidate classes; the marginal loss elsewhere.

    Where the conservative and the radical branch agree, a frozen copy of the network labels the voxel for self-training; where
    they differ, the network is to agree with its teacher.

    Raises:
        NotImplementedError: (in `initialize`) a fine-tuning: the branches would decide what is certain before they have learned
            anything. Likewise a network that is none of nnU-Net's U-Nets.
    """

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss of nnU-Net's own head, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_helpers(self) -> dict[str, nn.Module]:
        """Teacher, branches, and the frozen copy that labels."""
        network = bare(self.network)
        branches = Branches(network, len(self.annotation.space.classes))
        return {**super().build_helpers(), "branches": branches, "relabeller": Relabeller(network, branches)}

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """Marginal loss, both branches', self-training and consistency."""
        features, branches = LastFeatures(bare(self.network)), self.helpers["branches"]
        self.optimizer.add_param_group({"params": list(branches.parameters())})
        self.optimizer.register_step_pre_hook(self._clip_branches)
        if self.is_ddp:
            branches = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(branches), device_ids=[self.local_rank])
        return CoraNetLoss(
            supervised,
            lambda: branches(features.take()),
            cost=self.settings.misclassification_cost,
            weight_self_training=self.settings.weight_self_training,
            weight_consistency=self.settings.weight_consistency,
        )

    def lessons(self, image: Tensor) -> dict[str, Tensor | float]:
        """The teacher's word, and labels and certainty of the network as it stood when it last labelled."""
        logits, *branches = self.helpers["relabeller"](image)
        return {**super().lessons(image), "label_logits": logits, "branches_agree": branches_agree(*branches)}

    def initialize(self) -> None:
        """The set-up of every trainer with a teacher, after a fine-tuning has been refused."""
        if self.fine_tuning is not None:
            raise NotImplementedError(
                "nnUNetTrainerCoraNet cannot go on from another training: its branches would decide what is certain before they "
                "have learned anything; use nnUNetTrainerMeanTeacher or nnUNetTrainerMarginal for rounds"
            )
        super().initialize()

    def on_train_epoch_start(self) -> None:
        """The epoch start of every trainer with a teacher; every few epochs the network labels anew."""
        super().on_train_epoch_start()
        if self.epochs_taught >= 0 and self.epochs_taught % self.settings.relabel_every == 0:
            self.helpers["relabeller"].refresh(bare(self.network), self.helpers["branches"])

    def _clip_branches(self, *_: Any) -> None:
        clip_grad_norm_(self.helpers["branches"].parameters(), LARGEST_GRADIENT)
