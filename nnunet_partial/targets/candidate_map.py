"""Candidate sets voxel by voxel: which classes a voxel may be, and whether that is decided."""

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
