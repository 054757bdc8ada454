"""Candidate sets voxel by voxel: which classes a voxel may be, and whether that is decided."""

import torch
from torch import Tensor

from nnunet_partial.targets.ambiguity import by_voxel
from nnunet_partial.targets.partial_target import PartialTarget


def candidate_map(target: PartialTarget) -> Tensor:
    """True where the voxel may be of the class.

    Args:
        target: Label map and candidate tables (bool) of the batch.
    Shape:
        target.labels (B, 1, *S); returns (B, C, *S) bool.
    """
    return by_voxel(target.tables, target)


def ambiguous_voxels(target: PartialTarget) -> Tensor:
    """True where a voxel has several candidate classes: what CoraNet's papers call unlabelled, voxel by voxel.

    In a case that nobody annotated these are all voxels. Voxels with the ignore label count in no mean, here as elsewhere.

    Args:
        target: Label map and candidate tables (bool) of the batch.
    Shape:
        target.labels (B, 1, *S); returns (B, 1, *S) bool.
    """
    several = by_voxel(target.tables.sum(2, keepdim=True) > 1, target)
    return several if target.ignore_label is None else several & (target.labels != target.ignore_label)


def decided_voxels(target: PartialTarget) -> Tensor:
    """True where a voxel has one candidate class: where the annotation says what it is.

    Args:
        target: Label map and candidate tables (bool) of the batch.
    Shape:
        target.labels (B, 1, *S); returns (B, 1, *S) bool; False at the ignore label, as `ambiguous_voxels`.
    """
    one = by_voxel(target.tables.sum(2, keepdim=True) == 1, target)
    return one if target.ignore_label is None else one & (target.labels != target.ignore_label)


def unannotated_organs(target: PartialTarget) -> Tensor:
    """True where some label id of the case leaves open whether it is the organ: nobody looked for it by itself.

    An organ that was drawn within a union alone is one of them.

    Args:
        target: Candidate tables (bool) of the batch; the label map is not looked at.
    Shape:
        target.tables (B, L, C); returns (B, K) bool; column k - 1 is class k.
    """
    several = target.tables & (target.tables.sum(2, keepdim=True) > 1)
    if target.ignore_label is not None:
        ids = torch.arange(target.num_label_ids, device=several.device)
        several = several & (ids != target.ignore_label)[:, None]
    return several.any(1)[:, 1:]
