"""Sums and gradient of a piece of one case without autograd, each voxel's candidate set looked up by its label id.

Exact whatever the logits, and in one go for any mix of labels, at the price of tables as large as the logits: the form for a GPU,
and for the few voxels of a CPU's piece (`by_piece`) whose candidates a sum of exponentials would lose.
"""

from dataclasses import dataclass

from torch import Tensor


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

    @property
    def num_ids(self) -> int:
        """L."""
        return len(self.counted)


@dataclass
class CaseSums:
    """The sums of `CandidateSums` for one case, or the derivatives of the loss with respect to them."""

    counts: Tensor | None  # (L,)
    negative_log: Tensor  # ()
    intersection: Tensor  # (L,)
    volume: Tensor  # (C,)
    overlap: Tensor | None  # (C,)
    excluded_log: Tensor | None  # ()


def log_mass(z: Tensor, labels: Tensor, tables: CaseTables) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of z over the candidate set, and exp(z - that) on it.

    Shape:
        z (C, n); labels (n,) int64; returns (n,) and (C, n).
    """
    on = z + tables.outside.index_select(1, labels)
    top = on.amax(0)
    on = on.sub_(top).exp_()
    total = on.sum(0)
    return top + total.log(), on.div_(total)


def add_by_label(sums: CaseSums, z: Tensor, labels: Tensor, tables: CaseTables) -> None:
    """Add voxels of any label to the sums of their case: z (C, n), labels (n,) int64."""
    counted, looked_for = tables.counted.index_select(0, labels), tables.looked_for.index_select(0, labels)
    log_total = z.logsumexp(0)
    log_q = log_mass(z, labels, tables)[0].sub_(log_total)
    p = (z - log_total).exp_()
    sums.counts.scatter_add_(0, labels, counted)
    sums.negative_log -= log_q @ tables.telling.index_select(0, labels)
    sums.intersection.scatter_add_(0, labels, log_q.exp_() * counted)
    sums.volume += p @ counted
    if sums.overlap is not None:
        excluded = p * (1 - tables.candidates).index_select(1, labels)
        sums.overlap += excluded @ looked_for
        sums.excluded_log += excluded.log1p_().sum(0) @ looked_for


def gradient_by_label(slopes: CaseSums, z: Tensor, labels: Tensor, tables: CaseTables) -> Tensor:
    """(C, n): derivative of the loss with respect to z (C, n) at voxels of any label; labels (n,) int64."""
    p = z.softmax(0)
    linear = slopes.volume[:, None] + slopes.intersection * tables.candidates  # (C, L), of the loss with respect to p
    if slopes.overlap is not None:
        linear = linear + slopes.overlap[:, None] * tables.looked_for * (1 - tables.candidates)
    slope = (linear * tables.counted).index_select(1, labels)
    if slopes.excluded_log is not None:
        excluded = slopes.excluded_log * tables.looked_for * (1 - tables.candidates)
        slope += excluded.index_select(1, labels) / (1 + p)
    slope -= (p * slope).sum(0)
    return slope.mul_(p).add_(cross_entropy_gradient(slopes, z, p, labels, tables))


def cross_entropy_gradient(slopes: CaseSums, z: Tensor, p: Tensor, labels: Tensor, tables: CaseTables) -> Tensor:
    """(C, n): the part of it that comes from -log q: p less the softmax over the candidate set alone."""
    weight = slopes.negative_log * tables.telling.index_select(0, labels)
    return (p - log_mass(z, labels, tables)[1]).mul_(weight)
