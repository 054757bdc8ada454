"""CoraNet: conservative and radical branches, separate self-training (Shi et al. 2022) on partly annotated cases."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from nnunet_partial.losses import CoraNetLoss, MarginalLoss, branches_agree
from nnunet_partial.networks import Branches, LastFeatures, Relabeller
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.helped_trainer import HELPERS_KEY
from nnunet_partial.training.teacher_trainer import TeacherTrainer

LARGEST_GRADIENT = 12  # nnU-Net's own, which it applies to its network alone


class nnUNetTrainerCoraNet(TeacherTrainer):
    """CoraNet (Shi et al. 2022, eq. 1-9, algorithm 1) where a voxel has several candidate classes; the marginal loss elsewhere.

    Where the conservative and the radical branch agree, a frozen copy of the network labels the voxel for self-training; where
    they differ, the network is to agree with its teacher.

    A fine-tuning takes over the branches of the training that it goes on from: they say from the first epoch what is certain.

    Raises:
        NotImplementedError: (in `initialize`) a network that is none of nnU-Net's U-Nets.
        RuntimeError: (in `initialize`) a fine-tuning from a training without branches.
    """

    has_branches = True

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
        """The set-up of every trainer with a teacher; a fine-tuning goes on with the branches of the training before it."""
        super().initialize()
        if self.fine_tuning is not None:
            self._take_over_branches(self.fine_tuning.initial_checkpoint)

    def branch_copy(self) -> Relabeller:
        """The frozen copy of network and branches, as they stand now."""
        copy = self.helpers["relabeller"]
        copy.refresh(bare(self.network), self.helpers["branches"])
        return copy

    def on_train_epoch_start(self) -> None:
        """The epoch start of every trainer with a teacher; every few epochs the network labels anew."""
        super().on_train_epoch_start()
        if self.epochs_taught >= 0 and self.epochs_taught % self.settings.relabel_every == 0:
            self.branch_copy()

    def _take_over_branches(self, file: Path) -> None:
        checkpoint = torch.load(file, map_location="cpu", weights_only=False)
        prefix = "branches."
        learned = {
            name.removeprefix(prefix): value for name, value in checkpoint.get(HELPERS_KEY, {}).items() if name.startswith(prefix)
        }
        if not learned:
            raise RuntimeError(
                f"{file} was written by {checkpoint['trainer_name']} and has no branches: new ones would decide what is certain "
                "before they have learned anything; go on from a training of nnUNetTrainerCoraNet, or with "
                "nnUNetTrainerMeanTeacher or nnUNetTrainerMarginal"
            )
        self.helpers["branches"].load_state_dict(learned)

    def _clip_branches(self, *_: Any) -> None:
        clip_grad_norm_(self.helpers["branches"].parameters(), LARGEST_GRADIENT)
