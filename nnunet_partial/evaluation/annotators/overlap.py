"""How far masks overlap, each with each: Dice, and the IoU distance, which is a metric (Kosub 2019)."""

from dataclasses import dataclass

import numpy as np

_CHUNK = 2**20  # voxels multiplied at a time: float32 counts exactly up to 2^24


@dataclass(frozen=True)
class Overlaps:
    """Dice and IoU distance of masks, each with each.

    Two empty masks agree: Dice 1, distance 0, as the paper sets them and as a metric must. That is not nnU-Net's policy
    (NaN), which the metrics at confidence levels follow.

    Attributes:
        dice: (n, n), 1 on the diagonal.
        distance: (n, n) 1 - IoU, 0 on the diagonal.

    Source: Silva & Oliveira 2021, section 4.2.
    """

    dice: np.ndarray
    distance: np.ndarray

    @classmethod
    def of_masks(cls, masks: np.ndarray) -> "Overlaps":
        """Measure n masks.

        Shape:
            masks (n, *S) bool.
        """
        shared = shared_voxels(masks)
        sizes = np.diag(shared)
        both = sizes[:, None] + sizes
        empty = both == 0
        dice = np.where(empty, 1.0, 2 * shared / np.where(empty, 1, both))
        iou = np.where(empty, 1.0, shared / np.where(empty, 1, both - shared))
        return cls(dice=dice, distance=1 - iou)


def shared_voxels(masks: np.ndarray) -> np.ndarray:
    """How many voxels each two of n masks share; on the diagonal, how many each has.

    Shape:
        masks (n, *S) bool; returns (n, n), whole numbers in float64.
    """
    flat = masks.reshape(len(masks), -1)
    counts = np.zeros((len(masks), len(masks)))
    for start in range(0, flat.shape[1], _CHUNK):
        piece = flat[:, start : start + _CHUNK].astype(np.float32)
        counts += piece @ piece.T
    return counts


def mean_over_pairs(values: np.ndarray) -> float:
    """Mean over pairs of different masks; NaN for fewer than two.

    Shape:
        values (n, n), symmetric.
    """
    if len(values) < 2:
        return float("nan")
    return float(values[np.triu_indices(len(values), k=1)].mean())
