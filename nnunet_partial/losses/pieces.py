"""The sums and the gradient of one piece of one case, without autograd; `fused` cuts the pieces, `candidates` is the reference.

Two forms of the same mathematics. *By label* looks the candidate set of every voxel up, as `candidates` does, and is exact
whatever the logits. *Background* serves the voxels of label id 0, most of a patch: they share one set, so that three small matrix
products stand in place of tables as large as the piece.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Background voxels whose candidates have less than this beside their largest exponential (1) are done by label: a sum of float32
# exponentials loses them (exp(-88) is the smallest normal number), a log-sum-exp over the set alone does not.
UNDERFLOW = 1e-30


@dataclass(frozen=True)
class CaseTables:
    """What each label id of one case means; label ids are columns, so that a lookup keeps the classes in front.

    Attributes:
        candidates: (C, L), 1 where the class is a candidate of the id, else 0.
        outside: (C, L), 0 where it is, else minus infinity.
        looked_for: (L,), 1 where the annotator looked for the id, else 0.
        counted: (L,), 0 for the ignore label, else 1.
        telling: (L,), 0 for ids that say nothing (the ignore label, or every class a candidate), else 1.
    """

    candidates: Tensor
    outside: Tensor
    looked_for: Tensor
    counted: Tensor
    telling: Tensor


@dataclass
class CaseSums:
    """The sums of `CandidateSums` for one case, or the derivatives of the loss with respect to them."""

    counts: Tensor | None  # (L,)
    negative_log: Tensor  # ()
    intersection: Tensor  # (L,)
    volume: Tensor  # (C,)
    overlap: Tensor | None  # (C,)
    excluded_log: Tensor | None  # ()


def add_by_label(sums: CaseSums, z: Tensor, labels: Tensor, log_total: Tensor, tables: CaseTables) -> None:
    """Add voxels of any label to the sums of their case.

    Shape:
        z (C, n); labels (n,) int64; log_total (n,), log-sum-exp of z over the classes.
    """
    counted, looked_for = tables.counted.index_select(0, labels), tables.looked_for.index_select(0, labels)
    on = z + tables.outside.index_select(1, labels)  # (C, n)
    top = on.amax(0)
    log_q = (on - top).exp_().sum(0).log_().add_(top).sub_(log_total)
    p = (z - log_total).exp_()
    sums.counts.scatter_add_(0, labels, counted)
    sums.negative_log -= log_q @ tables.telling.index_select(0, labels)
    sums.intersection.scatter_add_(0, labels, log_q.exp_() * counted)
    sums.volume += p @ counted
    if sums.overlap is not None:
        excluded = p.masked_fill_(on > -torch.inf, 0)  # (C, n), p_n outside the candidate set
        sums.overlap += excluded @ looked_for
        sums.excluded_log += excluded.log1p_().sum(0) @ looked_for


def gradient_by_label(
    slopes: CaseSums, linear: Tensor, z: Tensor, labels: Tensor, log_total: Tensor, tables: CaseTables
) -> Tensor:
    """(C, n): derivative of the loss with respect to z at voxels of any label.

    Shape:
        linear (C, L), from `linear_slopes`; z (C, n); labels (n,) int64; log_total (n,).
    """
    on = z + tables.outside.index_select(1, labels)
    p = (z - log_total).exp_()
    slope = linear.index_select(1, labels)  # of the loss with respect to p
    if slopes.excluded_log is not None:
        each = tables.looked_for.index_select(0, labels) * slopes.excluded_log
        slope += (each / (1 + p)).masked_fill_(on > -torch.inf, 0)
    weight = tables.telling.index_select(0, labels) * slopes.negative_log
    on = on.sub_(on.amax(0)).exp_()
    on_share = on.mul_(weight / on.sum(0))  # weight times softmax over the candidate set alone
    slope += weight - (p * slope).sum(0)
    return slope.mul_(p).sub_(on_share)


def linear_slopes(slopes: CaseSums, tables: CaseTables) -> Tensor:
    """(C, L): derivative of the loss with respect to p_n at a voxel of each label id, of the terms that are linear in p."""
    result = slopes.volume[:, None] + slopes.intersection * tables.candidates
    if slopes.overlap is not None:
        result = result + slopes.overlap[:, None] * tables.looked_for * (1 - tables.candidates)
    return result * tables.counted


@dataclass(frozen=True)
class BackgroundPiece:
    """A piece of which the voxels of label id 0 are done together; the others stand apart.

    Attributes:
        exponentials: (C, T), exp(z - top).
        on, total: (T,), their sums over the candidate set of background and over all classes.
        apart: (n,) indices of the voxels that are done by label.
        labels: (n,) int64, their labels.
        log_total: (n,), their log-sum-exp.
    """

    exponentials: Tensor
    on: Tensor
    total: Tensor
    apart: Tensor
    labels: Tensor
    log_total: Tensor

    @classmethod
    def of(cls, z: Tensor, labels: Tensor, background: Tensor, buffer: Tensor) -> "BackgroundPiece":
        """Split a piece: z (C, T); labels (T,); background (C,), 1 where the class is a candidate; buffer (C, T) is overwritten."""
        top = z.amax(0)
        exponentials = torch.sub(z, top, out=buffer).exp_()
        on, off = torch.stack([background, 1 - background]) @ exponentials
        total = on + off  # equal to `on` to the last bit where every class is a candidate
        mark = labels if on.amin() >= UNDERFLOW else (labels != 0) | (on < UNDERFLOW)
        apart = mark.nonzero()[:, 0]
        log_total = top.index_select(0, apart) + total.index_select(0, apart).log_()
        return cls(exponentials, on, total, apart, labels.index_select(0, apart).long(), log_total)

    def add(self, sums: CaseSums, telling: Tensor) -> None:
        """Add the voxels that do not stand apart to the sums of their case."""
        sums.counts[0] += len(self.on) - len(self.apart)
        sums.negative_log += (self.total / self.on).index_fill_(0, self.apart, 1).log_().sum() * telling
        sums.volume += self.exponentials @ self.total.reciprocal().index_fill_(0, self.apart, 0)

    def gradient(self, slopes: CaseSums, telling: Tensor, background: Tensor, buffer: Tensor) -> Tensor:
        """(C, T): what to multiply the exponentials with; at voxels that stand apart it means nothing.

        dz_n = p_n (a_n - sum_m a_m p_m + w - w [n is a candidate] / q), with a = d loss / d volume and w = d loss / d negative_log.
        """
        weight = slopes.negative_log * telling
        share = self.total.reciprocal()
        rest = (weight - (slopes.volume @ self.exponentials).mul_(share)).mul_(share)
        by_class = torch.stack([slopes.volume, torch.ones_like(background), -background], 1)  # (C, 3)
        return torch.mm(by_class, torch.stack([share, rest, self.on.reciprocal() * weight]), out=buffer)
