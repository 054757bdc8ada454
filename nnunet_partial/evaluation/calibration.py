"""How far probabilities can be trusted, from counts that merge by addition: over voxels, cases and machines.

Calibration (ECE, Brier, reliability) asks of a class whether it is there as often as its probability says. Confidence ranking
(AUC, AP_success, AP_error) asks whether right predictions have the higher confidence; as in INERRANT only voxels predicted as
the class are ranked, never background. Confidence is the probability of the predicted class (MCP).
Source: Guo et al. 2017 (ECE, 15 bins); Petit et al. 2021, table 6 (the ranking metrics).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_BINS = 15
_MANTISSA_BITS = 9  # of the distance of a confidence from 0 or 1: bins are at most 2^-9 of that distance wide
_SHIFT = 23 - _MANTISSA_BITS  # float32 has 23
_FIRST = (127 - 24) << _MANTISSA_BITS  # distances below 2^-24 share the first bin: float32 keeps none near 1
_HALF = ((126 << _MANTISSA_BITS) - _FIRST) + 1
NUM_RANKS = 2 * _HALF
_SMALLEST, _LARGEST = -10, 12  # log-odds nearer to 0 than 2^-10 share a bin, and so do those beyond 2^12
_FIRST_SCORE = (127 + _SMALLEST) << _MANTISSA_BITS
_HALF_SCORE = (_LARGEST - _SMALLEST) << _MANTISSA_BITS
NUM_SCORE_RANKS = 2 * _HALF_SCORE


@dataclass(frozen=True)
class CalibrationCounts:
    """What is kept of the voxels of one class; `a + b` is the same as counting both at once.

    Attributes:
        voxels: (NUM_BINS,) voxels by probability, bins of equal width.
        positives: (NUM_BINS,) those among them in which the reference shows the class; a share of votes counts as that share.
        probability_sums: (NUM_BINS,) sum of their probabilities.
        squared_error: () sum of (probability - truth)².
        ranking: (2, NUM_RANKS) voxels predicted as the class, wrong and right, by confidence.
    """

    voxels: np.ndarray
    positives: np.ndarray
    probability_sums: np.ndarray
    squared_error: np.ndarray
    ranking: np.ndarray

    @classmethod
    def empty(cls) -> "CalibrationCounts":
        """No voxel yet."""
        voxels, positives, sums = np.zeros(NUM_BINS, dtype=np.int64), np.zeros(NUM_BINS), np.zeros(NUM_BINS)
        return cls(voxels, positives, sums, np.zeros(()), np.zeros((2, NUM_RANKS), dtype=np.int64))

    @classmethod
    def of_voxels(
        cls, probability: np.ndarray, reference: np.ndarray, predicted: np.ndarray | None = None
    ) -> "CalibrationCounts":
        """Count voxels.

        Args:
            probability: Probability of the class.
            reference: Whether the reference shows it, or the share of the annotators who say so.
            predicted: Whether it was predicted; None, as for shares, ranks nothing: a prediction that some annotators share
                is neither right nor wrong.

        Shape:
            all (n,); probability float32 in [0, 1], reference bool or in [0, 1], predicted bool.
        """
        probability = np.clip(probability, 0, 1, dtype=np.float32)  # the sum of a union's classes may round to more than 1
        bins = np.minimum((probability * NUM_BINS).astype(np.intp), NUM_BINS - 1)
        return cls(
            voxels=np.bincount(bins, minlength=NUM_BINS),
            positives=np.bincount(bins, weights=reference, minlength=NUM_BINS),
            probability_sums=np.bincount(bins, weights=probability, minlength=NUM_BINS),
            squared_error=np.square(probability - reference, dtype=np.float64).sum(),
            ranking=_ranking(probability, reference, predicted),
        )

    def __add__(self, other: "CalibrationCounts") -> "CalibrationCounts":
        return CalibrationCounts(**{name: value + vars(other)[name] for name, value in vars(self).items()})


def calibration_metrics(counts: CalibrationCounts) -> dict[str, Any]:
    """ECE, Brier score, the reliability diagram's points and the ranking metrics; NaN where no voxel says anything.

    AUC and the two average precisions come from bins of confidence; each is within its `..._tolerance` of what scikit-learn
    says of the voxels themselves, since only voxels of one bin can change places.
    """
    total = counts.voxels.sum()
    known = np.maximum(counts.voxels, 1)
    filled = counts.voxels > 0
    confidence = np.where(filled, counts.probability_sums / known, np.nan)
    frequency = np.where(filled, counts.positives / known, np.nan)
    gap = np.abs(counts.positives - counts.probability_sums).sum()
    return {
        "voxels": int(total),
        "ECE": float(gap / total) if total else float("nan"),
        "Brier": float(counts.squared_error / total) if total else float("nan"),
        **ranking_metrics(*counts.ranking),
        "reliability": {
            "probability": confidence.tolist(),
            "frequency": frequency.tolist(),
            "voxels": counts.voxels.tolist(),
        },
    }


def ranking_counts(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Voxels by log-odds, wrong and right, as `ranking_metrics` takes them; counts of several cases are added.

    Log-odds rank voxels that have the same probability in float32: from 17 on that is 1. Bins are at most 2^-9 of a score wide.

    Shape:
        scores (n,) float32; right (n,) bool; returns (2, NUM_SCORE_RANKS), ascending in score.
    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN, which have no rank")
    return _wrong_and_right(_score_ranks(scores), right, NUM_SCORE_RANKS)


def ranking_metrics(errors: np.ndarray, successes: np.ndarray) -> dict[str, Any]:
    """AUC, AP_success (right predictions, most confident first) and AP_error (wrong ones, least confident first).

    Shape:
        errors and successes (bins,), ascending in confidence.
    """
    found: dict[str, Any] = {"ranked_voxels": int(errors.sum() + successes.sum()), "errors": int(errors.sum())}
    found["AUC"], found["AUC_tolerance"] = _auc(errors, successes)
    found["AP_success"], found["AP_success_tolerance"] = _average_precision(successes[::-1], errors[::-1])
    found["AP_error"], found["AP_error_tolerance"] = _average_precision(errors, successes)
    return found


def _ranking(probability: np.ndarray, reference: np.ndarray, predicted: np.ndarray | None) -> np.ndarray:
    if predicted is None:
        return np.zeros((2, NUM_RANKS), dtype=np.int64)
    return _wrong_and_right(_ranks(probability[predicted]), reference[predicted], NUM_RANKS)


def _ranks(confidence: np.ndarray) -> np.ndarray:
    """Bin of each confidence, ascending; fine near 0 and near 1, where confidences crowd."""
    near_one = confidence >= 0.5
    steps = _steps(np.where(near_one, 1 - confidence, confidence), _FIRST, _HALF)
    return np.where(near_one, NUM_RANKS - 1 - steps, steps)


def _score_ranks(scores: np.ndarray) -> np.ndarray:
    """Bin of each log-odds, ascending; fine near 0, and as fine for its size everywhere else."""
    steps = _steps(np.abs(scores), _FIRST_SCORE, _HALF_SCORE)
    return np.where(scores >= 0, _HALF_SCORE + steps, _HALF_SCORE - 1 - steps)


def _steps(distance: np.ndarray, first: int, count: int) -> np.ndarray:
    """Exponent and leading bits of float32: bins that grow with the distance, in ascending order."""
    return np.clip((distance.astype(np.float32).view(np.int32) >> _SHIFT) - first, 0, count - 1)


def _wrong_and_right(ranks: np.ndarray, right: np.ndarray, num_ranks: int) -> np.ndarray:
    """(2, num_ranks): how many are wrong and how many right in each bin."""
    return np.stack([np.bincount(ranks[right == truth], minlength=num_ranks) for truth in (False, True)])


def _auc(negatives: np.ndarray, positives: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve, and by how much ties within bins may have changed it."""
    pairs = float(negatives.sum()) * float(positives.sum())
    if not pairs:
        return float("nan"), float("nan")
    below = np.cumsum(negatives) - negatives
    ties = float(positives @ negatives.astype(float)) / (2 * pairs)
    return float(positives @ below.astype(float)) / pairs + ties, ties


def _average_precision(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """Average precision of bins in descending order of score, and by how much ties within bins may have changed it."""
    total = positives.sum()
    if not total:
        return float("nan"), float("nan")
    weights = positives / total
    after, wrong = np.cumsum(positives), np.cumsum(negatives)
    precision = weights @ (after / np.maximum(after + wrong, 1))
    best = weights @ (after / np.maximum(after + wrong - negatives, 1))  # a bin's positives first
    first = after - positives + 1
    worst = weights @ (first / (first + wrong))  # a bin's negatives first
    return float(precision), float(max(best - precision, precision - worst))
