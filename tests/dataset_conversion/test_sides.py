"""Left and right from components, in the patient's axes."""

import numpy as np
import pytest

from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.dataset_conversion.sides import split_sides

SHAPE = (60, 40, 20)
RIGHT_IDS = {1: 3, 2: 4}
LEFT, RIGHT = (slice(12, 20), slice(10, 18), slice(4, 14)), (slice(40, 48), slice(10, 18), slice(4, 14))


@pytest.fixture
def image() -> Volume:
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[5:55, 5:35] = 40
    return Volume(hu, np.diag([5.0, 5.0, 5.0, 1.0]))


def labels(*boxes, tumor=()) -> np.ndarray:
    found = np.zeros(SHAPE, dtype=np.uint8)
    for box in boxes:
        found[box] = 1
    for box in tumor:
        found[box] = 2
    return found


def test_two_kidneys_and_a_tumor_on_its_kidney(image):
    tumor = (slice(48, 52), slice(10, 14), slice(4, 8))
    sided, notes = split_sides(labels(LEFT, RIGHT, tumor=[tumor]), image, "kidney", RIGHT_IDS)
    assert notes == []
    assert set(np.unique(sided[:30])) == {0, 1}
    assert set(np.unique(sided[30:])) == {0, 3, 4}
    assert (sided[tumor] == 4).all()


def test_specks_follow_the_nearest_kidney(image):
    speck = (slice(31, 32), slice(12, 13), slice(8, 9))
    across = (slice(28, 29), slice(12, 13), slice(8, 9))
    sided, _ = split_sides(labels(LEFT, RIGHT, speck, across), image, "kidney", RIGHT_IDS)
    assert sided[speck] == 3
    assert sided[across] == 1


@pytest.mark.parametrize(("box", "number", "side"), [(LEFT, 1, "left"), (RIGHT, 3, "right")])
def test_single_kidney_is_sided_by_its_place_in_the_body(image, box, number, side):
    sided, notes = split_sides(labels(box), image, "kidney", RIGHT_IDS)
    assert (sided[box] == number).all()
    assert notes == [f"kidney: only a {side} one, by its position in the body"]


def test_horseshoe_kidney_is_split_at_the_middle(image):
    bridge = (slice(20, 40), slice(12, 15), slice(4, 6))
    sided, notes = split_sides(labels(LEFT, RIGHT, bridge), image, "kidney", RIGHT_IDS)
    assert "joined over the midline" in notes[0]
    assert (sided[LEFT] == 1).all()
    assert (sided[RIGHT] == 3).all()


def test_body_off_centre_does_not_confuse_two_kidneys(image):
    array = image.array.copy()
    array[:, :, :] = -1000
    array[50:59] = 40  # all that is taken for body lies beyond both kidneys
    sided, notes = split_sides(labels(LEFT, RIGHT), Volume(array, image.affine), "kidney", RIGHT_IDS)
    assert (sided[LEFT] == 1).all()
    assert (sided[RIGHT] == 3).all()
    assert "one side of the body's middle" in notes[0]


def test_no_kidney(image):
    sided, notes = split_sides(labels(), image, "kidney", RIGHT_IDS)
    assert not sided.any()
    assert notes == ["no kidney in the label map"]


def test_ids_beyond_one_byte_survive_the_split(image):
    drawn = labels(LEFT, RIGHT).astype(np.uint16) * 200
    sided, _ = split_sides(drawn, image, "lung", {200: 400})
    assert (sided[LEFT] == 200).all()
    assert (sided[RIGHT] == 400).all()
