"""PaNN: organ sizes as a prior (Zhou et al. 2019) on partly annotated cases."""

from torch import nn

from nnunet_partial.losses import MarginalLoss, OrganSizes, PriorAwareLoss
from nnunet_partial.training.helped_trainer import HelpedTrainer


class nnUNetTrainerPriorAware(HelpedTrainer):
    """Marginal loss, and organs of the usual size on average over cases in which nobody looked for them.

    Sizes are averaged from the first iteration on.

    Raises:
        NotImplementedError: (in `initialize`) every patch is centred on an organ, so that no size is like any other.
    """

    def build_partial_loss(self) -> nn.Module:
        """Marginal loss, its Dice over the batch where nnU-Net's would be."""
        return MarginalLoss(batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp)

    def build_helpers(self) -> dict[str, nn.Module]:
        """The averages of organ sizes."""
        return {**super().build_helpers(), "sizes": OrganSizes(len(self.annotation.space.classes), self.settings.size_decay)}

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """Marginal loss and organ sizes."""
        return PriorAwareLoss(
            supervised,
            self.helpers["sizes"],
            weight_size_prior=self.settings.weight_size_prior,
            num_random_patches=num_random_patches(self.batch_size, self.oversample_foreground_percent),
            ddp=self.is_ddp,
        )

    def initialize(self) -> None:
        """The set-up of every trainer with helpers, after patches that are all centred on organs have been refused."""
        share, batch_size = self.settings.oversample_foreground_percent, self.configuration_manager.batch_size
        if not num_random_patches(batch_size, share):
            raise NotImplementedError(
                f"nnUNetTrainerPriorAware compares organ sizes in patches laid anywhere; with a batch size of {batch_size} and "
                f"oversample_foreground_percent={share} every patch is centred on an organ; plan again with a smaller share"
            )
        super().initialize()


def num_random_patches(batch_size: int, oversample_foreground_percent: float) -> int:
    """How many patches nnU-Net lays anywhere; they are the first of a batch, and those centred on organs the last."""
    return round(batch_size * (1 - oversample_foreground_percent))
