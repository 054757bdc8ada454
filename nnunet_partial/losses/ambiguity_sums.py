"""What the ambiguity loss needs to know of a batch, and the plain way to it: the reference for `fused_ambiguity`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.losses.log_odds import at_least_float32
from nnunet_partial.losses.sums import check
from nnunet_partial.targets import PartialTarget, ambiguity_map, positive_map

LINEAR = 40.0  # from here on softplus(x) is x, in float64 too, and exp(x) is still a float32


@dataclass(frozen=True)
class AmbiguitySums:
    """Sums over the voxels, from which the ambiguity loss follows; float32 at least.

    d_k = z_k - z_0 is the logit of class k's classifier, w and y are its weight and label (Petit et al. 2021, eq. 1-2); voxels
    with the ignore label have w = 0. The last three are None where Dice was not asked for.

    Attributes:
        target: The target these were summed for.
        negative_log: (), sum of w times binary cross entropy over voxels and classes.
        intersection: (B, K), sum of w y sigmoid(d).
        predicted: (B, K), sum of w sigmoid(d).
        reference: (B, K), sum of w y.
    """

    target: PartialTarget
    negative_log: Tensor
    intersection: Tensor | None
    predicted: Tensor | None
    reference: Tensor | None


MakeAmbiguitySums = Callable[..., AmbiguitySums]  # (logits, target, *, dice: bool)


def plain_ambiguity_sums(logits: Tensor, target: PartialTarget, *, dice: bool = True) -> AmbiguitySums:
    """The sums of a batch, a line each, by plain autograd.

    Args:
        logits: Network output, any floating type; computed in float32 at least, whatever autocast does.
        target: Label map and candidate tables of the batch.
        dice: Whether the Dice term will be asked for.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    check(logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        z = at_least_float32(logits.flatten(2))
        gaps = z[:, 1:] - z[:, :1]  # (B, K, V), d
        known = ambiguity_map(target).flatten(2)  # w
        positive = positive_map(target).flatten(2)  # y, 0 where w is
        costs = F.softplus(torch.where(positive, -gaps, gaps), threshold=LINEAR)
        negative_log = (costs * known).sum()
        if not dice:
            return AmbiguitySums(target, negative_log, None, None, None)
        p = gaps.sigmoid() * known
        return AmbiguitySums(target, negative_log, (p * positive).sum(2), p.sum(2), positive.sum(2).to(p))
