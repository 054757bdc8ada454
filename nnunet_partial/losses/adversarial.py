"""A discriminator as a teacher (Hung et al. 2018): it learns what annotation looks like, and judges the network by it.

The paper shows its discriminator one-hot label maps and the network's softmax. Of a partly annotated case the label map is known
where a voxel has one candidate class and nowhere else. What is shown for annotation is therefore the network's distribution
*given* the candidate sets: one-hot where there is one candidate, elsewhere the network's own. What is shown for the network has
the very same numbers where there are several candidates. So the two maps differ at voxels with one candidate alone, and these
alone teach the discriminator: an ambiguous voxel can give nothing away, and is never called true or false. A fully annotated case
is the paper's; one that nobody annotated teaches the discriminator nothing, as in the paper, where labelled images alone do.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_partial.losses.consistency import logits_on_candidates
from nnunet_partial.losses.self_training import self_training_loss
from nnunet_partial.losses.taught import TaughtLoss, full_resolution
from nnunet_partial.losses.voxel_mean import voxel_mean
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels, decided_voxels


def maps_to_judge(logits: Tensor, target: PartialTarget) -> tuple[Tensor, Tensor]:
    """What a discriminator is shown for the network, and what for annotation.

    Args:
        logits: Network output before softmax.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); returns two maps (B, C, *S), each a distribution over the classes at every voxel, float32 at least.
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    annotation = logits_on_candidates(logits, target).softmax(1)
    own = logits.to(annotation.dtype).softmax(1)
    return annotation.where(ambiguous_voxels(target), own), annotation


def discriminator_loss(of_network: Tensor, of_annotation: Tensor, target: PartialTarget) -> Tensor:
    """Cross entropy of a discriminator on both maps, mean over the voxels with one candidate class.

    Args:
        of_network: Log-odds of "annotation" on the network's map.
        of_annotation: Log-odds of "annotation" on the map of annotation.
        target: Label map and candidate tables of the batch.
    Shape:
        both (B, 1, *S); returns a scalar (nats), 0 with a graph where nothing is known.
    Raises:
        ValueError: shapes differ.
    Source: Hung et al. 2018, eq. (1), a mean over voxels in place of a sum.
    """
    return voxel_mean(F.softplus(of_network) + F.softplus(-of_annotation), decided_voxels(target))


def adversarial_loss(verdict: Tensor, target: PartialTarget, *, weight_decided: float, weight_ambiguous: float) -> Tensor:
    """Minus the log of how much a discriminator takes the network's map for annotation, weighted mean over voxels.

    Args:
        verdict: Log-odds of "annotation" on the network's map.
        target: Label map and candidate tables of the batch.
        weight_decided: Weight of a voxel with one candidate class.
        weight_ambiguous: Weight of a voxel with several.
    Shape:
        verdict (B, 1, *S); returns a scalar (nats).
    Raises:
        ValueError: shapes differ.
    Source: Hung et al. 2018, eq. (4), whose weight depends on whether an image is labelled; here it is the voxel's. The mean is
        over all voxels that are not ignored, so that a few labelled ones weigh no more than they are.
    """
    decided, ambiguous = decided_voxels(target), ambiguous_voxels(target)
    costs = F.softplus(-verdict)
    over = decided | ambiguous
    return weight_decided * voxel_mean(costs, decided, over) + weight_ambiguous * voxel_mean(costs, ambiguous, over)


class AdversarialLoss(TaughtLoss):
    """A loss by annotation, a discriminator's verdict, and self-training on ambiguous voxels that it takes for annotated.

    The label of self-training is the network's own, the candidate class of its largest logit, chosen anew at every step. Verdict
    and self-training are those of the full resolution alone. They have no part before the target's weight rises above 0.

    Args:
        supervised: See `TaughtLoss`.
        judge: Log-odds (B, 1, *S) of "annotation" on maps (B, C, *S); a discriminator that does not learn by being asked.
        weight_decided: See `adversarial_loss`.
        weight_ambiguous: See `adversarial_loss`.
        weight_self_training: Weight of self-training, a mean over all ambiguous voxels.
        threshold: Probability of "annotation" above which a voxel's own label is believed.
    Source: Hung et al. 2018, eq. (2)-(5).
    """

    def __init__(
        self,
        supervised: nn.Module,
        judge: Callable[[Tensor], Tensor],
        *,
        weight_decided: float = 0.01,
        weight_ambiguous: float = 0.001,
        weight_self_training: float = 0.1,
        threshold: float = 0.2,
    ):
        super().__init__(supervised)
        self.judge = judge
        self.weights = {"weight_decided": weight_decided, "weight_ambiguous": weight_ambiguous}
        self.weight_self_training, self.threshold = weight_self_training, threshold
        self._seen: tuple[Tensor, PartialTarget] | None = None

    def further_terms(self, output: Any, target: TaughtTarget) -> Tensor | float:
        """Verdict and self-training, weighted."""
        logits, partial = full_resolution(output), target.full_resolution
        self._seen = logits.detach(), partial
        return target.weight * self._by_verdict(logits, partial) if target.weight else 0.0

    def take_seen(self) -> tuple[Tensor, PartialTarget]:
        """Logits, without their graph, and target of the last training batch; they are kept no longer."""
        seen, self._seen = self._seen, None
        assert seen is not None, "there was no training batch since this was taken"
        return seen

    def _by_verdict(self, logits: Tensor, target: PartialTarget) -> Tensor:
        own, annotation = maps_to_judge(logits, target)
        verdict = self.judge(own)
        ambiguous = ambiguous_voxels(target)
        labels = annotation.argmax(1, keepdim=True)
        believed = ambiguous & (torch.sigmoid(verdict.detach()) > self.threshold)
        self_training = self_training_loss(logits, labels, believed, over=ambiguous)
        return adversarial_loss(verdict, target, **self.weights) + self.weight_self_training * self_training
