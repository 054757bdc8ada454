"""How sure a network is of each class, as log-odds: the probability's sigmoid argument, which does not saturate where it does."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_log_odds(logits: Tensor) -> Tensor:
    """d_k = z_k - z_0: the K binary classifiers of a network trained with the ambiguity loss.

    Shape:
        logits (B, C, *S); returns (B, C - 1, *S), float32 at least.
    Source: Petit et al. 2021, section 3.1.1.
    """
    z = at_least_float32(logits)
    return z[:, 1:] - z[:, :1]


def softmax_log_odds(logits: Tensor) -> Tensor:
    """log p_k - log(1 - p_k) = z_k - logsumexp of all the others, for a network trained with softmax.

    For the largest logit the others are summed without it; 1 - p_k would be rounded to 0 at a margin of 17.

    Shape:
        logits (B, C, *S); returns (B, C - 1, *S), float32 at least.
    """
    z = at_least_float32(logits)
    log_p = z - z.logsumexp(1, keepdim=True)
    odds = log_p - torch.log1p(-log_p.exp().clamp_max(0.75))  # exact where p <= 1/2, that is wherever k is not the largest
    top = z.argmax(1, keepdim=True)
    rest = z.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return odds.scatter(1, top, z.gather(1, top) - rest)[:, 1:]


def log_mean_of_passes(several: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p) of p, the mean of sigmoids; one after the other is added, none is kept.

    Everything stays a logarithm: as numbers, probabilities beyond a margin of 17 would all be 1.

    Args:
        several: Log-odds, at least one.
    Shape:
        each (B, K, *S); returns twice (B, K, *S), float32 at least.
    """
    count, log_p, log_rest = 0, None, None
    for log_odds in several:
        d = at_least_float32(log_odds)
        yes, no = F.logsigmoid(d), F.logsigmoid(-d)
        log_p, log_rest = (yes, no) if log_p is None else (torch.logaddexp(log_p, yes), torch.logaddexp(log_rest, no))
        count += 1
    return log_p - math.log(count), log_rest - math.log(count)


def mean_log_odds(several: Iterable[Tensor]) -> Tensor:
    """Log-odds of the mean of several probabilities, each given by its log-odds: log p - log(1 - p), p = mean of sigmoids.

    Args and shape as `log_mean_of_passes`; returns (B, K, *S).
    """
    log_p, log_rest = log_mean_of_passes(several)
    return log_p - log_rest


def at_least_float32(logits: Tensor) -> Tensor:
    """The same in float32, or in the wider type that they have; of half precision, sums and logarithms lose too much."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
