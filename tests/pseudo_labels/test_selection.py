"""Which predictions become labels, counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_partial.pseudo_labels.selection import changed_fraction, most_confident, select_pseudo_labels

scores_with_ties = st.lists(st.sampled_from([-2.0, 0.5, 0.75, 3.0, 90.0]), min_size=0, max_size=40)


class TestMostConfident:
    @given(scores_with_ties, st.integers(-2, 45))
    def test_exactly_so_many_and_none_left_out_is_higher(self, scores, count):
        scores = np.array(scores, dtype=np.float32)
        chosen = most_confident(scores, count)
        assert chosen.sum() == min(max(count, 0), len(scores))
        if 0 < chosen.sum() < len(scores):
            assert scores[chosen].min() >= scores[~chosen].max()

    def test_of_equal_scores_the_first(self):
        assert most_confident(np.array([1.0, 2.0, 2.0, 2.0, 0.0]), 2).tolist() == [False, True, True, False, False]

    def test_scores_that_saturate_as_probabilities_are_still_ranked(self):
        log_odds = np.array([40.0, 60.0, 50.0], dtype=np.float32)
        assert len(set(1 / (1 + np.exp(-log_odds)))) == 1
        assert most_confident(log_odds, 1).tolist() == [False, True, False]


def select(prediction, scores, human, earlier=None, ids=(1, 2), fraction=0.5):
    arrays = [np.array([values]) for values in (prediction, scores, human, human if earlier is None else earlier)]
    return select_pseudo_labels(*arrays, ids, fraction)


class TestSelectPseudoLabels:
    def test_top_half_of_each_class(self):
        labels, found = select([1, 1, 1, 1, 2, 2, 0], [4.0, 1, 3, 2, -5, -6, 0], [0] * 7)
        assert labels.tolist() == [[1, 0, 1, 0, 2, 0, 0]]
        assert (found[1].predicted, found[1].added, found[1].total, found[1].threshold) == (4, 2, 2, 3.0)
        assert (found[2].predicted, found[2].added, found[2].threshold) == (2, 1, -5.0)

    def test_never_over_a_human_label_nor_outside_the_image(self):
        labels, found = select([1, 1, 1], [3.0, 2, 1], [3, -1, 0], fraction=1.0)
        assert labels.tolist() == [[3, -1, 1]]
        assert found[1].predicted == 1

    def test_earlier_rounds_count_towards_the_fraction(self):
        """Half of four was labelled; two thirds of four are ceil(2.67) = 3, so one is added: the better of the open two."""
        labels, found = select([1, 1, 1, 1], [9.0, 8, 1, 2], [0] * 4, earlier=[1, 1, 0, 0], fraction=2 / 3)
        assert labels.tolist() == [[1, 1, 0, 1]]
        assert (found[1].already, found[1].added, found[1].total) == (2, 1, 3)

    def test_earlier_labels_stay_where_the_prediction_has_left_them(self):
        labels, found = select([0, 2, 1], [0.0, 9, 1], [0, 0, 0], earlier=[1, 1, 0], fraction=1.0)
        assert labels.tolist() == [[1, 1, 1]]  # the second voxel is class 1's since the round before
        assert (found[2].predicted, found[2].already, found[2].added) == (1, 1, 0)
        assert found[1].total == 3

    def test_last_round_labels_every_prediction(self):
        labels, _ = select([1, 2, 1, 0], [1.0, 1, 1, 0], [0] * 4, fraction=3 / 3)
        assert labels.tolist() == [[1, 2, 1, 0]]

    @pytest.mark.parametrize("fraction", [1 / 3, 2 / 3, 3 / 3, 0.1 * 3])
    def test_rounding_never_asks_for_one_voxel_too_many(self, fraction):
        _, found = select([1] * 30, np.arange(30.0), [0] * 30, ids=(1,), fraction=fraction)
        assert found[1].added == round(30 * fraction)

    def test_nothing_predicted(self):
        labels, found = select([0, 0], [0.0, 0], [0, 3])
        assert labels.tolist() == [[0, 3]]
        assert found[1].added == 0
        assert found[1].threshold is None

    def test_the_arguments_are_left_as_they_are(self):
        earlier = np.zeros((1, 3), np.int16)
        select_pseudo_labels(np.ones((1, 3), np.int16), np.ones((1, 3)), earlier, earlier, [1], 1.0)
        assert not earlier.any()

    @given(st.data())
    def test_a_hundred_classes_like_one_class_at_a_time(self, data):
        generator = np.random.default_rng(data.draw(st.integers(0, 2**16)))
        shape, ids = (1, 6, 7, 8), sorted(generator.choice(np.arange(1, 118), 100, replace=False))
        human = generator.choice([0, 0, 0, 5, -1], shape).astype(np.int16)
        prediction = np.where(human == 0, generator.choice([0, *ids], shape), 0).astype(np.int16)
        scores = generator.normal(size=shape).astype(np.float32)
        labels, found = select_pseudo_labels(prediction, scores, human, human, ids, 0.4)
        for number in ids:
            own = prediction == number
            expected = np.zeros(shape, bool)
            expected[own] = most_confident(scores[own], int(np.ceil(0.4 * own.sum() - 1e-9)))
            added = (labels == number) & (human == 0)
            assert (added == expected).all()
            assert found[number].added == expected.sum()


class TestChangedFraction:
    def test_counted_by_hand(self):
        """Class 1: 1 of 3 voxels the same; class 2: 2 of 2 the same."""
        now, before = np.array([[1, 1, 0, 2, 2]]), np.array([[1, 0, 1, 2, 2]])
        assert changed_fraction(now, before) == pytest.approx((2 / 3 + 0) / 2)

    def test_nothing_predicted_in_both(self):
        assert changed_fraction(np.zeros((1, 4), np.int16), np.zeros((1, 4), np.int16)) == 0

    def test_a_class_that_vanished(self):
        assert changed_fraction(np.array([[0, 0]]), np.array([[1, 1]])) == 1
