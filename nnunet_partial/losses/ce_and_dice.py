"""Cross entropy and a Dice term from one set of sums: what the ambiguity and the soft-label loss have in common."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nnunet_partial.losses.marginal import SMOOTH
from nnunet_partial.targets import PartialTarget


class CrossEntropyAndDice(nn.Module):
    """A cross entropy, alone or with a Dice term beside it.

    Args:
        make_sums: `(logits, target, *, dice: bool)` to the sums of a batch.
        cross_entropy_of: Cross entropy from the sums.
        dice_of: Dice loss from the sums, `batch_dice`, `ddp` and the smoothing.
        batch_dice: Add intersections and volumes of a class over the batch before dividing, as nnU-Net's option.
        ddp: Add them over all processes too.
        weight_ce: Weight of the cross entropy.
        weight_dice: Weight of the Dice loss, which is not computed at 0.
    """

    def __init__(
        self,
        make_sums: Callable[..., Any],
        cross_entropy_of: Callable[[Any], Tensor],
        dice_of: Callable[[Any, bool, bool, float], Tensor],
        *,
        batch_dice: bool = False,
        ddp: bool = False,
        weight_ce: float = 1.0,
        weight_dice: float = 0.0,
    ):
        super().__init__()
        self.make_sums, self.cross_entropy_of, self.dice_of = make_sums, cross_entropy_of, dice_of
        self.batch_dice, self.ddp = batch_dice, ddp
        self.weight_ce, self.weight_dice = weight_ce, weight_dice

    def forward(self, logits: Tensor, target: PartialTarget) -> Tensor:
        """The weighted sum of the terms, a scalar."""
        sums = self.make_sums(logits, target, dice=self.weight_dice > 0)
        loss = self.weight_ce * self.cross_entropy_of(sums)
        if self.weight_dice > 0:
            loss = loss + self.weight_dice * self.dice_of(sums, self.batch_dice, self.ddp, SMOOTH)
        return loss
