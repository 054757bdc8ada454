"""Ambiguity maps: which voxels say something about which organ (Petit et al. 2021, section 3.1.1)."""

import torch
from torch import Tensor

from nnunet_partial.targets.partial_target import PartialTarget


def ambiguity_tables(target: PartialTarget) -> tuple[Tensor, Tensor]:
    """What each label id says about each organ: whether anything is known, and whether the organ is there.

    An organ is ambiguous under a label id that may stand for it and for another class too; it is there under an id that
    stands for nothing else. The ignore label says nothing about any organ.

    Args:
        target: Candidate tables of the batch; the label map is not looked at.
    Shape:
        target.tables (B, L, C); returns weights (B, L, K) bool and positive (B, L, K) bool, K = C - 1.
    Raises:
        ValueError: the target is soft.
    Source: Petit et al. 2021, w and y of eq. (1)-(2), by label id in place of voxels.
    """
    if target.tables.dtype != torch.bool:
        raise ValueError(f"ambiguity maps come from candidate tables (bool), got soft tables ({target.tables.dtype})")
    single = target.tables.sum(2, keepdim=True) == 1
    organs = target.tables[:, :, 1:]
    weights, positive = single | ~organs, single & organs
    if target.ignore_label is not None:
        known = torch.arange(target.num_label_ids, device=target.tables.device)[:, None] != target.ignore_label
        weights, positive = weights & known, positive & known
    return weights, positive


def ambiguity_map(target: PartialTarget) -> Tensor:
    """True where the voxel's label says whether the organ is there, False where that is ambiguous or ignored.

    Args:
        target: Label map and candidate tables of the batch.
    Shape:
        target.labels (B, 1, *S); returns (B, K, *S) bool; channel k - 1 is the map of class k.
    Raises:
        ValueError: the target is soft.
    Source: Petit et al. 2021, W of eq. (2) and figure 2.
    """
    weights, _ = ambiguity_tables(target)
    return by_voxel(weights, target)


def positive_map(target: PartialTarget) -> Tensor:
    """True where the voxel's label says that the organ is there.

    Shape:
        target.labels (B, 1, *S); returns (B, K, *S) bool.
    Raises:
        ValueError: the target is soft.
    Source: Petit et al. 2021, y of eq. (1).
    """
    _, positive = ambiguity_tables(target)
    return by_voxel(positive, target)


def by_voxel(table: Tensor, target: PartialTarget) -> Tensor:
    """(B, L, K) -> (B, K, *S): the row of each voxel's label id."""
    labels = target.labels.flatten(1).long()  # (B, V)
    rows = table.transpose(1, 2).gather(2, labels[:, None].expand(-1, table.shape[2], -1))  # (B, K, V)
    return rows.unflatten(2, target.labels.shape[2:])
