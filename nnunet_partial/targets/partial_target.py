"""The target of a batch: label maps, and what each label id means in each case."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PartialTarget:
    """Label maps with the candidate set of every label id.

    A voxel v of case b with label id l = labels[b, 0, v] has the candidate set S(v) = {n : tables[b, l, n]}.

    Attributes:
        labels: (B, 1, *S) integers, the label maps as nnU-Net's loader delivers them.
        tables: (B, L, C) bool; row l holds the candidate classes of label id l. Float rows (summing to 1) are soft targets.
        annotated: (B, L) bool; the label ids this case's annotator looked for. Entry 0 (background) is not used.
        ignore_label: Id of voxels that count in no mean and no sum, as in nnU-Net; None where the dataset has none.

    Raises:
        ValueError: shapes that do not fit, labels that are no integers, or (on the CPU) an id without a table row.
    """

    labels: Tensor
    tables: Tensor
    annotated: Tensor
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim < 3 or self.labels.shape[1] != 1:
            raise ValueError(f"labels must have shape (B, 1, *S), got {tuple(self.labels.shape)}")
        if self.labels.is_floating_point() or self.labels.dtype == torch.bool:
            raise ValueError(f"labels must be integers, got {self.labels.dtype}")
        if self.tables.ndim != 3 or self.tables.shape[0] != self.labels.shape[0]:
            raise ValueError(f"tables must have shape (B, L, C) with B = {self.labels.shape[0]}, got {tuple(self.tables.shape)}")
        if self.annotated.shape != self.tables.shape[:2] or self.annotated.dtype != torch.bool:
            found = f"{self.annotated.dtype} {tuple(self.annotated.shape)}"
            raise ValueError(f"annotated must be bool of shape {tuple(self.tables.shape[:2])}, got {found}")
        if self.labels.device.type == "cpu" and self.labels.numel():  # on a GPU the look would make the host wait
            low, high = int(self.labels.amin()), int(self.labels.amax())
            if low < 0 or high >= self.num_label_ids:
                raise ValueError(f"label ids run from {low} to {high}, but the tables have rows for 0..{self.num_label_ids - 1}")

    @property
    def num_label_ids(self) -> int:
        """L, the number of label ids the tables describe."""
        return self.tables.shape[1]

    @property
    def num_classes(self) -> int:
        """C, background included."""
        return self.tables.shape[2]

    @property
    def num_counted(self) -> Tensor | int:
        """Number of voxels without the ignore label, at least 1; a GPU's host does not wait for it."""
        if self.ignore_label is None:
            return max(1, self.labels.numel())
        return (self.labels != self.ignore_label).sum().clamp_min(1)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PartialTarget":
        """The same target on another device; nnU-Net calls this as it would on a tensor."""
        return PartialTarget(
            self.labels.to(device, non_blocking=non_blocking),
            self.tables.to(device, non_blocking=non_blocking),
            self.annotated.to(device, non_blocking=non_blocking),
            self.ignore_label,
        )
