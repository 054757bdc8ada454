"""Cost, volumes and gradient of a piece of one case under the ambiguity loss, without autograd.

The voxels of label id 0, most of a patch, share one row of weights: they are done all alike, and the organs that nobody looked
for are not touched. The others are picked out and looked up by label. On a GPU, which voxels are background is not known without
waiting for it: there a case is one piece, and every voxel is looked up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.losses.ambiguity_sums import LINEAR

# As in `fused`: a piece and what is computed from it stays in the cache, and is long enough that Python's time does not show.
SMALLEST_PIECE, LARGEST_PIECE = 3 * 2**18, 2**21  # bytes
PIECES = 48  # in between, a case is cut into this many
FACTORS = 100  # so many numbers of at least a half have a product that float32 holds (2^-126 is the smallest)


def pieces(z: Tensor, labels: Tensor, signs: Tensor) -> Iterator["AmbiguityPiece"]:
    """A case cut into pieces.

    Args:
        z: Logits as the network gave them.
        labels: Label ids.
        signs: 1 where a label id says that the organ is not there, -1 where it says that it is, 0 where it says nothing.
    Shape:
        z (C, V); labels (V,); signs (K, L).
    """
    # no table makes an organ of label id 0; one that does is looked up
    by_background = z.device.type == "cpu" and bool((signs[:, 0] >= 0).all())
    if not by_background:
        yield AmbiguityPiece.by_label(slice(None), z.to(signs.dtype), labels, signs)
        return
    known = signs[:, 0].nonzero()[:, 0]
    size = min(max(z.numel() * signs.itemsize // PIECES, SMALLEST_PIECE), LARGEST_PIECE)
    length = min(z.shape[1], max(1, size // (len(z) * signs.itemsize)))
    room = signs.new_empty(2, len(known), length)
    for start in range(0, z.shape[1], length):
        columns = slice(start, start + length)
        part, ids = z[:, columns].to(signs.dtype), labels[columns]
        where = ids.nonzero()[:, 0]
        if 2 * len(where) > len(ids):
            yield AmbiguityPiece.by_label(columns, part, ids, signs)
        else:
            rows = signs.index_select(1, ids.index_select(0, where).long())
            yield AmbiguityPiece(columns, part, part.index_select(1, where), rows, where, known, room[:, :, : len(ids)])


@dataclass(frozen=True)
class AmbiguityPiece:
    """A piece of T voxels of one case, n of which are looked up by label.

    Attributes:
        columns: Where in the case it lies.
        z: (C, T) logits.
        looked_up: (C, n), those of the voxels that are looked up.
        rows: (K, n), `signs` of their label ids.
        where: (n,) int64, which of the T they are; None where all of them are, and there is no background to be done alike.
        known: (N,) int64, the organs of which background says something, counted from 0.
        room: (2, N, T), written over.
    """

    columns: slice
    z: Tensor
    looked_up: Tensor
    rows: Tensor
    where: Tensor | None = None
    known: Tensor | None = None
    room: Tensor | None = None

    @classmethod
    def by_label(cls, columns: slice, z: Tensor, labels: Tensor, signs: Tensor) -> "AmbiguityPiece":
        """A piece of which every voxel is looked up."""
        return cls(columns, z, z, signs.index_select(1, labels.long()))

    def cost(self, gradient: Tensor | None) -> Tensor:
        """Sum of w times binary cross entropy; its derivative is written over `gradient` (C, T), if there is one."""
        gaps = self._gaps().mul_(self.rows)
        total = self._cost_by_label(gaps)
        p = None
        if self.where is not None:
            p = self._probabilities(self.room[1] if gradient is None else self._place(gradient, self.room[1]))
            total += self._cost_of_background(p)
        if gradient is not None:
            self._write(gradient, p, gaps.sigmoid_().mul_(self.rows))
        return total

    def add_volumes(self, intersection: Tensor, predicted: Tensor, reference: Tensor) -> Tensor:
        """The same sum; w y p, w p and w y are added to three sums (K,), p = sigmoid(d)."""
        gaps = self._gaps()
        total = self._cost_by_label(gaps * self.rows)
        positive, p = (self.rows < 0).to(gaps), gaps.sigmoid_().mul_(self.rows.abs())
        reference += positive.sum(1)
        predicted += p.sum(1)
        intersection += positive.mul_(p).sum(1)
        if self.where is not None:
            p = self._probabilities(self.room[1])
            total += self._cost_of_background(p)
            predicted.index_add_(0, self.known, p.sum(1) - p.index_select(1, self.where).sum(1))
        return total

    def write_gradient(self, of_cost: Tensor, of_intersection: Tensor, of_predicted: Tensor, gradient: Tensor) -> None:
        """Write over `gradient` (C, T) the derivative of a loss of which `of_cost` (), `of_...` (K,) are those by these sums.

        dd = w (of_cost (p - y) + p (1 - p) (of_predicted + y of_intersection))
        """
        gaps = self._gaps()
        slope = gaps.sigmoid()
        slope.mul_(1 - slope).mul_(torch.where(self.rows < 0, (of_predicted + of_intersection)[:, None], of_predicted[:, None]))
        own = gaps.mul_(self.rows).sigmoid_().mul_(self.rows).mul_(of_cost).add_(slope.mul_(self.rows.abs()))
        known = None
        if self.where is not None:
            p = self._probabilities(self.room[1])
            of_known = of_predicted.index_select(0, self.known)[:, None]
            slope = torch.addcmul(of_cost + of_known, p, of_known, value=-1, out=self.room[0])
            known = torch.mul(p, slope, out=self._place(gradient, slope))  # p (of_cost + (1 - p) of_predicted)
        self._write(gradient, known, own)

    def _gaps(self) -> Tensor:
        return self.looked_up[1:] - self.looked_up[0]

    def _cost_by_label(self, signed_gaps: Tensor) -> Tensor:
        return F.softplus(signed_gaps, threshold=LINEAR).mul_(self.rows).abs_().sum()

    def _probabilities(self, out: Tensor) -> Tensor:
        """sigmoid(d) of the known organs, written over `out` (N, T); d is left in the first half of the room."""
        gaps = self.room[0]
        if len(self.known) == len(self.z) - 1:
            torch.sub(self.z[1:], self.z[0], out=gaps)
        else:
            torch.index_select(self.z, 0, self.known + 1, out=gaps).sub_(self.z[0])
        return torch.sigmoid(gaps, out=out)

    def _cost_of_background(self, p: Tensor) -> Tensor:
        """Sum of softplus(d) over the known organs and the voxels that are not looked up, after `_probabilities`.

        softplus(d) = max(d, 0) - log max(p, 1 - p), and a sum of logarithms is that of a product: one logarithm a voxel. It is
        exact to 6e-8 an organ, the rounding of 1 - p.
        """
        gaps = self.room[0]
        costs = gaps.clamp_min_(0).sum(0)
        torch.sub(p.new_ones(()), p, out=gaps)
        for factors in torch.maximum(p, gaps, out=gaps).split(FACTORS):
            costs -= factors.prod(0).log_()
        return costs.index_fill_(0, self.where, 0).sum()

    def _place(self, gradient: Tensor, otherwise: Tensor) -> Tensor:
        """Where the known organs' derivative is written: over the gradient at once, where all organs are known."""
        directly = gradient.stride(1) == 1 and gradient.dtype == otherwise.dtype and len(self.known) == len(gradient) - 1
        return gradient[1:] if directly else otherwise

    def _write(self, gradient: Tensor, known: Tensor | None, own: Tensor) -> None:
        """Write the derivative with respect to d, (N, T) and (K, n), over `gradient` (C, T) as that with respect to z."""
        to_background = own.sum(0).neg_()
        if self.where is None:
            gradient[1:], gradient[0] = own, to_background
            return
        gradient[0] = known.sum(0).neg_()
        if self._place(gradient, known) is known:
            gradient[1:] = 0
            gradient[1:].index_copy_(0, self.known, known.to(gradient.dtype))
        gradient[1:].index_copy_(1, self.where, own.to(gradient.dtype))
        gradient[0].index_copy_(0, self.where, to_background.to(gradient.dtype))
