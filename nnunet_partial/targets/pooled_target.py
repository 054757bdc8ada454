"""Targets of coarser resolutions: means of what annotators say of the voxels that one covers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.targets.ambiguity import by_voxel
from nnunet_partial.targets.soft_target import SoftTarget, without_ignored

ROWS_AT_A_TIME = 4  # classes pooled from full resolution in one go: the shares of all of them would take as much as the logits
POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


@dataclass(frozen=True)
class PooledTarget(SoftTarget):
    """A soft target in which every voxel has shares of its own: a label id is a voxel's place in the patch.

    Attributes:
        counted: (B, 1, *S) float; the part of the voxel that does not carry the ignore label.
        full: The target of full resolution.
    """

    counted: Tensor | None = None
    full: SoftTarget | None = None

    @property
    def num_counted(self) -> Tensor:
        """Number of voxels without the ignore label, those counted in part that it covers in part."""
        return self.counted.sum().clamp_min(1)

    @property
    def looked_for(self) -> Tensor:
        """(B, C) bool: the classes that somebody looked for, whether or not one is in the patch."""
        return self.full.looked_for

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PooledTarget":
        """The same target on another device."""
        moved = super().to(device, non_blocking)
        counted, full = (part.to(device, non_blocking=non_blocking) for part in (self.counted, self.full))
        return replace(moved, counted=counted, full=full)


def pooled_targets(target: SoftTarget, shapes: Sequence[Sequence[int]]) -> list[PooledTarget]:
    """The targets of ever coarser resolutions, each the mean over the one before.

    Args:
        target: The target of full resolution.
        shapes: Spatial shapes, each a whole fraction of the one before; of others the mean is torch's adaptive one.
    Shape:
        target.labels (B, 1, *S); returns a target with labels (B, 1, *shape) for each shape.
    """
    counted = torch.ones_like(target.tables[:, :, :1])
    said = without_ignored(torch.cat([target.tables, target.set_shares, counted], 2), target)  # (B, L, C + G + 1)
    pool, pooled, shares = POOL[target.labels.ndim - 2], [], None
    for shape in map(tuple, shapes):
        if shares is None:
            parts = [pool(by_voxel(rows, target), shape) for rows in said.split(ROWS_AT_A_TIME, 2)]
            shares = torch.cat(parts, 1)  # (B, C + G + 1, *shape)
        else:
            shares = pool(shares, shape)
        pooled.append(_of_shares(shares, target))
    return pooled


def _of_shares(shares: Tensor, full: SoftTarget) -> PooledTarget:
    """The target in which voxel number v has the shares (B, C + G + 1, *S) that stand there."""
    tables, set_shares, counted = shares.flatten(2).split([full.num_classes, len(full.sets), 1], 1)
    size = counted.shape[2]
    places = torch.arange(size, dtype=torch.int32, device=shares.device)
    return PooledTarget(
        labels=places.view(1, 1, *shares.shape[2:]).expand(len(shares), 1, *shares.shape[2:]),
        tables=tables.transpose(1, 2),
        annotated=full.annotated.new_zeros(len(shares), size),
        set_shares=set_shares.transpose(1, 2),
        sets=full.sets,
        counted=counted.unflatten(2, shares.shape[2:]),
        full=full,
    )
