"""An experiment of `benchmarks.soft_labels`: targets of coarse resolutions as means of shares, not as the nearest voxel's."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_partial.losses.soft import SoftLabelLoss
from nnunet_partial.targets import SoftTarget
from nnunet_partial.targets.ambiguity import by_voxel
from nnunet_partial.trainers import nnUNetTrainerSoftLabels


class PooledTarget:
    """Shares of votes (B, C, *S) by voxel."""

    def __init__(self, shares: Tensor):
        self.shares = shares

    def to(self, *args: Any, **kwargs: Any) -> "PooledTarget":
        """As a tensor moves."""
        return PooledTarget(self.shares.to(*args, **kwargs))


class PooledSoftLabelLoss(nn.Module):
    """`SoftLabelLoss` at full resolution, cross entropy with shares by voxel below."""

    def __init__(self):
        super().__init__()
        self.full = SoftLabelLoss()

    def forward(self, logits: Tensor, target: SoftTarget | PooledTarget) -> Tensor:
        """A scalar."""
        return F.cross_entropy(logits, target.shares) if isinstance(target, PooledTarget) else self.full(logits, target)


class nnUNetTrainerPooledSoftLabels(nnUNetTrainerSoftLabels):
    """`nnUNetTrainerSoftLabels` with average pooling; every annotator must have looked for every class."""

    def build_partial_loss(self) -> nn.Module:
        """The loss of every resolution."""
        return PooledSoftLabelLoss()

    def _partial_target(self, batch: dict[str, Any]) -> list[SoftTarget | PooledTarget]:
        first, *others = super()._partial_target(batch)
        if first.sets.numel():
            raise NotImplementedError("the experiment with average pooling takes annotators who looked for everything")
        shares = by_voxel(first.tables, first)
        pool = F.adaptive_avg_pool3d if shares.ndim == 5 else F.adaptive_avg_pool2d
        with torch.no_grad():
            return [first, *(PooledTarget(pool(shares, other.labels.shape[2:])) for other in others)]
