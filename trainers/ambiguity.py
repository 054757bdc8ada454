"""Ambiguity maps, the first step of INERRANT (Petit et al. 2021)."""

from torch import nn

from nnunet_partial.losses import AmbiguityLoss
from nnunet_partial.losses.log_odds import binary_log_odds
from nnunet_partial.training.partial_trainer import PartialTrainer


class nnUNetTrainerAmbiguity(PartialTrainer):
    """INERRANT_0: K binary classifiers on the logits' gaps to background, none taught where its organ is ambiguous.

    Petit et al. 2021, section 3.1.1, eq. (1)-(2). The network and its prediction stay nnU-Net's: the largest logit is the
    paper's rule (the organ with the highest sigmoid, background where all are below 0.5).
    """

    log_odds = staticmethod(binary_log_odds)

    def build_partial_loss(self) -> nn.Module:
        """Ambiguity cross entropy; a Dice term where the plans give it a weight."""
        return AmbiguityLoss(
            batch_dice=self.configuration_manager.batch_dice,
            ddp=self.is_ddp,
            weight_dice=self.settings.weight_ambiguity_dice,
        )
