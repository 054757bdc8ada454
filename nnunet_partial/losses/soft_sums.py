"""What the soft-label loss needs to know of a batch, and the plain way to it: the reference for `fused_soft`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_partial.losses.log_odds import at_least_float32
from nnunet_partial.losses.sums import check_shapes
from nnunet_partial.targets import PartialTarget, SoftTarget, as_soft
from nnunet_partial.targets.ambiguity import by_voxel
from nnunet_partial.targets.soft_target import without_ignored


@dataclass(frozen=True)
class SoftSums:
    """Sums over the voxels of every case, from which the soft-label loss follows; float32 at least.

    t_n is the share of annotators who say class n, known_n the share of those whose word decides about n, p_n is softmax. Voxels
    with the ignore label are in none of the sums. The last three are None where Dice was not asked for.

    Attributes:
        target: The target these were summed for.
        negative_log: (B,), sum of the mean over annotators of -log p(what the annotator says).
        intersection: (B, C), sum of t_n p_n.
        predicted: (B, C), sum of known_n p_n.
        reference: (B, C), sum of t_n.
    """

    target: SoftTarget
    negative_log: Tensor
    intersection: Tensor | None
    predicted: Tensor | None
    reference: Tensor | None


MakeSoftSums = Callable[..., SoftSums]  # (logits, target, *, dice: bool)


def plain_soft_sums(logits: Tensor, target: PartialTarget, *, dice: bool = True) -> SoftSums:
    """The sums of a batch, a line each, by plain autograd.

    Args:
        logits: Network output before softmax, any floating type; computed in float32 at least, whatever autocast does.
        target: Label map and shares of votes, or candidate tables, which are one annotator's.
        dice: Whether the Dice term will be asked for.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ.
    """
    check_shapes(logits, target)
    soft = as_soft(target)
    with torch.autocast(logits.device.type, enabled=False):
        z = at_least_float32(logits.flatten(2))
        tables, set_shares, known = (without_ignored(part.to(z), soft) for part in (soft.tables, soft.set_shares, soft.known))
        log_p = z.log_softmax(1)  # (B, C, V)
        on_sets = log_p[:, None].masked_fill(~soft.sets.to(z.device)[:, :, None], -torch.inf).logsumexp(2)  # (B, G, V)
        said, said_sets = by_voxel(tables, soft).flatten(2), by_voxel(set_shares, soft).flatten(2)
        negative_log = -(said * log_p).sum((1, 2)) - (said_sets * on_sets).sum((1, 2))
        if not dice:
            return SoftSums(soft, negative_log, None, None, None)
        p = log_p.exp()
        predicted = (by_voxel(known, soft).flatten(2) * p).sum(2)
        return SoftSums(soft, negative_log, (said * p).sum(2), predicted, said.sum(2))
