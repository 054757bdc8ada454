"""The sums of the marginal and exclusion losses in one `autograd.Function` that keeps nothing but logits and labels.

Forward and backward walk over the logits in pieces that fit the cache; backward computes the softmax again and writes the
gradient, so that no tensor as large as the logits is made but the gradient itself. Only the chain from the sums to the voxels is
written out (`pieces`); what a loss makes of the sums is ordinary autograd on a few (B, L, C) numbers, and so holds for
`batch_dice` and several processes as it stands. `candidates.plain_sums` is the same without any of this.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_partial.losses.pieces import BackgroundPiece, CaseSums, CaseTables, add_by_label, gradient_by_label, linear_slopes
from nnunet_partial.losses.sums import CandidateSums, annotated_ids, check
from nnunet_partial.targets import PartialTarget

PIECE_BYTES = 4 * 2**20  # a piece, and what is computed from it, stays in the cache


def fused_sums(logits: Tensor, target: PartialTarget, *, exclusion: bool = True) -> CandidateSums:
    """The sums of a batch, as `plain_sums` gives them, for a fraction of its time and memory; differentiable once.

    Args:
        logits: Network output before softmax, any floating type; computed in float32 at least, whatever autocast does.
        target: Label maps, candidate tables and annotated ids of the batch.
        exclusion: Whether the exclusion terms will be asked for.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    check(logits, target)
    annotated = annotated_ids(target)
    with torch.autocast(logits.device.type, enabled=False):
        sums = _Sums.apply(logits, target.labels, target.tables, annotated, target.ignore_label, exclusion)
    return CandidateSums(target, *sums)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels, tables, annotated, ignore_label, exclusion):
        ctx.save_for_backward(logits, labels, tables, annotated)
        ctx.ignore_label = ignore_label
        batch = _Batch.of(logits, labels, tables, annotated, ignore_label)
        sums = batch.zero_sums(exclusion)
        buffers = batch.buffers()
        for case, columns, z, ids in batch.pieces():
            _add_piece(_of_case(sums, case), z, ids, batch.tables[case], buffers)
        ctx.mark_non_differentiable(sums[0])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, _, *slopes):
        logits, *others = ctx.saved_tensors
        batch = _Batch.of(logits, *others, ctx.ignore_label)
        gradient = torch.empty_like(batch.logits)
        buffers = batch.buffers()
        with torch.autocast(logits.device.type, enabled=False):
            for case, columns, z, ids in batch.pieces():
                slopes_of_case = _of_case((None, *slopes), case)
                _write_gradient(gradient[case, :, columns], slopes_of_case, z, ids, batch.tables[case], buffers)
        return gradient.view(logits.shape), None, None, None, None, None


@dataclass(frozen=True)
class _Batch:
    logits: Tensor  # (B, C, V)
    labels: Tensor  # (B, V)
    tables: list[CaseTables]
    dtype: torch.dtype  # float32, or float64 where the logits are

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, tables: Tensor, annotated: Tensor, ignore_label: int | None) -> "_Batch":
        dtype = torch.promote_types(logits.dtype, torch.float32)
        ids = torch.arange(tables.shape[1], device=tables.device)
        counted = (ids != ignore_label).expand_as(annotated) if ignore_label is not None else torch.ones_like(annotated)
        tables = tables.transpose(1, 2)  # (B, C, L)
        parts = (
            tables.to(dtype),
            torch.zeros_like(tables, dtype=dtype).masked_fill_(~tables, -torch.inf),
            (annotated & counted).to(dtype),
            counted.to(dtype),
            (counted & ~tables.all(1)).to(dtype),
        )
        return cls(logits.flatten(2), labels.flatten(1), [CaseTables(*case) for case in zip(*parts, strict=True)], dtype)

    @property
    def columns(self) -> int:
        """Voxels of a piece; on a GPU a whole case."""
        num_classes, voxels = self.logits.shape[1:]
        if self.logits.is_cuda:
            return voxels
        return min(voxels, max(1024, PIECE_BYTES // (num_classes * self.dtype.itemsize)))

    def pieces(self) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Case, columns, logits (C, T) and labels (T,) of one piece after the other."""
        for case in range(len(self.logits)):
            for start in range(0, self.logits.shape[2], self.columns):
                columns = slice(start, start + self.columns)
                yield case, columns, self.logits[case, :, columns], self.labels[case, columns]

    def zero_sums(self, exclusion: bool) -> tuple[Tensor | None, ...]:
        """The fields of `CandidateSums`, all 0."""
        cases, num_ids, num_classes = len(self.logits), self.tables[0].candidates.shape[1], self.logits.shape[1]
        shapes = [(cases, num_ids), (cases,), (cases, num_ids), (cases, num_classes), (cases, num_classes), (cases,)]
        zeros = [self.logits.new_zeros(shape, dtype=self.dtype) for shape in shapes]
        return tuple(zeros) if exclusion else (*zeros[:4], None, None)

    def buffers(self) -> Tensor:
        """(2, C, T), room for two pieces; nothing on a GPU, which keeps its memory anyway."""
        return self.logits.new_empty(2, self.logits.shape[1], 0 if self.logits.is_cuda else self.columns, dtype=self.dtype)


def _of_case(sums: tuple[Tensor | None, ...], case: int) -> CaseSums:
    return CaseSums(*(None if term is None else term[case] for term in sums))


def _add_piece(sums: CaseSums, z: Tensor, ids: Tensor, tables: CaseTables, buffers: Tensor) -> None:
    if z.is_cuda:  # which voxels stand apart is not known without waiting for the GPU
        z = z.to(sums.volume)
        add_by_label(sums, z, ids.long(), z.logsumexp(0), tables)
        return
    near, buffer = buffers[:, :, : z.shape[1]]
    z = near.copy_(z)
    piece = BackgroundPiece.of(z, ids, tables.candidates[:, 0], buffer)
    piece.add(sums, tables.telling[0])
    add_by_label(sums, z.index_select(1, piece.apart), piece.labels, piece.log_total, tables)


def _write_gradient(out: Tensor, slopes: CaseSums, z: Tensor, ids: Tensor, tables: CaseTables, buffers: Tensor) -> None:
    linear = linear_slopes(slopes, tables)
    if z.is_cuda:
        z = z.to(linear)
        out.copy_(gradient_by_label(slopes, linear, z, ids.long(), z.logsumexp(0), tables))
        return
    near, buffer = buffers[:, :, : z.shape[1]]
    z = near.copy_(z)
    background = tables.candidates[:, 0]
    piece = BackgroundPiece.of(z, ids, background, buffer)
    apart = gradient_by_label(slopes, linear, z.index_select(1, piece.apart), piece.labels, piece.log_total, tables)
    torch.mul(piece.exponentials, piece.gradient(slopes, tables.telling[0], background, near), out=out)
    out.index_copy_(1, piece.apart, apart.to(out.dtype))
