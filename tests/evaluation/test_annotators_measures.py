"""Overlaps, energy distance, confidence levels and who is asked for what, against slow loops and by hand."""

import itertools

import numpy as np
import pytest

from nnunet_partial.evaluation import CalibrationCounts, calibration_metrics, evaluate_case, surface_metrics
from nnunet_partial.evaluation.annotators import Overlaps, diversities, energy_distance, metrics_at_levels, variance
from nnunet_partial.evaluation.annotators.class_votes import case_keys, showing_ids
from nnunet_partial.evaluation.annotators.levels import averages_over_levels
from nnunet_partial.evaluation.annotators.overlap import shared_voxels
from nnunet_partial.evaluation.probabilities import reaches
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

SPACE = LabelSpace(classes=("liver", "kidney_left", "kidney_right"), has_ignore=True)


def slow_distance(first: np.ndarray, second: np.ndarray) -> float:
    """1 - IoU of two masks as sets of voxels."""
    a, b = ({tuple(voxel) for voxel in np.argwhere(mask)} for mask in (first, second))
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


def random_masks(seed: int, number: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((number, 4, 5, 6)) < rng.random((number, 1, 1, 1))


@pytest.mark.parametrize("number", [2, 3, 7])
def test_energy_distance_equals_a_double_loop_over_draws(number):
    *annotators, prediction = masks = random_masks(number, number + 1)
    overlaps = Overlaps.of_masks(masks)
    found = energy_distance(overlaps.distance[-1, :-1], overlaps.distance[:-1, :-1])
    to_prediction = np.mean([slow_distance(mask, prediction) for mask in annotators])
    draws = [slow_distance(a, b) for a, b in itertools.product(annotators, repeat=2)]
    pairs = [slow_distance(a, b) for a, b in itertools.combinations(annotators, 2)]
    assert found["IoU_distance"] == pytest.approx(to_prediction)
    assert found["diversity_draws"] == pytest.approx(np.mean(draws))
    assert found["diversity_pairs"] == pytest.approx(np.mean(pairs))
    assert found["GED2_draws"] == pytest.approx(2 * to_prediction - np.mean(draws))
    assert found["GED2_pairs"] == pytest.approx(2 * to_prediction - np.mean(pairs))


@pytest.mark.parametrize("seed", range(20))
def test_energy_distances_are_never_negative(seed):
    overlaps = Overlaps.of_masks(random_masks(seed, 5))
    found = energy_distance(overlaps.distance[-1, :-1], overlaps.distance[:-1, :-1])
    assert found["GED2_draws"] >= found["GED2_pairs"] >= 0


def test_the_papers_table_is_over_pairs():
    """Brain tumor 2: one of three annotators 0.9415 from the others, these 0.1982 from each other; table 3 says 0.6955."""
    between = np.array([[0, 0.1982, 0.9415], [0.1982, 0, 0.9415], [0.9415, 0.9415, 0]])
    found = diversities(between)
    assert found["diversity_pairs"] == pytest.approx(0.6955, abs=0.003)
    assert found["diversity_draws"] == pytest.approx(0.4625, abs=0.003)


def test_one_annotator_alone_has_no_pairs():
    found = energy_distance(np.array([0.25]), np.zeros((1, 1)))
    assert np.isnan(found["diversity_pairs"])
    assert np.isnan(found["GED2_pairs"])
    assert found["GED2_draws"] == 0.5


def test_empty_masks_agree_with_each_other_and_with_nothing_else():
    overlaps = Overlaps.of_masks(np.array([[False, False], [False, False], [True, False]]))
    assert overlaps.dice.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert overlaps.distance.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_voxels_are_counted_exactly_beyond_what_float32_counts():
    masks = np.ones((2, 2**24 + 3), dtype=bool)
    masks[1, 0] = False
    assert shared_voxels(masks).tolist() == [[2**24 + 3, 2**24 + 2], [2**24 + 2, 2**24 + 2]]


@pytest.mark.parametrize("num_annotators", range(1, 21))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_share_of_votes_that_is_a_level_reaches_it(num_annotators, dtype):
    """A prediction that is the averaged annotation, stored in whatever precision, is perfect at every level."""
    votes = np.arange(num_annotators + 1)
    found = metrics_at_levels((votes / num_annotators).astype(dtype), votes, num_annotators, None)
    for tenth, metrics in zip(range(1, 10), found.values(), strict=True):
        assert metrics["n_ref"] == sum(10 * count >= tenth * num_annotators for count in votes.tolist())
        assert (metrics["Dice"], metrics["Precision"], metrics["Recall"]) == (1, 1, 1)


def test_levels_of_half_precision():
    assert reaches(np.array([0.1], np.float16), 0.1).all()  # 0.09998
    assert not reaches(np.array([0.0999], np.float16), 0.1).any()


def test_levels_by_hand():
    probability = np.array([0.9, 0.6, 0.4, 0.1, 0], np.float32)
    found = metrics_at_levels(probability, np.array([3, 2, 1, 0, 0]), 3, None)
    dice = [6 / 7, 1, 1, 4 / 5, 1, 1, 1, 1, 1]
    assert [metrics["Dice"] for metrics in found.values()] == pytest.approx(dice)
    assert (found["10"]["Precision"], found["10"]["Recall"]) == (3 / 4, 1)
    assert averages_over_levels(found)["Dice_over_levels"] == pytest.approx(np.mean(dice))


@pytest.mark.parametrize(
    ("probability", "votes", "expected"),
    [
        (0, 0, {"Dice": None, "Precision": None, "Recall": None, "HD95_mm": None}),
        (1, 0, {"Dice": 0, "Precision": 0, "Recall": None, "HD95_mm": None}),
        (0, 2, {"Dice": 0, "Precision": None, "Recall": 0, "HD95_mm": None}),
        (1, 2, {"Dice": 1, "Precision": 1, "Recall": 1, "HD95_mm": 0}),
    ],
)
def test_empty_masks_at_a_level_are_judged_as_evaluate_judges_them(probability, votes, expected):
    shape = (2, 2, 2)
    found = metrics_at_levels(np.full(shape, probability, np.float32), np.full(shape, votes), 2, (1, 1, 1))["50"]
    assert {name: None if np.isnan(found[name]) else found[name] for name in expected} == expected
    ordinary = evaluate_case(
        np.full(shape, int(votes > 0)), np.full(shape, probability), AnnotationProtocol(labels={1: ("liver",)}), SPACE
    )[1]
    ordinary |= surface_metrics(np.full(shape, votes > 0), np.full(shape, probability > 0), (1, 1, 1))
    assert {name: None if np.isnan(ordinary[name]) else ordinary[name] for name in expected} == expected


def test_levels_that_say_nothing_enter_no_average():
    probability, votes = np.array([0.25, 0], np.float32), np.array([1, 0])  # of 4: both are empty from 30 % on
    found = averages_over_levels(metrics_at_levels(probability, votes, 4, None))
    assert found == {"Dice_over_levels": 1, "Precision_over_levels": 1, "Recall_over_levels": 1}


def test_calibration_against_shares_by_hand():
    probability = np.array([0.9, 0.6, 0.4, 0.1], np.float32)
    found = calibration_metrics(CalibrationCounts.of_voxels(probability, np.array([1, 2 / 3, 1 / 3, 0])))
    assert found["ECE"] == pytest.approx((0.1 + 1 / 15 + 1 / 15 + 0.1) / 4, rel=1e-6)
    assert found["Brier"] == pytest.approx((0.01 + 1 / 225 + 1 / 225 + 0.01) / 4, rel=1e-6)
    assert found["ranked_voxels"] == 0
    assert np.isnan(found["AUC"])


def test_calibration_of_shares_that_are_all_or_nothing_is_that_of_a_label_map():
    rng = np.random.default_rng(0)
    probability, truth = rng.random(500).astype(np.float32), rng.random(500) < 0.5
    sharp = calibration_metrics(CalibrationCounts.of_voxels(probability, truth, probability > 0.5))
    shares = calibration_metrics(CalibrationCounts.of_voxels(probability, truth.astype(np.float32)))
    for name in ("voxels", "ECE", "Brier", "reliability"):
        assert shares[name] == sharp[name]


def test_variance():
    assert variance(np.array([0, 0.25, 0.5, 1], np.float32)).tolist() == [0, 0.1875, 0.25, 0]


def test_who_can_tell_what():
    sided = AnnotationProtocol(labels={1: ("liver",), 2: ("kidney_left",), 3: ("kidney_right",)})
    unsided = AnnotationProtocol(labels={2: ("kidney_left", "kidney_right")})
    one_side = AnnotationProtocol(labels={2: ("kidney_left",)})
    assert case_keys([unsided, sided], SPACE) == [1, 2, 3, (2, 3)]
    assert case_keys([one_side], SPACE) == [2]
    assert np.flatnonzero(showing_ids((2, 3), sided, SPACE)).tolist() == [2, 3]
    assert showing_ids(2, unsided, SPACE) is None
    assert showing_ids(1, unsided, SPACE) is None
    assert showing_ids((2, 3), one_side, SPACE) is None
    everything = AnnotationProtocol(labels={7: ("liver", "kidney_left", "kidney_right")})
    assert showing_ids((2, 3), everything, SPACE) is None
    assert np.flatnonzero(showing_ids((1, 2, 3), everything, SPACE)).tolist() == [1, 2, 3, 7]
