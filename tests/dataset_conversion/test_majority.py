"""What most annotators say: by hand on eight voxels, and against a slow loop over all of them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_partial.dataset_conversion.majority import majority_labels, majority_protocol
from nnunet_partial.labels import AnnotationProtocol

LIVER, SPLEEN, KIDNEY = 1, 2, 3
BOTH_KIDNEYS = ("kidney_left", "kidney_right")
MEANINGS = {LIVER: ("liver",), SPLEEN: ("spleen",), KIDNEY: BOTH_KIDNEYS, 5: ("aorta",)}


def protocol(*numbers: int) -> AnnotationProtocol:
    return AnnotationProtocol(labels={number: MEANINGS[number] for number in numbers})


def cube(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(2, 2, 2)


def slow_majority(label_maps, protocols) -> np.ndarray:
    """Voxel by voxel, with exact fractions."""
    result = np.zeros(label_maps[0].shape, dtype=int)
    numbers = sorted({number for protocol_ in protocols for number in protocol_.labels})
    for voxel in np.ndindex(result.shape):
        shares = {}
        for number in numbers:
            voters = [index for index, protocol_ in enumerate(protocols) if number in protocol_.labels]
            shares[number] = Fraction(sum(label_maps[index][voxel] == number for index in voters), len(voters))
        enough = {number: share for number, share in shares.items() if share > Fraction(1, 2)}
        if enough:
            result[voxel] = min(number for number, share in enough.items() if share == max(enough.values()))
    return result


def test_three_annotators_of_one_protocol():
    anna = cube(0, 1, 1, 1, 1, 2, 0, 2)
    ben_ = cube(0, 1, 1, 0, 2, 2, 0, 1)
    carl = cube(0, 1, 0, 0, 0, 2, 2, 1)
    voted = majority_labels([anna, ben_, carl], [protocol(LIVER, SPLEEN)] * 3)
    np.testing.assert_array_equal(voted, cube(0, 1, 1, 0, 0, 2, 0, 1))  # one each for liver, spleen, nothing: nothing
    assert voted.dtype == np.uint8


def test_two_annotators_make_what_both_drew():
    voted = majority_labels([cube(1, 1, 2, 0, 0, 0, 0, 0), cube(1, 2, 2, 1, 0, 0, 0, 0)], [protocol(LIVER, SPLEEN)] * 2)
    np.testing.assert_array_equal(voted, cube(1, 0, 2, 0, 0, 0, 0, 0))


def test_only_those_who_looked_have_a_vote():
    """Carl looked for the spleen alone: his empty liver is no vote against it, and Anna alone knows of kidneys."""
    protocols = [protocol(LIVER, SPLEEN, KIDNEY), protocol(LIVER, SPLEEN), protocol(SPLEEN)]
    anna = cube(1, 1, 2, 2, 3, 3, 0, 3)
    ben_ = cube(1, 0, 2, 0, 0, 2, 1, 1)
    carl = cube(0, 0, 0, 0, 0, 2, 0, 2)
    # shares: liver 2/2; 1/2; spleen 2/3; 1/3; kidney 1/1; kidney 1/1 against spleen 2/3; liver 1/2; kidney 1/1
    np.testing.assert_array_equal(majority_labels([anna, ben_, carl], protocols), cube(1, 0, 2, 0, 3, 3, 0, 3))


def test_the_lower_id_wins_between_equal_shares():
    protocols = [protocol(SPLEEN), protocol(LIVER)]
    labels = [np.full((2, 2, 2), SPLEEN, dtype=np.uint8), np.full((2, 2, 2), LIVER, dtype=np.uint8)]
    np.testing.assert_array_equal(majority_labels(labels, protocols), np.full((2, 2, 2), LIVER))


def test_what_was_drawn_without_having_been_looked_for_is_no_vote():
    labels = [cube(2, 2, 0, 0, 0, 0, 0, 0), cube(2, 0, 0, 0, 0, 0, 0, 0), cube(0, 2, 0, 0, 0, 0, 0, 0)]
    voted = majority_labels(labels, [protocol(LIVER), protocol(SPLEEN), protocol(LIVER)])
    np.testing.assert_array_equal(voted, cube(2, 0, 0, 0, 0, 0, 0, 0))


def test_a_union_is_voted_for_like_any_other_id():
    labels = [cube(3, 3, 0, 0, 0, 0, 0, 0), cube(3, 0, 0, 0, 0, 0, 0, 0), cube(0, 3, 0, 0, 0, 0, 0, 0)]
    voted = majority_labels(labels, [protocol(KIDNEY)] * 3)
    np.testing.assert_array_equal(voted, cube(3, 3, 0, 0, 0, 0, 0, 0))
    assert majority_protocol([protocol(KIDNEY), protocol(LIVER)]).labels == {LIVER: ("liver",), KIDNEY: BOTH_KIDNEYS}


def test_nobody_drew_anything():
    empty = np.zeros((3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(majority_labels([empty, empty], [protocol(LIVER)] * 2), empty)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_as_a_slow_loop_says(num_annotators, seed):
    rng = np.random.default_rng(seed)
    ids = [0, LIVER, SPLEEN, KIDNEY, 5]
    protocols = [protocol(*(number for number in ids[1:] if rng.random() < 0.7)) for _ in range(num_annotators)]
    common = rng.choice(ids, (4, 3, 5))
    labels = [np.where(rng.random(common.shape) < 0.5, common, rng.choice(ids, common.shape)) for _ in protocols]
    labels = [np.asfortranarray(map_.astype(np.uint8)) for map_ in labels]
    np.testing.assert_array_equal(majority_labels(labels, protocols), slow_majority(labels, protocols))


def test_twenty_annotators_and_ids_above_a_byte():
    labels = [np.full((1, 1, 1), 300 if index < 11 else 0, dtype=np.int16) for index in range(20)]
    high = AnnotationProtocol(labels={300: ("liver",)})
    assert majority_labels(labels, [high] * 20).item() == 300
    assert majority_labels([labels[0] * 0, *labels[1:]], [high] * 20).item() == 0  # ten of twenty are not enough


def test_meanings_that_differ_are_refused():
    sided = AnnotationProtocol(labels={KIDNEY: ("kidney_left",), 4: ("kidney_right",)})
    with pytest.raises(
        ValueError, match="label id 3 stands for kidney_left or kidney_right with one annotator and for kidney_left"
    ):
        majority_protocol([protocol(KIDNEY), sided])
    with pytest.raises(ValueError, match="drew kidney_right under different label ids"):
        majority_protocol([protocol(KIDNEY), AnnotationProtocol(labels={4: ("kidney_right",)})])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="expected label maps of one shape and a protocol for each"):
        majority_labels([np.zeros((1, 1, 1)), np.zeros((1, 1, 2))], [protocol(LIVER)] * 2)
