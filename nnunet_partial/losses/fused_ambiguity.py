"""The sums of the ambiguity loss in one `autograd.Function`, in pieces that fit the cache; no softmax or sigmoid is kept.

The cross entropy alone is a sum of what every voxel costs: the sigmoid of its gradient gives its cost too, so that one pass over
the logits writes the gradient on the way forward, and backward multiplies it by a factor. Dice has to know its sums first: with
it, backward is a second pass that computes the sigmoid again. What a piece costs and pulls is in `ambiguity_piece`;
`ambiguity_sums.plain_ambiguity_sums` is the same without any of this.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_partial.losses.ambiguity_piece import pieces
from nnunet_partial.losses.ambiguity_sums import AmbiguitySums
from nnunet_partial.losses.one_pass import give_gradient_away, keep_gradient
from nnunet_partial.losses.sums import check
from nnunet_partial.targets import PartialTarget, ambiguity_tables


def fused_ambiguity_sums(logits: Tensor, target: PartialTarget, *, dice: bool = True) -> AmbiguitySums:
    """The sums of a batch, as `plain_ambiguity_sums` gives them, for a fraction of its time and memory; differentiable once.

    Args:
        logits: Network output, any floating type; computed in float32 at least, whatever autocast does.
        target: Label map and candidate tables of the batch.
        dice: Whether the Dice term will be asked for.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
        RuntimeError: (in backward) without Dice, the gradient is asked for a second time or is to be differentiated itself.
    """
    check(logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        signs = signed_weights(target, logits)
        if dice:
            return AmbiguitySums(target, *_TwoPasses.apply(logits, target.labels, signs))
        wants_gradient = torch.is_grad_enabled() and logits.requires_grad
        return AmbiguitySums(target, _OnePass.apply(logits, target.labels, signs, wants_gradient), None, None, None)


def signed_weights(target: PartialTarget, logits: Tensor) -> Tensor:
    """(B, K, L): 1 where a label id says that the organ is not there, -1 where it says that it is, 0 where it says nothing.

    With s this number, eq. (1) times its weight is |s| softplus(s d): no difference of large numbers, on either side.
    """
    weights, positive = ambiguity_tables(target)
    signs = weights.to(torch.promote_types(logits.dtype, torch.float32)) - 2 * positive
    return signs.transpose(1, 2).contiguous()


class _OnePass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, signs, wants_gradient):
        z, labels = logits.flatten(2), labels.flatten(1)
        gradient = torch.empty_like(z, dtype=signs.dtype) if wants_gradient else None
        total = signs.new_zeros(())
        for case in range(len(z)):
            for piece in pieces(z[case], labels[case], signs[case]):
                total += piece.cost(None if gradient is None else gradient[case, :, piece.columns])
        keep_gradient(ctx, logits, gradient)
        return total

    @staticmethod
    def backward(ctx, factor):
        gradient = give_gradient_away(ctx, factor, fused="fused_ambiguity_sums", plain="plain_ambiguity_sums")
        return gradient, None, None, None


class _TwoPasses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, signs):
        ctx.save_for_backward(logits, labels, signs)
        z, labels = logits.flatten(2), labels.flatten(1)
        total, by_class = signs.new_zeros(()), signs.new_zeros(3, *signs.shape[:2])
        for case in range(len(z)):
            for piece in pieces(z[case], labels[case], signs[case]):
                total += piece.add_volumes(*by_class[:, case])
        intersection, predicted, reference = by_class
        ctx.mark_non_differentiable(reference)
        return total, intersection, predicted, reference

    @staticmethod
    @once_differentiable
    def backward(ctx, factor, of_intersection, of_predicted, _):
        logits, labels, signs = ctx.saved_tensors
        z, labels = logits.flatten(2), labels.flatten(1)
        gradient = torch.empty_like(z)
        with torch.autocast(logits.device.type, enabled=False):
            for case in range(len(z)):
                for piece in pieces(z[case], labels[case], signs[case]):
                    slopes = factor, of_intersection[case], of_predicted[case]
                    piece.write_gradient(*slopes, gradient[case, :, piece.columns])
        return gradient.view(logits.shape), None, None
