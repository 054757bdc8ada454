"""The gradient of a loss that is made on the way forward: kept until backward, multiplied by a factor, and given away."""

from typing import Any

import torch
from torch import Tensor


def keep_gradient(ctx: Any, logits: Tensor, gradient: Tensor | None) -> None:
    """Keep a gradient (B, C, V), in float32 at least, for backward; None where none will be asked for."""
    if gradient is not None:
        ctx.save_for_backward(gradient)
    ctx.shape, ctx.dtype, ctx.given_away = logits.shape, logits.dtype, False


def give_gradient_away(ctx: Any, factor: Tensor, *, fused: str, plain: str) -> Tensor:
    """The kept gradient times a factor, in the shape and type of the logits: rounded once, after the factor.

    Args:
        ctx: Of the autograd function.
        factor: Derivative of the loss by what forward returned, broadcast over the gradient.
        fused: What was called, for the error.
        plain: What can be differentiated again.
    Raises:
        RuntimeError: the gradient is asked for a second time, or is to be differentiated itself.
    """
    if ctx.given_away or torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError(
            f"{fused} without Dice cannot be differentiated a second time: its gradient is made once and given away; take "
            f"{plain} where a graph is kept"
        )
    ctx.given_away = True
    (gradient,) = ctx.saved_tensors
    return gradient.mul_(factor).view(ctx.shape).to(ctx.dtype)
