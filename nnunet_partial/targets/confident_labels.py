"""Pseudo-labels that keep their confidence: label ids behind those of the dataset, ten for each class.

A pseudo-label with confidence c is the word of an annotator who is right with probability c: "class k" with that share, and what
the case's human label says ("background, or an organ nobody looked for") with the rest.
"""

import numpy as np

LEVELS = 10  # of confidence, of equal width; a label stands for the middle of its level


def confident_ids(classes: np.ndarray, confidence: np.ndarray, num_label_ids: int) -> np.ndarray:
    """The label id of each pseudo-label.

    Args:
        classes: Class of each, 1 or more.
        confidence: In [0, 1].
        num_label_ids: L, one more than the largest label id of the dataset.
    Shape:
        classes and confidence (n,); returns (n,) int16.
    """
    level = np.clip((np.asarray(confidence) * LEVELS).astype(np.int16), 0, LEVELS - 1)
    return (num_label_ids + (classes.astype(np.int16) - 1) * LEVELS + level).astype(np.int16)


def confident_classes(num_classes: int) -> np.ndarray:
    """The class of each such id, in order.

    Shape:
        returns (K * LEVELS,) int, K = num_classes - 1.
    """
    return np.repeat(np.arange(1, num_classes), LEVELS)


def level_confidences(num_classes: int) -> np.ndarray:
    """The confidence each such id stands for, in order.

    Shape:
        returns (K * LEVELS,) float32.
    """
    return np.tile((np.arange(LEVELS, dtype=np.float32) + 0.5) / LEVELS, num_classes - 1)
