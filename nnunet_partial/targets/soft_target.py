"""The target of a batch in which annotators may differ: what share of them said what."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnunet_partial.targets.partial_target import PartialTarget


@dataclass(frozen=True)
class SoftTarget(PartialTarget):
    """Label maps whose ids stand for shares of votes.

    An annotator says of a voxel either that it is one class, or, where organs were not looked for or are drawn as one, that it is
    one of several. Shares that lie on neither are of those who know nothing about the voxel.

    Attributes:
        tables: (B, L, C) float; the share of a case's annotators who say of a voxel with label id l that it is class n.
        set_shares: (B, L, G) float; the share who say that it is one of the classes of set g.
        sets: (G, C) bool; those sets, each of at least two classes and not of all. They stay on the CPU, so that a GPU's host
            knows without waiting which classes they hold.
    Source: Silva & Oliveira 2021, section 3.2 (rows of `tables`); sets are what candidate sets make of it.
    """

    set_shares: Tensor | None = None
    sets: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tables.is_floating_point():
            raise ValueError(f"soft tables must be floating point, got {self.tables.dtype}")
        if self.set_shares is None or self.sets is None:
            raise ValueError("a soft target needs set_shares and sets; both may be empty")
        num_sets, num_classes = self.sets.shape
        if num_classes != self.num_classes or self.set_shares.shape != (*self.tables.shape[:2], num_sets):
            raise ValueError(
                f"with tables {tuple(self.tables.shape)} (B, L, C), sets must be (G, C) and set_shares (B, L, G); "
                f"got {tuple(self.sets.shape)} and {tuple(self.set_shares.shape)}"
            )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "SoftTarget":
        """The same target on another device."""
        names = ("labels", "tables", "annotated", "set_shares")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=non_blocking) for name in names})

    @property
    def looked_for(self) -> Tensor:
        """(B, C) bool: the classes that somebody looked for, whether or not one is in the patch."""
        return (self.annotated[:, 1:, None] & (self.tables[:, 1:] > 0)).any(1)

    @property
    def known(self) -> Tensor:
        """(B, L, C): the share of annotators whose word decides whether a voxel is class n."""
        outside = self.set_shares @ (~self.sets).to(self.set_shares)  # by a word on a set without n
        return self.tables.sum(2, keepdim=True) + outside


def as_soft(target: PartialTarget) -> SoftTarget:
    """Any target as a soft one: a candidate table is one annotator who says so.

    Args:
        target: Candidate tables (bool), or rows of probabilities (float).
    """
    if isinstance(target, SoftTarget):
        return target
    tables, sets = target.tables, torch.zeros(0, target.num_classes, dtype=torch.bool)
    if tables.dtype == torch.bool:
        size = tables.sum(2, keepdim=True)
        several = (size[:, :, 0] > 1) & (size[:, :, 0] < target.num_classes)
        sets = tables[several].unique(dim=0)
        set_shares = (tables[:, :, None] == sets).all(3).float()  # (B, L, G)
        tables = (tables & (size == 1)).float()
    else:
        set_shares = tables.new_zeros(*tables.shape[:2], 0)
    return SoftTarget(target.labels, tables, target.annotated, target.ignore_label, set_shares=set_shares, sets=sets.cpu())


def without_ignored(table: Tensor, target: SoftTarget) -> Tensor:
    """(B, L, N) -> the same, nothing said under the ignore label."""
    if target.ignore_label is None:
        return table
    ids = torch.arange(table.shape[1], device=table.device)
    return table * (ids != target.ignore_label)[:, None]
