"""The target of a batch on which other networks have a say too."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from nnunet_partial.targets.partial_target import PartialTarget


@dataclass(frozen=True)
class TaughtTarget:
    """What the annotation says, and what a teacher says of the same patches.

    Attributes:
        supervised: The targets by annotation; with deep supervision one a resolution, the full one first.
        weight: Share of their full weight that the terms on ambiguous voxels have at this epoch; 0 while annotation
            alone teaches.
        teacher_logits: (B, C, *S), the teacher's output at full resolution; None before it teaches.
        label_logits: (B, C, *S), output of the network that labels for self-training; None where there is none.
        branches_agree: (B, K, *S) bool, whether its conservative and radical branch decide alike on each organ; None likewise.
        entropy_threshold: Share of the largest entropy from which on the teacher is not believed; at 1 it is believed wherever
            it is not wholly undecided.
    """

    supervised: PartialTarget | list[PartialTarget]
    weight: float = 1.0
    teacher_logits: Tensor | None = None
    label_logits: Tensor | None = None
    branches_agree: Tensor | None = None
    entropy_threshold: float = 1.0

    @property
    def full_resolution(self) -> PartialTarget:
        """The target of the network's own resolution."""
        return self.supervised[0] if isinstance(self.supervised, list) else self.supervised

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TaughtTarget":
        """The same target on another device; nnU-Net calls this as it would on a tensor."""

        def moved(part: object) -> object:
            if isinstance(part, list):
                return [moved(each) for each in part]
            return part.to(device, non_blocking=non_blocking) if hasattr(part, "to") else part

        return replace(self, **{field.name: moved(getattr(self, field.name)) for field in fields(self)})
