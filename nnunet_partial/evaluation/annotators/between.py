"""How far the annotators of one class of one case agree with each other."""

from itertools import combinations
from typing import Any

import numpy as np

from nnunet_partial.evaluation.annotators.class_votes import ClassVotes
from nnunet_partial.evaluation.annotators.energy import diversities
from nnunet_partial.evaluation.annotators.overlap import Overlaps, mean_over_pairs
from nnunet_partial.evaluation.means import nanmean


def agreement_of_annotators(drawn: ClassVotes, overlaps: Overlaps, voxel_ml: float) -> dict[str, Any]:
    """Volumes, pairwise overlaps, diversity, and each annotator against the others.

    Args:
        drawn: What they drew.
        overlaps: Of their masks, in the same order.
        voxel_ml: Volume of a voxel.

    Returns:
        Figures of the class; `by_annotator` (annotator -> figures) and `pairs` (a list) hold those of single annotators.
    """
    volumes_ml = drawn.masks.reshape(len(drawn.masks), -1).sum(axis=1) * voxel_ml
    by_annotator = {
        annotator: {"volume_ml": float(volume_ml), **_against_others(overlaps, index)}
        for index, (annotator, volume_ml) in enumerate(zip(drawn.annotators, volumes_ml, strict=True))
    }
    pairs = [
        {
            "annotators": [drawn.annotators[first], drawn.annotators[second]],
            "Dice": float(overlaps.dice[first, second]),
            "IoU_distance": float(overlaps.distance[first, second]),
        }
        for first, second in combinations(range(len(drawn.annotators)), 2)
    ]
    return {
        "annotators": len(drawn.annotators),
        "drawn_by": int(np.count_nonzero(volumes_ml)),
        "volume_ml": float(volumes_ml.mean()),
        "Dice_pairs": mean_over_pairs(overlaps.dice),
        **diversities(overlaps.distance),
        "disagreement": _disagreement(drawn),
        "by_annotator": by_annotator,
        "pairs": pairs,
    }


def _against_others(overlaps: Overlaps, index: int) -> dict[str, float]:
    """One annotator's mean overlap with the others, and how far these lie from each other without him or her."""
    others = np.delete(np.arange(len(overlaps.distance)), index)
    return {
        "Dice_to_others": nanmean(overlaps.dice[index, others]),
        "IoU_distance_to_others": nanmean(overlaps.distance[index, others]),
        "IoU_distance_among_others": mean_over_pairs(overlaps.distance[np.ix_(others, others)]),
    }


def _disagreement(drawn: ClassVotes) -> float:
    """Share of the voxels that anybody drew on which the annotators are not of one mind; NaN where nobody drew anything."""
    votes = drawn.votes
    anybody = np.count_nonzero(votes)
    return np.count_nonzero((votes > 0) & (votes < len(drawn.annotators))) / anybody if anybody else float("nan")
