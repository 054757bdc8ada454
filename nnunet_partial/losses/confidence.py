"""Loss of the confidence network: regression of the True Class Probability (Petit et al. 2021, section 3.2.2, eq. 3)."""

from torch import Tensor

from nnunet_partial.losses.sums import check_log_odds
from nnunet_partial.targets import PartialTarget
from nnunet_partial.targets.ambiguity import ambiguity_map, positive_map


def true_class_probability(log_odds: Tensor, positive: Tensor) -> Tensor:
    """Probability that a network gave to the truth of each voxel and class, low exactly where it is wrong.

    Args:
        log_odds: Of each foreground class, see `binary_log_odds` and `softmax_log_odds`.
        positive: Whether the voxel is of the class.
    Shape:
        both (B, K, *S); returns (B, K, *S) in [0, 1].
    Source: Corbiere et al. 2019 (TCP), for K binary decisions as in Petit et al. 2021.
    """
    return log_odds.where(positive, -log_odds).sigmoid()


def confidence_loss(confidence_logits: Tensor, log_odds: Tensor, target: PartialTarget) -> Tensor:
    """Mean squared difference of predicted confidence and TCP, over the voxels and classes whose truth is known.

    Known are those that the ambiguity map of eq. (2) keeps: nobody can say of an unannotated organ whether it was found rightly.
    Nothing known gives a zero that keeps the graph.

    Args:
        confidence_logits: The confidence network's output before its sigmoid.
        log_odds: What the segmentation network says of each foreground class; no gradient flows into it.
        target: The target of the batch.
    Shape:
        confidence_logits and log_odds (B, K, *S); target.labels (B, 1, *S); returns a scalar in [0, 1].
    Raises:
        ValueError: K or the spatial shape differ.
    Source: Petit et al. 2021, eq. (3).
    """
    check_log_odds(target, confidence_logits=confidence_logits, log_odds=log_odds)
    known = ambiguity_map(target)
    truth = true_class_probability(log_odds.detach(), positive_map(target))
    squared = (confidence_logits.to(truth.dtype).sigmoid() - truth).square()
    return (squared * known).sum() / known.sum().clamp_min(1)
