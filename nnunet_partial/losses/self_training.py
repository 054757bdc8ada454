"""Self-training: cross entropy with labels that a network gave (Shi et al. 2022, eq. 7)."""

from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.losses.log_odds import at_least_float32
from nnunet_partial.losses.voxel_mean import voxel_mean


def self_training_loss(logits: Tensor, labels: Tensor, where: Tensor, *, over: Tensor | None = None) -> Tensor:
    """Cross entropy with a network's own labels, mean over voxels.

    Args:
        logits: Network output before softmax.
        labels: Class ids.
        where: The voxels whose labels are believed.
        over: The voxels over which the mean is taken, if others than `where`.
    Shape:
        logits (B, C, *S); labels (B, 1, *S) int64; where and over (B, 1, *S) bool; returns a scalar (nats).
    Raises:
        ValueError: shapes differ.
    Source: Shi et al. 2022 (CoraNet), eq. (7), a mean over voxels in place of a sum.
    """
    if labels.shape != (len(logits), 1, *logits.shape[2:]):
        raise ValueError(f"labels {tuple(labels.shape)} must lie on logits {tuple(logits.shape)} as (B, 1, *S) on (B, C, *S)")
    z = at_least_float32(logits)
    return voxel_mean(F.cross_entropy(z, labels[:, 0], reduction="none")[:, None], where, over)
