"""The picture is a PNG of sane size that shows the slices that tell most."""

import struct

import numpy as np
import pytest

from nnunet_partial.demo.layouts import label_map, write_held_out
from nnunet_partial.demo.phantom import ORGANS, make_phantom
from nnunet_partial.demo.picture import draw_picture, telling_views
from nnunet_partial.report.slices import read_shown_case

IDS = {name: number for number, name in enumerate(ORGANS, 1)}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    cases = []
    for n in range(2):
        write_held_out(make_phantom(n), folder, n, "LPS")
        truth = folder / "labelsTs" / f"phantom_{n:02d}.nii.gz"
        cases.append(read_shown_case(folder / "imagesTs" / f"phantom_{n:02d}_0000.nii.gz", truth, truth, truth))
    return cases


def test_cases_are_read_in_anatomical_axes(shown):
    np.testing.assert_array_equal(shown[0].label_maps[0], label_map(make_phantom(0), IDS))


def test_picture_is_a_png_of_sane_size(shown, tmp_path):
    shown[0].label_maps[1][:] = 0  # a network that found nothing
    path = tmp_path / "demo.png"
    draw_picture(shown, [[0.0, 1.0], [None, 0.5]], dict.fromkeys(ORGANS, 9), 27, path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert 800 < width < 2000
    assert 800 < height < 2400
    assert len(content) < 2_000_000


def test_views_show_as_many_organs_as_possible():
    truth = np.zeros((10, 10, 10), dtype=np.uint8)
    for number in range(1, 6):
        truth[number, 4, 7] = number
    truth[6:9, 6:9, 2] = 1  # a large organ alone does not make a slice worth showing
    assert [(view.name, view.index) for view in telling_views(truth)] == [("axial", 7), ("coronal", 4)]


def test_patient_right_is_on_the_left_and_up_is_up():
    truth = np.zeros((4, 5, 6), dtype=np.uint8)
    truth[3, 4, 5] = 1  # right, anterior, superior
    for view in telling_views(truth):
        plane = view.of(truth)
        assert plane[0, 0] == 1
