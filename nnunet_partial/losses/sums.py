"""What the losses need to know of a batch: a few sums over the voxels of every case."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.targets import PartialTarget


@dataclass(frozen=True)
class CandidateSums:
    """Sums over the voxels of every case, from which the marginal and exclusion terms follow; float32 at least.

    p_n is softmax, q the probability mass on a voxel's candidate set, e_n is 1 where the voxel's label excludes class n. Voxels
    with the ignore label are in none of the sums.

    Attributes:
        target: The target these were summed for.
        counts: (B, L), voxels of each label id.
        negative_log: (B,), sum of -log q.
        intersection: (B, L), sum of q over the voxels of each label id; what it holds for ids nobody looked for is not used.
        volume: (B, C), sum of p_n.
        overlap: (B, C), sum of e_n p_n; None where the exclusion terms were not asked for.
        excluded_log: (B,), sum of e_n log(p_n + 1) over voxels and classes; None likewise.
    """

    target: PartialTarget
    counts: Tensor
    negative_log: Tensor
    intersection: Tensor
    volume: Tensor
    overlap: Tensor | None
    excluded_log: Tensor | None

    def mean_over_voxels(self, total: Tensor) -> Tensor:
        """A (B,) sum over voxels as a mean over the voxels that do not carry the ignore label."""
        return total.sum() / self.counts.sum().clamp_min(1)


MakeSums = Callable[..., CandidateSums]  # (logits, target, *, exclusion: bool), see `plain_sums` and `fused_sums`


def annotated_ids(target: PartialTarget) -> Tensor:
    """(B, L) bool: the ids this case's annotator looked for; background is no organ, whatever the caller put there."""
    return F.pad(target.annotated[:, 1:], (1, 0), value=False)


def excluding_ids(target: PartialTarget) -> Tensor:
    """(B, L, C) bool: label id l was looked for and excludes class n, because n is not among the classes l stands for."""
    return annotated_ids(target)[:, :, None] & ~target.tables


def check(logits: Tensor, target: PartialTarget) -> None:
    """Refuse what the losses on candidate sets cannot take.

    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    if target.tables.dtype != torch.bool:
        raise ValueError(
            f"this loss takes candidate tables (bool), got soft tables ({target.tables.dtype}); use soft_cross_entropy"
        )
    check_shapes(logits, target)


def check_log_odds(target: PartialTarget, **tensors: Tensor) -> None:
    """Refuse numbers of each foreground class that do not lie on the target; they are named as the caller names them.

    Raises:
        ValueError: K or the spatial shape differ.
    """
    expected = (len(target.labels), target.num_classes - 1, *target.labels.shape[2:])
    for name, tensor in tensors.items():
        if tensor.shape != expected:
            raise ValueError(f"{name} must have shape (B, K, *S) = {expected}, got {tuple(tensor.shape)}")


def check_shapes(logits: Tensor, target: PartialTarget) -> None:
    """Refuse logits that do not lie on the target.

    Raises:
        ValueError: shapes of logits and target differ.
    """
    if logits.ndim < 3 or logits.shape[0] != target.labels.shape[0] or logits.shape[2:] != target.labels.shape[2:]:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(target.labels.shape)} must agree as (B, C, *S) and (B, 1, *S)"
        )
    if logits.shape[1] != target.num_classes:
        raise ValueError(f"logits have C = {logits.shape[1]} channels, but target.tables have C = {target.num_classes} classes")
