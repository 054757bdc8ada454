"""Per-voxel probabilities on candidate sets, from which every term of the marginal and exclusion losses is summed.

Nothing here knows a class from an organ: the target's tables say which classes a label id may stand for.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.targets import PartialTarget


@dataclass(frozen=True)
class CandidateProbabilities:
    """Softmax of a batch, and what of it lies on each voxel's candidate set; V voxels in one row, float32 at least.

    Attributes:
        logits: (B, C, V).
        candidate_logits: (B, C, V), the logit of n where n is in S(v), else minus infinity.
        labels: (B, V) int64.
        target: The target these were made from.
    """

    logits: Tensor
    candidate_logits: Tensor
    labels: Tensor
    target: PartialTarget

    @cached_property
    def log_total(self) -> Tensor:
        """(B, V), the logarithm of softmax's denominator."""
        return self.logits.logsumexp(1)

    @cached_property
    def log_marginal(self) -> Tensor:
        """(B, V), log of the probability mass on S(v): log q of the voxel's own merged label (Shi et al. 2021, eq. 4)."""
        return self.candidate_logits.logsumexp(1) - self.log_total  # exactly 0 where every class is a candidate

    @cached_property
    def probabilities(self) -> Tensor:
        """(B, C, V), p_n."""
        return (self.logits - self.log_total[:, None]).exp()

    @cached_property
    def on_candidates(self) -> Tensor:
        """(B, C, V), p_n where n is in S(v), else 0; there it is the same number to the last bit."""
        return (self.candidate_logits - self.log_total[:, None]).exp()

    @cached_property
    def counted(self) -> Tensor:
        """(B, V); 0 at voxels with the ignore label, else 1."""
        if self.target.ignore_label is None:
            return torch.ones_like(self.labels, dtype=self.logits.dtype)
        return (self.labels != self.target.ignore_label).to(self.logits.dtype)

    @cached_property
    def annotated_organ(self) -> Tensor:
        """(B, V); 1 where the label is one that this case's annotator looked for, else 0."""
        return _annotated_ids(self.target).gather(1, self.labels).to(self.counted) * self.counted

    @cached_property
    def predicted_volume(self) -> Tensor:
        """(B, C), sum of p_n."""
        if self.target.ignore_label is None:  # spares a copy of the largest tensor there is
            return self.probabilities.sum(2)
        return (self.probabilities * self.counted[:, None]).sum(2)

    def per_label(self, values: Tensor) -> Tensor:
        """(B, V) -> (B, L): sum of the values over the voxels of each label id."""
        return values.new_zeros(values.shape[0], self.target.num_label_ids).scatter_add(1, self.labels, values)


def candidate_probabilities(logits: Tensor, target: PartialTarget) -> CandidateProbabilities:
    """Split the softmax of every voxel into what its candidate set allows and the rest.

    The mass on the candidate set is a difference of two log-sum-exps. Summing raw logits instead, as the released code of
    Shi et al. does, gives 0.007 where the marginal probability is 0.734; summing probabilities loses the gradient of voxels
    whose logits are far apart.

    Args:
        logits: Network output before softmax, any floating type; computed in float32 at least, whatever autocast does.
        target: Label maps and candidate tables.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    _check(logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        z = logits.flatten(2)  # (B, C, V)
        z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        labels = target.labels.flatten(1).long()  # (B, V)
        outside = torch.zeros_like(target.tables, dtype=z.dtype).masked_fill(~target.tables, -torch.inf)  # (B, L, C)
        outside = outside.transpose(1, 2).gather(2, labels[:, None].expand(-1, z.shape[1], -1))  # (B, C, V)
        return CandidateProbabilities(z, z + outside, labels, target)


def merged_label_dice_sums(voxels: CandidateProbabilities) -> tuple[Tensor, Tensor, Tensor]:
    """Soft intersection, predicted volume and reference volume of the merged label q_m of every label id m (eq. 4).

    Shape:
        returns three tensors (B, L), zero for ids the case's annotator did not look for.
    """
    annotated = _annotated_ids(voxels.target)
    predicted = (voxels.target.tables.to(voxels.counted) * voxels.predicted_volume[:, None]).sum(2)  # (B, L)
    intersection = voxels.per_label(voxels.log_marginal.exp() * voxels.counted)
    return intersection * annotated, predicted * annotated, voxels.per_label(voxels.counted) * annotated


def excluding_ids(target: PartialTarget) -> Tensor:
    """(B, L, C) bool: label id l was looked for and excludes class n, because n is not among the classes l stands for."""
    return _annotated_ids(target)[:, :, None] & ~target.tables


def _annotated_ids(target: PartialTarget) -> Tensor:
    return F.pad(target.annotated[:, 1:], (1, 0), value=False)  # background is no organ, whatever the caller put there


def _check(logits: Tensor, target: PartialTarget) -> None:
    if target.tables.dtype != torch.bool:
        raise ValueError(
            f"this loss takes candidate tables (bool), got soft tables ({target.tables.dtype}); use soft_cross_entropy"
        )
    if logits.ndim < 3 or logits.shape[0] != target.labels.shape[0] or logits.shape[2:] != target.labels.shape[2:]:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(target.labels.shape)} must agree as (B, C, *S) and (B, 1, *S)"
        )
    if logits.shape[1] != target.num_classes:
        raise ValueError(f"logits have C = {logits.shape[1]} channels, but target.tables have C = {target.num_classes} classes")
