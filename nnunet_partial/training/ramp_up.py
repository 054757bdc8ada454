"""How a weight rises while a teacher has little to teach."""

import math


def sigmoid_ramp_up(epoch: float, length: float) -> float:
    """exp(-5 (1 - t)^2), t rising from 0 to 1 over the length: from 0.0067 to 1, and 1 from then on.

    Args:
        epoch: Epochs since the rise began.
        length: Epochs until the full weight; 0 for the full weight at once.
    Source: Laine & Aila 2017, section 2.1; Tarvainen & Valpola 2017.
    """
    t = min(max(epoch, 0.0) / length, 1.0) if length else 1.0
    return math.exp(-5 * (1 - t) ** 2)
