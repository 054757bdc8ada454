"""Remapping of source ids."""

import numpy as np
import pytest

from nnunet_partial.labels import count_labels, remap_labels


def test_remaps_and_keeps_the_shape():
    labels = np.array([[0, 1, 2], [2, 7, 0]], dtype=np.uint16)
    ours = remap_labels(labels, {1: 3, 2: 0, 7: 1})
    assert ours.tolist() == [[0, 3, 0], [0, 1, 0]]
    assert ours.dtype == np.uint8


def test_whole_floats_are_labels():
    assert remap_labels(np.array([0.0, 2.0]), {2: 5}).tolist() == [0, 5]


def test_ids_above_255_get_a_wider_type():
    assert remap_labels(np.array([0, 1]), {1: 300}).dtype == np.int16


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 3, 4, 4]), r"unknown label ids 3 \(1 voxels\), 4 \(2 voxels\); known are 0, 1"),
        (np.array([0.5]), "fractions"),
        (np.array([np.nan]), "NaN"),
        (np.array([-1]), "negative"),
        (np.array([70_000]), "is it an image"),
        (np.array(["a"]), "whole numbers"),
    ],
)
def test_refuses(labels, words):
    with pytest.raises(ValueError, match=words):
        remap_labels(labels, {1: 1})


def test_counts():
    assert count_labels(np.array([[0, 5], [5, 5]], dtype=np.int32)) == {0: 1, 5: 3}
    assert count_labels(np.zeros((0, 3), dtype=np.uint8)) == {}
