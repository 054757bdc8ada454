"""How often each case is drawn, so that a large source does not drown the small ones."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

_EXPONENT = {"uniform": 1.0, "sqrt": 0.5, "proportional": 0.0}
_LONGEST = 100_000


def sampling_probabilities(sources: Sequence[str], sampling: Literal["uniform", "sqrt", "proportional"]) -> np.ndarray:
    """Probability of each case, given the source of each.

    A case of a source with n cases weighs 1/n ("uniform", every source is seen alike, Shi et al. 2021), 1/sqrt(n) ("sqrt",
    MultiTalent) or 1 ("proportional", nnU-Net).

    Shape:
        returns (len(sources),), summing to 1.
    """
    size = Counter(sources)
    weights = np.array([size[source] ** -_EXPONENT[sampling] for source in sources])
    return weights / weights.sum()


def repeated_identifiers(identifiers: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    """A list in which each identifier stands as often as it is to be drawn.

    nnU-Net's loader draws uniformly from its dataset's list of identifiers and its trainer passes no probabilities, so the
    list itself carries them. Exact where the least common multiple allows it, else to 1 part in 100 of the rarest case
    (bounded by a list of 100,000).

    Shape:
        probabilities (N,); returns (M,) strings.
    """
    ratios = probabilities / probabilities.min()
    for factor in range(1, 101):
        counts = np.rint(ratios * factor)
        if np.allclose(counts, ratios * factor, rtol=1e-6):
            break
    else:
        factor = min(100, max(1, math.floor(_LONGEST / ratios.sum())))
        counts = np.rint(ratios * factor)
    return np.repeat(np.asarray(identifiers), counts.astype(int))
