"""How sure a network is of each class, as log-odds: the probability's sigmoid argument, which does not saturate where it does."""

import torch
from torch import Tensor


def binary_log_odds(logits: Tensor) -> Tensor:
    """d_k = z_k - z_0: the K binary classifiers of a network trained with the ambiguity loss.

    Shape:
        logits (B, C, *S); returns (B, C - 1, *S), float32 at least.
    Source: Petit et al. 2021, section 3.1.1.
    """
    z = _at_least_float32(logits)
    return z[:, 1:] - z[:, :1]


def softmax_log_odds(logits: Tensor) -> Tensor:
    """log p_k - log(1 - p_k) = z_k - logsumexp of all the others, for a network trained with softmax.

    For the largest logit the others are summed without it; 1 - p_k would be rounded to 0 at a margin of 17.

    Shape:
        logits (B, C, *S); returns (B, C - 1, *S), float32 at least.
    """
    z = _at_least_float32(logits)
    log_p = z - z.logsumexp(1, keepdim=True)
    odds = log_p - torch.log1p(-log_p.exp().clamp_max(0.75))  # exact where p <= 1/2, that is wherever k is not the largest
    top = z.argmax(1, keepdim=True)
    rest = z.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return odds.scatter(1, top, z.gather(1, top) - rest)[:, 1:]


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
