"""Aleatoric uncertainty: a network that predicts how noisy its own log-odds are (Kendall & Gal 2017)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.losses.log_odds import at_least_float32, log_mean_of_passes
from nnunet_partial.losses.sums import check_log_odds
from nnunet_partial.targets import PartialTarget
from nnunet_partial.targets.ambiguity import ambiguity_map, positive_map


def noisy_cross_entropy(log_odds: Tensor, log_variance: Tensor, target: PartialTarget, *, num_samples: int) -> Tensor:
    """Negative log of the mean probability that noisy log-odds give to the truth, over voxels and classes whose truth is known.

    Known are those that the ambiguity map keeps, as for `confidence_loss`. Nothing known gives a zero that keeps the graph.

    Args:
        log_odds: Mean of each foreground class's log-odds.
        log_variance: Log of the variance of the Gaussian noise on them; its logarithm, so that any number is one.
        target: The target of the batch.
        num_samples: How often noise is drawn.
    Shape:
        log_odds and log_variance (B, K, *S); target.labels (B, 1, *S); returns a scalar (nats).
    Raises:
        ValueError: K or the spatial shape differ.
    Source: Kendall & Gal 2017, eq. (12), for K binary decisions in place of one softmax; Shi et al. 2022 draw 10 times in 3D.
    """
    check_log_odds(target, log_odds=log_odds, log_variance=log_variance)
    d = at_least_float32(log_odds)
    known, present = ambiguity_map(target), positive_map(target)
    of_truth, std = d.where(present, -d), (log_variance.to(d.dtype) / 2).exp()
    costs, _ = log_mean_of_passes(of_truth + std * torch.randn_like(std) for _ in range(num_samples))
    return -(costs * known).sum() / known.sum().clamp_min(1)


def expected_log_odds(log_odds: Tensor, log_variance: Tensor) -> Tensor:
    """Log-odds of the probability that is expected under the noise: E sigmoid(d + s e) ~ sigmoid(d / sqrt(1 + pi s^2 / 8)).

    Noise moves what is expected towards one half and never beyond it, so that the decision stays.

    Shape:
        both (B, K, *S); returns (B, K, *S), float32 at least.
    Source: MacKay 1992, "The evidence framework applied to classification networks".
    """
    d = at_least_float32(log_odds)
    # sqrt(1 + exp(a)) as exp(softplus(a) / 2), which no variance makes overflow
    return d * (-F.softplus(log_variance.to(d.dtype) + math.log(math.pi / 8)) / 2).exp()
