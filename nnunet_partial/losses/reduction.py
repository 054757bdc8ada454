"""Over what the terms of a loss are added: a case, a batch, or the batches of all processes."""

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def add_over_batch(*sums: Tensor, batch_dice: bool, ddp: bool) -> list[Tensor]:
    """Add sums over the cases where nnU-Net would: with `batch_dice` over the batch, with `ddp` over all processes too.

    Args:
        sums: One sum a case.
        batch_dice: Treat the batch as one large case.
        ddp: Add over the processes of torch.distributed; only with `batch_dice`, as in nnU-Net.
    Shape:
        sums (B, N); returns (1, N) with `batch_dice`, else (B, N).
    """
    if not batch_dice:
        return list(sums)
    stacked = torch.stack([term.sum(0) for term in sums])  # one message, not one a term
    return [term[None] for term in (all_reduce(stacked) if ddp else stacked)]


def mean_of_valid(terms: Tensor, valid: Tensor) -> Tensor:
    """Mean of the terms that count, so that the scale does not depend on how many do; nothing valid gives 0 with a graph."""
    valid = valid.to(terms.dtype)
    return (terms * valid).sum() / valid.sum().clamp_min(1)


def dice_loss(
    intersection: Tensor,
    predicted: Tensor,
    reference: Tensor,
    valid: Tensor,
    *,
    batch_dice: bool,
    ddp: bool,
    smooth: float,
) -> Tensor:
    """One minus the soft Dice, mean over what is valid.

    Args:
        intersection: Of each case and label id or class.
        predicted: Soft volume that is predicted.
        reference: Volume of the reference.
        valid: 1 where the Dice counts, else 0.
        batch_dice: Add all of them over the batch before dividing, as nnU-Net's option.
        ddp: Add them over all processes too.
        smooth: Added to numerator and denominator, as in nnU-Net.
    Shape:
        all (B, N), floating point; returns a scalar in [0, 1].
    """
    terms = (intersection * valid, predicted * valid, reference * valid, valid)
    intersection, predicted, reference, valid = add_over_batch(*terms, batch_dice=batch_dice, ddp=ddp)
    dice = (2 * intersection + smooth) / (predicted + reference + smooth).clamp_min(1e-8)
    return mean_of_valid(1 - dice, valid > 0)
