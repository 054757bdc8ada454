"""The sums of the marginal and exclusion losses in one `autograd.Function` that keeps nothing but logits and labels.

Forward and backward walk over the logits in pieces that fit the cache; backward computes the softmax again and writes the
gradient, so that no tensor as large as the logits is made but the gradient itself. Only the chain from the sums to the voxels is
written out (`by_piece`, `by_label`); what a loss makes of the sums is ordinary autograd on a few (B, L, C) numbers, and so holds
for `batch_dice` and several processes as it stands. `candidates.plain_sums` is the same without any of this.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnunet_partial.losses.by_label import CaseSums, CaseTables, add_by_label, gradient_by_label
from nnunet_partial.losses.by_piece import MOST_ROWS, Piece, Rows
from nnunet_partial.losses.sums import CandidateSums, annotated_ids, check
from nnunet_partial.targets import PartialTarget

# A piece, and what is computed from it, stays in the cache; it is large enough that the time of Python does not show, and small
# enough that pieces are not what memory is spent on.
SMALLEST_PIECE, LARGEST_PIECE = 3 * 2**19, 2**22  # bytes
PIECES = 48  # in between, a batch is cut into this many


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
        batch = _Batch(logits.flatten(2), labels.flatten(1), _case_tables(logits, tables, annotated, ignore_label))
        ctx.save_for_backward(logits, labels)
        ctx.tables = batch.tables
        sums = batch.zero_sums(exclusion)
        ctx.calm = [batch.add_case(case, _of_case(sums, case)) for case in range(len(labels))]
        ctx.mark_non_differentiable(sums[0])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, _, *slopes):
        logits, labels = ctx.saved_tensors
        batch = _Batch(logits.flatten(2), labels.flatten(1), ctx.tables)
        gradient = torch.empty_like(batch.logits)
        with torch.autocast(logits.device.type, enabled=False):
            for case in range(len(gradient)):
                batch.write_gradient(case, _of_case((None, *slopes), case), gradient[case], calm=ctx.calm[case])
        return gradient.view(logits.shape), None, None, None, None, None


@dataclass(frozen=True)
class _Batch:
    logits: Tensor  # (B, C, V)
    labels: Tensor  # (B, V)
    tables: list[Rows] | list[CaseTables]  # Rows where cases are cut into pieces

    def zero_sums(self, exclusion: bool) -> tuple[Tensor | None, ...]:
        """The fields of `CandidateSums`, all 0."""
        (cases, num_classes), num_ids = self.logits.shape[:2], self.tables[0].num_ids
        shapes = [(cases, num_ids), (cases,), (cases, num_ids), (cases, num_classes), (cases, num_classes), (cases,)]
        zeros = [self.logits.new_zeros(shape, dtype=self.dtype) for shape in shapes]
        return tuple(zeros) if exclusion else (*zeros[:4], None, None)

    def add_case(self, case: int, sums: CaseSums) -> bool:
        """Add the voxels of a case to its sums; whether all of its pieces are calm."""
        if isinstance(self.tables[case], CaseTables):
            add_by_label(sums, self.logits[case].to(self.dtype), self.labels[case].long(), self.tables[case])
            return False
        calm = True
        for _, piece in self._pieces(case, self._buffer()):
            piece.add(sums)
            calm &= piece.calm
        return calm

    def write_gradient(self, case: int, slopes: CaseSums, out: Tensor, *, calm: bool) -> None:
        """Write the gradient (C, V) of a case (`calm`: it is known to be), rounded to the type of the logits last of all."""
        if isinstance(self.tables[case], CaseTables):
            z, labels = self.logits[case].to(self.dtype), self.labels[case].long()
            out.copy_(gradient_by_label(slopes, z, labels, self.tables[case]))
            return
        buffer = self._buffer()
        directly = len(out) <= MOST_ROWS and out.dtype == self.dtype and out.stride(1) == 1
        room = None if directly else torch.empty_like(buffer[:MOST_ROWS])
        for columns, piece in self._pieces(case, buffer, calm=calm):
            piece.write_gradient(slopes, out[:, columns], None if room is None else room[:, : len(piece.on)])

    @property
    def dtype(self) -> torch.dtype:
        """float32, or float64 where the logits are."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    def _buffer(self) -> Tensor:
        num_classes, voxels = self.logits.shape[1:]
        size = self.logits.numel() * self.dtype.itemsize // PIECES
        size = min(max(size, SMALLEST_PIECE), LARGEST_PIECE)
        columns = min(voxels, max(1, size // (num_classes * self.dtype.itemsize)))
        return self.logits.new_empty(num_classes, columns, dtype=self.dtype)

    def _pieces(self, case: int, buffer: Tensor, *, calm: bool = False) -> Iterator[tuple[slice, Piece]]:
        for start in range(0, self.logits.shape[2], buffer.shape[1]):
            columns = slice(start, start + buffer.shape[1])
            z, labels = self.logits[case, :, columns], self.labels[case, columns]
            yield columns, Piece.of(z.to(self.dtype), labels, self.tables[case], buffer[:, : len(labels)], calm=calm)


def _of_case(sums: tuple[Tensor | None, ...], case: int) -> CaseSums:
    return CaseSums(*(None if term is None else term[case] for term in sums))


def _case_tables(logits: Tensor, tables: Tensor, annotated: Tensor, ignore_label: int | None) -> list[Rows] | list[CaseTables]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    counted = torch.ones_like(annotated)
    if ignore_label is not None:
        counted &= torch.arange(tables.shape[1], device=tables.device) != ignore_label
    tables = tables.transpose(1, 2)  # (B, C, L)
    parts = (
        tables.to(dtype),
        torch.zeros_like(tables, dtype=dtype).masked_fill_(~tables, -torch.inf),
        (annotated & counted).to(dtype),
        counted.to(dtype),
        (counted & ~tables.all(1)).to(dtype),
    )
    cases = [CaseTables(*case) for case in zip(*parts, strict=True)]
    if logits.is_cuda or ignore_label == 0:  # on a GPU, which voxels are background is not known without waiting for it
        return cases
    return [Rows.of(case) for case in cases]
