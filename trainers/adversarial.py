"""A discriminator as a teacher (Hung et al. 2018) on partly annotated cases."""

from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_partial.losses import AdversarialLoss, MarginalLoss, discriminator_loss, maps_to_judge
from nnunet_partial.networks import Discriminator
from nnunet_partial.networks.last_features import last_layer
from nnunet_partial.targets import PartialTarget
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.helped_trainer import HelpedTrainer
from nnunet_partial.training.learner import Learner

PAPER_WIDTH = 64
"""Channels of the discriminator's first convolution in 2D; in 3D they are the network's own at full resolution."""


class nnUNetTrainerAdversarial(HelpedTrainer):
    """Marginal loss, the verdict of a discriminator, and own labels where it takes an ambiguous voxel for annotated.

    The discriminator learns from the first iteration on, after each step of the network, in float32.

    Raises:
        NotImplementedError: (in `initialize`) a fine-tuning: the discriminator would judge before it has learned anything.
            Likewise a network that is none of nnU-Net's U-Nets.
    """

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_helpers(self) -> dict[str, nn.Module]:
        """The discriminator and its optimizer."""
        patch_size = self.configuration_manager.patch_size
        width = PAPER_WIDTH if len(patch_size) == 2 else last_layer(bare(self.network)).in_channels
        network = Discriminator(self.annotation.space.num_classes, patch_size, width=width)
        learner = Learner(network, torch.optim.Adam(network.parameters(), self.settings.discriminator_lr))
        return {**super().build_helpers(), "discriminator": learner}

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """Marginal loss, verdict and self-training."""
        learner = self.helpers["discriminator"]
        ranks = {"device_ids": [self.local_rank]} if self.device.type == "cuda" else {}
        self._discriminator = DistributedDataParallel(learner.network, **ranks) if self.is_ddp else learner.network
        self._discriminator_lr = PolyLRScheduler(learner.optimizer, self.settings.discriminator_lr, self.num_epochs)
        return AdversarialLoss(
            supervised,
            learner.network.judge,
            weight_decided=self.settings.weight_adversarial,
            weight_ambiguous=self.settings.weight_adversarial_ambiguous,
            weight_self_training=self.settings.weight_masked_self_training,
            threshold=self.settings.discriminator_threshold,
        )

    def initialize(self) -> None:
        """The set-up of every trainer with helpers, after a fine-tuning has been refused."""
        if self.fine_tuning is not None:
            raise NotImplementedError(
                "nnUNetTrainerAdversarial cannot go on from another training: its discriminator would judge before it has "
                "learned anything; use nnUNetTrainerMeanTeacher or nnUNetTrainerMarginal for rounds"
            )
        super().initialize()

    def on_train_epoch_start(self) -> None:
        """The epoch start of every trainer; the discriminator's learning rate falls as the network's."""
        super().on_train_epoch_start()
        self._discriminator_lr.step(self.current_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict:
        """The step of every trainer with helpers; then the discriminator's."""
        outputs = super().train_step(batch)
        self._teach_discriminator(*self.loss.take_seen())
        return outputs

    def _teach_discriminator(self, logits: Tensor, target: PartialTarget) -> None:
        # a step that overflowed in half precision is skipped by the host's scaler; it must not reach Adam's averages here
        maps = maps_to_judge(logits.nan_to_num(), target)
        verdicts = self._discriminator(torch.cat(maps))  # in one pass, as DDP wants one before each backward
        self.helpers["discriminator"].step(discriminator_loss(*verdicts.chunk(2), target))
