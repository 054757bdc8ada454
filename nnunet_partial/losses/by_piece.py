"""Sums and gradient of a piece of one case without autograd, for the CPU; the mathematics is that of `by_label`.

The voxels of label id 0, most of a patch, share one candidate set: three small matrix products do for all of them. The others are
picked out, and each finds the few classes its label stands for in a list.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_partial.losses.by_label import CaseSums, CaseTables, cross_entropy_gradient, log_mass

# A voxel whose candidates have less than this gets its cross entropy by label: a sum of float32 exponentials loses them (exp(-88)
# is the smallest normal number), a log-sum-exp over the set alone does not.
UNDERFLOW = 1e-30
# Where the largest logit of every voxel lies between minus and plus this, the exponentials are taken of the logits as they are:
# their sums neither overflow nor vanish, and a pass over the piece is saved, in backward two.
CALM = 40.0
# Columns of so many rows at a time: those of more rows, a large power of two apart in memory, push each other out of the cache.
MOST_ROWS = 32


@dataclass(frozen=True)
class Rows:
    """A case's tables as a piece uses them.

    Attributes:
        tables: The same by label id.
        shares: (2, C), 1 where the class is a candidate of background, and 1 where it is not.
        members: (M, L) int64, the classes each other label id stands for, padded.
        valid: (M, L), 0 at the padding, else 1.
    """

    tables: CaseTables
    shares: Tensor
    members: Tensor
    valid: Tensor

    @property
    def num_ids(self) -> int:
        """L."""
        return self.tables.num_ids

    @classmethod
    def of(cls, tables: CaseTables) -> "Rows":
        """Lists are as long as the longest that says something; a voxel of another label never reads its list."""
        background = tables.candidates[:, 0]
        listed = tables.candidates * tables.telling
        longest = max(1, int(listed[:, 1:].sum(0).amax())) if listed.shape[1] > 1 else 1
        valid, members = listed.topk(longest, dim=0)
        return cls(tables, torch.stack([background, 1 - background]), members, valid)


@dataclass(frozen=True)
class Piece:
    """A piece of T voxels of one case, n of them with a label other than 0.

    Attributes:
        z: (C, T), as the network gave them.
        labels: (T,).
        rows: The tables of the case.
        calm: No largest logit is beyond `CALM`.
        exponentials: (C, T), exp(z) of a calm piece, of others exp(z - largest z of the voxel).
        on, total: (T,), their sums over the voxel's candidate set and over all classes.
        where, ids: (n,) int64, index and label of the labelled voxels.
        faint: (m,) int64, voxels whose cross entropy is done by label.
    """

    z: Tensor
    labels: Tensor
    rows: Rows
    calm: bool
    exponentials: Tensor
    on: Tensor
    total: Tensor
    where: Tensor
    ids: Tensor
    faint: Tensor

    @classmethod
    def of(cls, z: Tensor, labels: Tensor, rows: Rows, buffer: Tensor, *, calm: bool = False) -> "Piece":
        """Exponentials (written over `buffer`, (C, T)) and their sums; `calm`: it is known to be."""
        top = None if calm else z.amax(0)
        calm = calm or bool(top.abs().amax() <= CALM)
        exponentials = torch.exp(z, out=buffer) if calm else torch.sub(z, top, out=buffer).exp_()
        on, off = rows.shares @ exponentials
        total = off.add_(on)  # equal to `on` to the last bit where every class is a candidate
        where = labels.nonzero()[:, 0]
        ids = labels.index_select(0, where).long()
        own = exponentials[rows.members.index_select(1, ids), where].mul_(rows.valid.index_select(1, ids)).sum(0)
        own = torch.where(rows.tables.telling.index_select(0, ids) > 0, own, total.index_select(0, where))
        on.index_copy_(0, where, own)
        faint = (on < UNDERFLOW).nonzero()[:, 0] if on.amin() < UNDERFLOW else where[:0]
        return cls(z, labels, rows, calm, exponentials, on, total, where, ids, faint)

    def add(self, sums: CaseSums) -> None:
        """Add the piece to the sums of its case."""
        tables, share = self.rows.tables, self.total.reciprocal()
        counted = tables.counted.index_select(0, self.ids)
        p_scale = share.index_select(0, self.where).mul_(counted)  # (n,), 0 at ignored voxels
        sums.volume += self.exponentials @ share.index_copy_(0, self.where, p_scale)
        sums.counts.index_add_(0, self.ids, counted)
        sums.counts[0] += len(self.on) - len(self.ids)
        sums.intersection.index_add_(0, self.ids, self.on.index_select(0, self.where).mul_(p_scale))
        sums.negative_log += (self.total / self.on).index_fill_(0, self.faint, 1).log_().sum()
        if len(self.faint):
            z, labels = self._faint_voxels()
            sums.negative_log += (z.logsumexp(0) - log_mass(z, labels, tables)[0]) @ tables.telling[labels]
        if sums.overlap is not None:
            self._add_excluded(sums, p_scale)

    def _add_excluded(self, sums: CaseSums, p_scale: Tensor) -> None:
        looked_for = self.rows.tables.looked_for.index_select(0, self.ids)
        members, valid = self.rows.members.index_select(1, self.ids), self.rows.valid.index_select(1, self.ids)
        p = self.exponentials.index_select(1, self.where).mul_(p_scale)  # (C, n)
        excluded = p.scatter_(0, members, p.gather(0, members).mul_(1 - valid))
        sums.overlap += excluded @ looked_for
        sums.excluded_log += excluded.log1p_().sum(0) @ looked_for

    def write_gradient(self, slopes: CaseSums, out: Tensor, room: Tensor | None) -> None:
        """Write the derivative of the loss with respect to z over `out` (C, T); `room` (up to MOST_ROWS, T) is written over too.

        Without room, `out` serves, which has to be of the type of the exponentials.

        dz_n = p_n (a_n - sum_m a_m p_m + w - w [n is a candidate] / q), a = d loss / d volume, w = d loss / d negative_log; the
        voxels with a label have further terms.
        """
        by_voxel = self.total.new_empty(3, len(self.total))
        share, rest, own = by_voxel
        torch.reciprocal(self.total, out=share)
        weight = slopes.negative_log * self.rows.tables.telling[0]
        torch.mv(self.exponentials.T, slopes.volume, out=rest)
        rest.mul_(share).neg_().add_(weight).mul_(share)
        torch.reciprocal(self.on, out=own).mul_(weight)
        if len(self.faint):
            rest.index_add_(0, self.faint, share.index_select(0, self.faint).mul_(-weight))
            own.index_fill_(0, self.faint, 0)
        labelled = self._labelled_gradient(slopes, share).to(out.dtype)
        background = self.rows.shares[0]
        by_class = torch.stack([slopes.volume, torch.ones_like(background), -background], 1)
        for first in range(0, len(out), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            factors = torch.mm(by_class[rows], by_voxel, out=out[rows] if room is None else room[: len(out) - first])
            torch.mul(self.exponentials[rows], factors, out=out[rows])
        out.index_copy_(1, self.where, labelled)
        if len(self.faint):
            z, labels = self._faint_voxels()
            out.index_add_(1, self.faint, cross_entropy_gradient(slopes, z, z.softmax(0), labels, self.rows.tables).to(out.dtype))

    def _labelled_gradient(self, slopes: CaseSums, share: Tensor) -> Tensor:
        tables, ids = self.rows.tables, self.ids
        members, valid = self.rows.members.index_select(1, ids), self.rows.valid.index_select(1, ids)
        p_scale = share.index_select(0, self.where).mul_(tables.counted.index_select(0, ids))
        p = self.exponentials.index_select(1, self.where).mul_(p_scale)  # (C, n)
        on = self.on.index_select(0, self.where)
        weight = slopes.negative_log * tables.telling.index_select(0, ids).masked_fill_(on < UNDERFLOW, 0)
        q = on.mul_(p_scale).clamp_min_(torch.finfo(on.dtype).tiny)  # 0 at ignored voxels, whose weight is 0 too
        inside = slopes.intersection.index_select(0, ids) - weight / q
        if slopes.overlap is None:
            slope = slopes.volume[:, None].expand_as(p).clone()
        else:
            looked_for = tables.looked_for.index_select(0, ids)
            excluded = (slopes.excluded_log / (1 + p)).add_(slopes.overlap[:, None]).mul_(looked_for)
            inside = inside - excluded.gather(0, members)
            slope = excluded.add_(slopes.volume[:, None])
        slope.scatter_add_(0, members, valid * inside)
        return slope.sub_((p * slope).sum(0)).mul_(p)

    def _faint_voxels(self) -> tuple[Tensor, Tensor]:
        z = self.z.index_select(1, self.faint).to(self.total.dtype)
        return z, self.labels.index_select(0, self.faint).long()
