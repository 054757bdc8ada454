"""The sums of the soft-label loss in one `autograd.Function`, in pieces that fit the cache; no softmax is kept.

The cross entropy alone is a sum of what every voxel costs, so that one pass over the logits writes the gradient on the way
forward, and backward multiplies it by a factor. Dice has to know its sums first: with it, backward is a second pass that computes
the softmax again. What a piece costs and pulls is in `soft_piece`; `soft_sums.plain_soft_sums` is the same without any of this.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_partial.losses.one_pass import give_gradient_away, keep_gradient
from nnunet_partial.losses.soft_piece import SoftCase, pieces
from nnunet_partial.losses.soft_sums import SoftSums
from nnunet_partial.losses.sums import check_shapes
from nnunet_partial.targets import PartialTarget, PooledTarget, as_soft
from nnunet_partial.targets.soft_target import without_ignored


def fused_soft_sums(logits: Tensor, target: PartialTarget, *, dice: bool = True) -> SoftSums:
    """The sums of a batch, as `plain_soft_sums` gives them, for a fraction of its time and memory; differentiable once.

    Args:
        logits: Network output before softmax, any floating type; computed in float32 at least, whatever autocast does.
        target: Label map and shares of votes, or candidate tables, which are one annotator's.
        dice: Whether the Dice term will be asked for.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ.
        RuntimeError: (in backward) without Dice, the gradient is asked for a second time or is to be differentiated itself.
    """
    check_shapes(logits, target)
    soft = as_soft(target)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    by_id = (soft.tables, soft.set_shares, soft.known) if dice else (soft.tables, soft.set_shares)
    tables, set_shares, *known = (without_ignored(part.to(dtype), soft).transpose(1, 2).contiguous() for part in by_id)
    labels = None if isinstance(soft, PooledTarget) else soft.labels.flatten(1)
    with torch.autocast(logits.device.type, enabled=False):
        if dice:
            return SoftSums(soft, *_TwoPasses.apply(logits, labels, tables, set_shares, soft.sets, *known))
        wants_gradient = torch.is_grad_enabled() and logits.requires_grad
        total = _OnePass.apply(logits, labels, tables, set_shares, soft.sets, wants_gradient)
        return SoftSums(soft, total, None, None, None)


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, tables, set_shares, sets, wants_gradient):
        z = logits.flatten(2)
        gradient = torch.empty_like(z, dtype=tables.dtype) if wants_gradient else None
        total = tables.new_zeros(len(z))
        for number, case in enumerate(SoftCase.of_batch(tables, set_shares, sets, None)):
            for piece in pieces(z[number], _of_case(labels, number), case):
                total[number] += piece.cost(None if gradient is None else gradient[number, :, piece.columns])
        keep_gradient(ctx, logits, gradient)
        return total

    @staticmethod
    def backward(ctx, factors):
        gradient = give_gradient_away(ctx, factors[:, None, None], fused="fused_soft_sums", plain="plain_soft_sums")
        return gradient, None, None, None, None, None


class _TwoPasses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, tables, set_shares, sets, known):
        ctx.save_for_backward(logits, labels, tables, set_shares, sets, known)
        total, by_class = tables.new_zeros(len(tables)), tables.new_zeros(3, *tables.shape[:2])
        for number, case in enumerate(SoftCase.of_batch(tables, set_shares, sets, known)):
            for piece in pieces(logits[number].flatten(1), _of_case(labels, number), case):
                total[number] += piece.cost()
                piece.add_volumes(*by_class[:, number])
        intersection, predicted, reference = by_class
        ctx.mark_non_differentiable(reference)
        return total, intersection, predicted, reference

    @staticmethod
    @once_differentiable
    def backward(ctx, of_cost, of_intersection, of_predicted, _):
        logits, labels, *parts = ctx.saved_tensors
        gradient = torch.empty_like(logits.flatten(2))
        with torch.autocast(logits.device.type, enabled=False):
            for number, case in enumerate(SoftCase.of_batch(*parts)):
                slopes = of_cost[number], of_intersection[number], of_predicted[number]
                for piece in pieces(logits[number].flatten(1), _of_case(labels, number), case):
                    piece.write_gradient(*slopes, gradient[number, :, piece.columns])
        return gradient.view(logits.shape), None, None, None, None, None


def _of_case(labels: Tensor | None, number: int) -> Tensor | None:
    return None if labels is None else labels[number]
