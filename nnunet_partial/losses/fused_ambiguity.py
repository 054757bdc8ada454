"""The binary cross entropy of the ambiguity loss in one `autograd.Function` that writes the gradient on the way forward.

What is summed up over the voxels changes a voxel's gradient by a factor only, and the sigmoid of its gradient gives its loss too:
one walk over the logits, in pieces that fit the cache, makes both, and backward multiplies by the factor. The voxels of label
id 0, most of a patch, share one row of weights, and the organs that nobody looked for are not touched there; the others are
picked out and looked up by label. `ambiguity.ambiguity_bce_loss` is the same without any of this.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.losses.sums import check
from nnunet_partial.targets import PartialTarget, ambiguity_tables

# As in `fused`: a piece and what is computed from it stays in the cache, and is long enough that Python's time does not show.
SMALLEST_PIECE, LARGEST_PIECE = 3 * 2**18, 2**22  # bytes
PIECES = 48  # in between, a case is cut into this many
LINEAR = 40.0  # from here on softplus(x) is x, in float64 too, and exp(x) is still a float32
FACTORS = 100  # so many numbers of at least a half have a product that float32 holds (2^-126 is the smallest)


def fused_ambiguity_bce_loss(logits: Tensor, target: PartialTarget) -> Tensor:
    """`ambiguity_bce_loss` for a fraction of its time and memory; differentiable once.

    Args:
        logits: Network output, any floating type; computed in float32 at least, whatever autocast does.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S); returns a scalar (nats).
    Raises:
        ValueError: C or the spatial shape differs between logits and target, or the target is soft.
        RuntimeError: (in backward) the gradient is asked for a second time, or is to be differentiated itself.
    Source: Petit et al. 2021, eq. (1)-(2).
    """
    check(logits, target)
    wants_gradient = torch.is_grad_enabled() and logits.requires_grad
    with torch.autocast(logits.device.type, enabled=False):
        total = _Sum.apply(logits, target.labels, signed_weights(target, logits), wants_gradient)
        return total / counted_voxels(target)


def counted_voxels(target: PartialTarget) -> Tensor | int:
    """Number of voxels that do not carry the ignore label, at least 1; on a GPU a tensor, so that nobody waits for it."""
    if target.ignore_label is None:
        return max(1, target.labels.numel())
    return (target.labels != target.ignore_label).sum().clamp_min(1)


def signed_weights(target: PartialTarget, logits: Tensor) -> Tensor:
    """(B, K, L): 1 where a label id says that the organ is not there, -1 where it says that it is, 0 where it says nothing.

    With s this number, eq. (1) times its weight is |s| softplus(s d): no difference of large numbers, on either side.
    """
    weights, positive = ambiguity_tables(target)
    signs = weights.to(torch.promote_types(logits.dtype, torch.float32)) - 2 * positive
    return signs.transpose(1, 2).contiguous()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, signs, wants_gradient):
        z, labels = logits.flatten(2), labels.flatten(1)
        # in float32 for half logits too: rounded once, after the factor
        gradient = torch.empty_like(z, dtype=signs.dtype) if wants_gradient else None
        # which voxels are background is known on the CPU only; elsewhere the host would have to wait for it
        by_piece = z.device.type == "cpu" and bool((signs[:, :, 0] >= 0).all())  # no table makes an organ of background
        add = add_by_piece if by_piece else add_by_label
        total = signs.new_zeros(())
        for case in range(len(z)):
            add(total, z[case], labels[case], signs[case], None if gradient is None else gradient[case])
        if wants_gradient:
            ctx.save_for_backward(gradient)
        ctx.shape, ctx.dtype, ctx.given_away = logits.shape, logits.dtype, False
        return total

    @staticmethod
    def backward(ctx, factor):
        if ctx.given_away or torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "fused_ambiguity_bce_loss cannot be differentiated a second time: its gradient is made once and given away; "
                "take ambiguity_bce_loss where a graph is kept"
            )
        ctx.given_away = True
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(factor).view(ctx.shape).to(ctx.dtype), None, None, None


def add_by_label(total: Tensor, z: Tensor, labels: Tensor, signs: Tensor, out: Tensor | None) -> None:
    """Add the loss of voxels of any label to `total`, and write its gradient over `out`, if there is one.

    Shape:
        total (); z, out (C, n); labels (n,); signs (K, L).
    """
    z = z.to(signs.dtype)
    rows = signs.index_select(1, labels.long())  # (K, n)
    gaps = (z[1:] - z[0]).mul_(rows)
    total += F.softplus(gaps, threshold=LINEAR).mul_(rows).abs_().sum()
    if out is not None:
        organs = gaps.sigmoid_().mul_(rows)
        out[1:] = organs
        torch.sum(organs, 0, out=out[0]).neg_()


def add_by_piece(total: Tensor, z: Tensor, labels: Tensor, signs: Tensor, out: Tensor | None) -> None:
    """The same for all V voxels of a case, a piece at a time; on the CPU, where label id 0 stands for no organ alone.

    Shape:
        total (); z, out (C, V); labels (V,); signs (K, L).
    """
    known = signs[:, 0].nonzero()[:, 0] + 1
    size = min(max(z.numel() * signs.itemsize // PIECES, SMALLEST_PIECE), LARGEST_PIECE)
    length = min(z.shape[1], max(1, size // (len(z) * signs.itemsize)))
    room = signs.new_empty(2, len(known), length)
    for start in range(0, z.shape[1], length):
        piece = slice(start, start + length)
        part = None if out is None else out[:, piece]
        add_piece(total, z[:, piece].to(signs.dtype), labels[piece], signs, part, known, room[..., : len(labels[piece])])


def add_piece(total: Tensor, z: Tensor, labels: Tensor, signs: Tensor, out: Tensor | None, known: Tensor, room: Tensor) -> None:
    """The same for T voxels: all as if they were background, then those with a label over again.

    Shape:
        total (); z, out (C, T); labels (T,); signs (K, L); known (N,), the classes of which background says something;
        room (2, N, T), written over.
    """
    where = labels.nonzero()[:, 0]
    if 2 * len(where) > len(labels):
        add_by_label(total, z, labels, signs, out)
        return
    gaps, p = room
    directly = out is not None and out.stride(1) == 1 and len(known) == len(signs)
    if directly:
        p = out[1:]
    total += costs_without_organ(z, known, gaps, p).index_fill_(0, where, 0).sum()
    labelled = None if out is None else z.new_empty(len(z), len(where))
    add_by_label(total, z.index_select(1, where), labels.index_select(0, where), signs, labelled)
    if out is not None:
        torch.sum(p, 0, out=out[0]).neg_()
        if not directly:
            out[1:].zero_()
            out.index_copy_(0, known, p)
        out.index_copy_(1, where, labelled)


def costs_without_organ(z: Tensor, known: Tensor, gaps: Tensor, p: Tensor) -> Tensor:
    """(T,): sum over the known classes of softplus(d), the loss where none of them is there; sigmoid(d) is written over `p`.

    softplus(d) = max(d, 0) - log max(p, 1 - p), and a sum of logarithms is that of a product: one logarithm a voxel. It is exact
    to 6e-8 a class, the rounding of 1 - p.

    Shape:
        z (C, T); known (N,); gaps, p (N, T).
    """
    if len(known) == len(z) - 1:
        torch.sub(z[1:], z[0], out=gaps)
    else:
        torch.index_select(z, 0, known, out=gaps).sub_(z[0])
    torch.sigmoid(gaps, out=p)
    costs = gaps.clamp_min_(0).sum(0)
    torch.sub(p.new_ones(()), p, out=gaps)
    for factors in torch.maximum(p, gaps, out=gaps).split(FACTORS):
        costs -= factors.prod(0).log_()
    return costs
