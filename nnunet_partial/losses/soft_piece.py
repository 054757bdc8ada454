"""Cost, volumes and gradient of a piece of one case under the soft-label loss, without autograd.

The voxels of label id 0, most of a patch, share one row of votes: a block of the whole piece does for all of them, and a second,
small one for the others, which are picked out and looked up by label. On a GPU, which voxels are background is not known without
waiting for it: there a case is one piece, and every voxel is looked up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnunet_partial.losses.by_piece import UNDERFLOW

# As in `fused`: a piece and what is computed from it stays in the cache, and is long enough that Python's time does not show.
SMALLEST_PIECE, LARGEST_PIECE = 3 * 2**18, 2**21  # bytes
PIECES = 48  # in between, a case is cut into this many


@dataclass(frozen=True)
class SoftCase:
    """What the annotators of a case said, by label id.

    Attributes:
        tables: (C, L), share of annotators who say class n.
        set_shares: (G, L), share who say one of the classes of set g.
        masks: (G, C), 1 where the set holds the class.
        members: Of each set, its classes.
        known: (C, L), share who know of class n; None where Dice is not asked for.
    """

    tables: Tensor
    set_shares: Tensor
    masks: Tensor
    members: tuple[Tensor, ...]
    known: Tensor | None

    @classmethod
    def of_batch(cls, tables: Tensor, set_shares: Tensor, sets: Tensor, known: Tensor | None) -> list["SoftCase"]:
        """The cases of a batch."""
        members = tuple(row.nonzero()[:, 0].to(tables.device, non_blocking=True) for row in sets)
        parts = zip(tables, set_shares, known if known is not None else [None] * len(tables), strict=True)
        return [cls(table, shares, sets.to(table), members, of_case) for table, shares, of_case in parts]

    def at(self, columns: slice) -> "SoftCase":
        """The label ids of some columns alone."""
        known = None if self.known is None else self.known[:, columns]
        return replace(self, tables=self.tables[:, columns], set_shares=self.set_shares[:, columns], known=known)


@dataclass(frozen=True)
class Block:
    """T voxels of one case; what was said of them is given voxel by voxel, or once for all (a single column).

    Attributes:
        z: (C, T) logits.
        rows: (C, T) or (C, 1), share of annotators who say class n.
        shares: (G, T) or (G, 1), share who say one of the classes of set g.
        case: The sets.
        largest: (T,), the largest logit.
        exponentials: (C, T), exp(z - largest).
        total: (T,), their sum.
        on: (G, T), their sum over each set; empty on a GPU.
    """

    z: Tensor
    rows: Tensor
    shares: Tensor
    case: SoftCase
    largest: Tensor
    exponentials: Tensor
    total: Tensor
    on: Tensor

    @classmethod
    def of(cls, z: Tensor, rows: Tensor, shares: Tensor, case: SoftCase, out: Tensor | None = None) -> "Block":
        """The block; its exponentials are written over `out` (C, T), where there is one."""
        largest = z.amax(0)
        exponentials = torch.sub(z, largest, out=out).exp_()
        on = case.masks[:0] if z.is_cuda else case.masks
        return cls(z, rows, shares, case, largest, exponentials, exponentials.sum(0), on @ exponentials)

    @property
    def weight(self) -> Tensor:
        """(T,) or (1,), share of annotators who say anything."""
        return self.rows.sum(0) + self.shares.sum(0)

    def cost(self) -> Tensor:
        """(T,), mean over annotators of -log p of what they say."""
        cost = self.total.log().add_(self.largest).mul_(self.weight)
        if self.rows.shape[1] == 1:
            for n in self.rows[:, 0].nonzero()[:, 0].tolist():  # background alone, where it is known to be background
                cost -= self.rows[n] * self.z[n]
        else:
            cost -= (self.rows * self.z).sum(0)
        log_on = self.on.log().add_(self.largest) if len(self.on) else torch.zeros_like(self.shares)
        for g, columns in self._exactly():
            log_on[g, columns] = self.z.index_select(0, self.case.members[g])[:, columns].logsumexp(0)
        return cost.sub_((self.shares * log_on).sum(0)) if len(log_on) else cost

    def turn_into_gradient(self, factor: Tensor | float = 1.0) -> Tensor:
        """(C, T), the derivative of `factor` times the cost, written over the exponentials, which are lost.

        dz_n = weight p_n - t_n - sum over the sets with n of share p_n / p(set)
        """
        gradient = self.exponentials.mul_(self._slope().mul_(factor))
        if self.rows.shape[1] == 1:
            for n in self.rows[:, 0].nonzero()[:, 0].tolist():
                gradient[n] -= factor * self.rows[n]
        else:
            gradient.sub_(factor * self.rows)
        for g, columns in self._exactly():
            members = self.case.members[g]
            share = factor * self.shares[g].expand(len(self.total))[columns]
            pulled = self.z.index_select(0, members)[:, columns].softmax(0).mul_(share)
            gradient[members[:, None], columns] -= pulled
        return gradient

    def _slope(self) -> Tensor:
        """(1, T) or (C, T): weight / total, less share / on of the sets with n."""
        slope = (self.weight / self.total)[None]
        if not len(self.on):
            return slope
        inverse = self.shares / self.on
        for g, columns in self._exactly():
            inverse[g, columns] = 0
        return torch.addmm(slope, self.case.masks.T, inverse, alpha=-1)

    def _exactly(self) -> Iterator[tuple[int, Tensor | slice]]:
        """Sets, and the voxels where their probability comes from a log-sum-exp over them alone.

        These are voxels where the set has next to nothing of the exponentials' sum, which loses it; on a GPU, where looking for
        them would make the host wait, all.
        """
        if not len(self.on):
            yield from ((g, slice(None)) for g in range(len(self.case.members)))
        elif self.on.numel() and self.on.amin() < UNDERFLOW:
            yield from ((g, columns) for g, on in enumerate(self.on) if len(columns := (on < UNDERFLOW).nonzero()[:, 0]))


@dataclass(frozen=True)
class SoftPiece:
    """A piece of T voxels of one case.

    Attributes:
        columns: Where in the case it lies.
        z: (C, T) logits.
        ids: (T,) int64 label ids.
        where: (n,) int64, the voxels that are looked up by label; None where all of them are.
        case: What the label ids say.
    """

    columns: slice
    z: Tensor
    ids: Tensor
    where: Tensor | None
    case: SoftCase

    def cost(self, gradient: Tensor | None = None) -> Tensor:
        """Sum of -log p of what the annotators say, mean over annotators; its derivative is written over `gradient` (C, T)."""
        looked_up = self._looked_up()
        if self.where is None:
            total = looked_up.cost().sum()
            if gradient is not None:
                gradient.copy_(looked_up.turn_into_gradient())
            return total
        background = self._background(gradient)
        total = background.cost().index_fill_(0, self.where, 0).sum() + looked_up.cost().sum()
        if gradient is not None:
            background.turn_into_gradient()
            gradient.index_copy_(1, self.where, looked_up.turn_into_gradient())
        return total

    def add_volumes(self, intersection: Tensor, predicted: Tensor, reference: Tensor) -> None:
        """Add t p, known p and t to three sums (C,)."""
        tables, known = self.case.tables, self.case.known
        looked_up = self._looked_up()
        ids = self._ids_looked_up()
        p = looked_up.exponentials / looked_up.total
        by_label = p.new_zeros(len(p), tables.shape[1]).index_add_(1, ids, p)  # (C, L)
        counts = p.new_zeros(tables.shape[1]).index_add_(0, ids, p.new_ones(len(ids)))
        if self.where is not None:
            background = self._background()
            by_label[:, 0] += background.exponentials @ background.total.reciprocal_().index_fill_(0, self.where, 0)
            counts[0] += len(self.ids) - len(ids)
        intersection += (tables * by_label).sum(1)
        predicted += (known * by_label).sum(1)
        reference += tables @ counts

    def write_gradient(self, of_cost: Tensor, of_intersection: Tensor, of_predicted: Tensor, gradient: Tensor) -> None:
        """Write over `gradient` (C, T) the derivative of a loss whose derivatives by these sums are `of_cost` (), `of_...` (C,).

        Dice adds p_n (s_n - sum_m s_m p_m), s = of_intersection t + of_predicted known.
        """
        slopes = of_intersection[:, None] * self.case.tables + of_predicted[:, None] * self.case.known  # (C, L)

        def of_block(block: Block, slope: Tensor) -> Tensor:
            p = block.exponentials / block.total
            rest = (p * slope).sum(0)
            return p.mul_(slope - rest).add_(block.turn_into_gradient(of_cost))

        own = of_block(self._looked_up(), slopes.index_select(1, self._ids_looked_up()))
        if self.where is None:
            gradient.copy_(own)
            return
        gradient.copy_(of_block(self._background(), slopes[:, :1]))
        gradient.index_copy_(1, self.where, own.to(gradient.dtype))

    def _ids_looked_up(self) -> Tensor:
        return self.ids if self.where is None else self.ids.index_select(0, self.where)

    def _looked_up(self) -> Block:
        ids = self._ids_looked_up()
        z = self.z if self.where is None else self.z.index_select(1, self.where)
        return Block.of(z, self.case.tables.index_select(1, ids), self.case.set_shares.index_select(1, ids), self.case)

    def _background(self, out: Tensor | None = None) -> Block:
        return Block.of(self.z, self.case.tables[:, :1], self.case.set_shares[:, :1], self.case, out)


def pieces(z: Tensor, labels: Tensor | None, case: SoftCase) -> Iterator[SoftPiece]:
    """A case cut into pieces.

    Args:
        z: Logits as the network gave them.
        labels: Label ids; None where every voxel is one of its own.
        case: What the label ids say.
    Shape:
        z (C, V); labels (V,).
    """
    dtype = case.tables.dtype
    size = min(max(z.numel() * dtype.itemsize // PIECES, SMALLEST_PIECE), LARGEST_PIECE)
    length = z.shape[1] if z.is_cuda else min(z.shape[1], max(1, size // (len(z) * dtype.itemsize)))
    for start in range(0, z.shape[1], length):
        columns = slice(start, min(start + length, z.shape[1]))
        of_piece = z[:, columns].to(dtype)
        if labels is None:
            ids = torch.arange(of_piece.shape[1], device=z.device)
            yield SoftPiece(columns, of_piece, ids, None, case.at(columns))
            continue
        ids = labels[columns].long()
        where = None if z.is_cuda else ids.nonzero()[:, 0]
        if where is not None and 2 * len(where) > len(ids):
            where = None
        yield SoftPiece(columns, of_piece, ids, where, case)
