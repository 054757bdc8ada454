"""Which predictions become labels: the most confident ones of each case and class (Petit et al. 2021, algorithms 1 and 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassSelection:
    """What was selected of one class in one case, in voxels.

    Attributes:
        predicted: Predicted as the class where no human label stands.
        already: Those of them that an earlier round labelled, as whichever class.
        added: Labelled in this round.
        total: Pseudo-labels of the class in the case after this round, earlier rounds' included.
        threshold: Lowest score among the added; None where none was.
    """

    predicted: int
    already: int
    added: int
    total: int
    threshold: float | None


def most_confident(scores: np.ndarray, count: int) -> np.ndarray:
    """Exactly `count` highest scores; of equal ones the first.

    Shape:
        scores (n,); returns (n,) bool.
    """
    chosen = np.zeros(len(scores), dtype=bool)
    if count <= 0:
        return chosen
    if count >= len(scores):
        return ~chosen
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    np.greater(scores, lowest, out=chosen)
    chosen[np.flatnonzero(scores == lowest)[: count - np.count_nonzero(chosen)]] = True
    return chosen


def select_pseudo_labels(
    prediction: np.ndarray, scores: np.ndarray, human: np.ndarray, earlier: np.ndarray, ids: Sequence[int], fraction: float
) -> tuple[np.ndarray, dict[int, ClassSelection]]:
    """Label the most confident predictions of every class, until `fraction` of its predicted voxels are labelled.

    Earlier rounds' labels stay (y_t = y_{t-1} united with the new ones), and count towards the fraction where the class is still
    predicted. Only voxels with label id 0 are ever labelled: never a human label, nor what lies outside the image (-1).

    Args:
        prediction: Id of the class predicted, where it is one of `ids`; else 0.
        scores: Criterion at these voxels, higher is more confident.
        human: Label map as the annotator drew it.
        earlier: The same with the labels of earlier rounds.
        ids: Label ids of the classes that nobody looked for in the case.
        fraction: t / T * gamma_max, in [0, 1].
    Shape:
        arrays (1, *S); returns the label map (1, *S) and what was selected by id.
    """
    labels = earlier.copy()
    flat = labels.reshape(-1)
    where = np.flatnonzero((prediction > 0) & (human == 0))
    predicted, score, before = (array.reshape(-1)[where] for array in (prediction, scores, earlier))
    order = np.argsort(predicted, kind="stable")
    bounds = np.searchsorted(predicted[order], [*ids, *(number + 1 for number in ids)])
    labelled_before = np.bincount(earlier[(human == 0) & (earlier > 0)], minlength=max(ids, default=0) + 1)
    found = {}
    for position, number in enumerate(ids):
        own = order[bounds[position] : bounds[position + len(ids)]]
        open_ = own[before[own] == 0]
        wanted = math.ceil(fraction * len(own) - 1e-9) - np.count_nonzero(before[own] == number)
        chosen = open_[most_confident(score[open_], wanted)]
        flat[where[chosen]] = number
        found[number] = ClassSelection(
            predicted=len(own),
            already=len(own) - len(open_),
            added=len(chosen),
            total=int(labelled_before[number]) + len(chosen),
            threshold=float(score[chosen].min()) if len(chosen) else None,
        )
    return labels, found


def changed_fraction(prediction: np.ndarray, previous: np.ndarray) -> float:
    """Mean over classes of the fraction of voxels whose prediction changed between two rounds; 0 where neither predicts any.

    A voxel counts for a class that either round predicts there; the fraction is 1 - IoU of the two rounds. Cases in which it is
    large are those whose pseudo-labels the winner of FLARE 2022 left out.

    Shape:
        both (1, *S), ids of the classes predicted, else 0.
    """
    now, before = (array[array > 0] for array in (prediction, previous))
    agreed = prediction[(prediction == previous) & (prediction > 0)]
    highest = int(max(now.max(initial=0), before.max(initial=0))) + 1
    same, *each = (np.bincount(ids, minlength=highest) for ids in (agreed, now, before))
    either = sum(each) - same
    present = either > 0
    return float((1 - same[present] / either[present]).mean()) if present.any() else 0.0
