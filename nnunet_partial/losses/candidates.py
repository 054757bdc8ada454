"""Probabilities on candidate sets voxel by voxel, and their sums, by plain autograd: the reference for `fused`.

Nothing here knows a class from an organ: the target's tables say which classes a label id may stand for.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nnunet_partial.losses.sums import CandidateSums, annotated_ids, check
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
        return annotated_ids(self.target).gather(1, self.labels).to(self.counted) * self.counted

    @cached_property
    def excluded_log(self) -> Tensor:
        """(B, V), sum over classes of e_n log(p_n + 1) (eq. 11); e itself is never written down, as log(p + 1) is 0 at p = 0."""
        excluded = torch.log1p(self.probabilities).sum(1) - torch.log1p(self.on_candidates).sum(1)
        return excluded * self.annotated_organ

    @cached_property
    def excluded(self) -> Tensor:
        """(B, C, V), e_n p_n."""
        return (self.probabilities - self.on_candidates) * self.annotated_organ[:, None]

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
    check(logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        z = logits.flatten(2)  # (B, C, V)
        z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        labels = target.labels.flatten(1).long()  # (B, V)
        outside = torch.zeros_like(target.tables, dtype=z.dtype).masked_fill(~target.tables, -torch.inf)  # (B, L, C)
        outside = outside.transpose(1, 2).gather(2, labels[:, None].expand(-1, z.shape[1], -1))  # (B, C, V)
        return CandidateProbabilities(z, z + outside, labels, target)


def plain_sums(logits: Tensor, target: PartialTarget, *, exclusion: bool = True) -> CandidateSums:
    """The sums of a batch, a line each; autograd keeps what it needs for backward, several times the logits.

    Args:
        logits: Network output before softmax.
        target: Label maps, candidate tables and annotated ids of the batch.
        exclusion: Whether the exclusion terms will be asked for.
    Shape:
        logits (B, C, *S); target.labels (B, 1, *S).
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    voxels = candidate_probabilities(logits, target)
    return CandidateSums(
        target,
        counts=voxels.per_label(voxels.counted),
        negative_log=-(voxels.log_marginal * voxels.counted).sum(1),
        intersection=voxels.per_label(voxels.log_marginal.exp() * voxels.counted),
        volume=(voxels.probabilities * voxels.counted[:, None]).sum(2),
        overlap=voxels.excluded.sum(2) if exclusion else None,
        excluded_log=voxels.excluded_log.sum(1) if exclusion else None,
    )
