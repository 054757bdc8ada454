"""What a picture shows of right, wrong and unknown, and which slices it chooses."""

import numpy as np
import pytest
import SimpleITK

from nnunet_partial.report.overlays import (
    CONFUSED,
    MISSED,
    NOT_JUDGED,
    RIGHT,
    TOO_MUCH,
    difference_map,
    draw_preview,
    views_of_errors,
    views_of_labels,
)
from nnunet_partial.report.slices import ShownCase, View, read_shown_case
from nnunet_partial.report.viewer import MAX_VOXELS, strides

# liver 1, kidney 2 or 3 under id 2, spleen 4 not looked for, id 5 ignored
TABLE = np.eye(6, 5, dtype=bool)
TABLE[0, 4] = TABLE[2, 3] = True
TABLE[5] = True


def test_difference_by_hand():
    reference = np.array([[[0, 0, 0, 1, 1, 1, 2, 2, 2, 5, 5]]])
    prediction = np.array([[[0, 1, 4, 1, 0, 4, 2, 3, 0, 1, 0]]])
    expected = [0, TOO_MUCH, NOT_JUDGED, RIGHT, MISSED, CONFUSED, RIGHT, RIGHT, MISSED, NOT_JUDGED, NOT_JUDGED]
    assert difference_map(reference, prediction, TABLE).ravel().tolist() == expected


def test_ids_the_table_does_not_know():
    with pytest.raises(ValueError, match=r"prediction holds label ids 0\.\.7, known are 0\.\.4"):
        difference_map(np.zeros((1, 1, 2), int), np.array([[[0, 7]]]), TABLE)


def test_a_small_class_missed_outweighs_the_rim_of_a_large_one():
    reference = np.zeros((12, 12, 12), np.int16)
    reference[:8, :8, :8] = 1
    reference[10:, 10:, 10:] = 2
    prediction = reference.copy()
    prediction[10:, 10:, 10:] = 0
    prediction[:8, :8, 7] = 0
    views = views_of_errors(difference_map(reference, prediction, TABLE), reference, prediction)
    assert {view.name: view.index for view in views} == {"axial": 10, "coronal": 10, "sagittal": 10}


def test_without_errors_or_labels_there_are_views_all_the_same():
    empty = np.zeros((4, 6, 8), np.int16)
    assert [view.index for view in views_of_labels(empty)] == [4, 3, 2]
    assert views_of_errors(np.zeros_like(empty, np.uint8), empty, empty) == views_of_labels(empty)


def test_planes_as_radiologists_see_them():
    labels = np.zeros((4, 5, 6), np.int16)
    labels[3, 4, 5] = 1  # right, anterior, superior
    assert View("axial", 2, 5).of(labels)[0, 0] == 1
    assert View("coronal", 1, 4).of(labels)[0, 0] == 1
    assert View("sagittal", 0, 3).of(labels)[0, 0] == 1  # front on the left, up is up


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_every_format_is_brought_to_the_same_axes(ending, tmp_path):
    array = np.zeros((3, 4, 5), np.int16)  # z, y, x
    array[2, 0, 0] = 7
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1, 2, 3))  # ITK's x runs to the left, y to the back: the first voxel is right and anterior
    SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"))
    case = read_shown_case(tmp_path / f"a{ending}")
    assert np.argwhere(case.image == 7).tolist() == [[4, 3, 2]]
    assert case.spacing_mm == (1, 2, 3)


class TestRefusals:
    def write(self, path, array):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
        return path

    def test_shapes_that_differ(self, tmp_path):
        image = self.write(tmp_path / "i.nii.gz", np.zeros((3, 4, 5), np.int16))
        labels = self.write(tmp_path / "l.nii.gz", np.zeros((3, 4, 6), np.uint8))
        with pytest.raises(ValueError, match=r"l.nii.gz has shape \(6, 4, 3\), but its image .* has \(5, 4, 3\)"):
            read_shown_case(image, labels)

    def test_fractions_and_flat_pictures(self, tmp_path):
        image = self.write(tmp_path / "i.nii.gz", np.zeros((2, 2, 2), np.int16))
        with pytest.raises(ValueError, match="holds fractions"):
            read_shown_case(image, self.write(tmp_path / "p.nii.gz", np.full((2, 2, 2), 0.5, np.float32)))
        with pytest.raises(ValueError, match="has 2 axes; pictures are drawn of volumes with three"):
            read_shown_case(self.write(tmp_path / "flat.nii.gz", np.zeros((2, 2), np.int16)))

    def test_not_an_image(self, tmp_path):
        (tmp_path / "x.nii.gz").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"x\.nii\.gz cannot be read"):
            read_shown_case(tmp_path / "x.nii.gz")


def test_preview_of_an_empty_prediction():
    case = ShownCase(np.zeros((8, 8, 8), np.int16), (np.zeros((8, 8, 8), np.int16),), (2.0, 2.0, 2.0))
    assert draw_preview(case, {1: "liver"}, "a").startswith(b"\x89PNG")


def test_large_scans_are_thinned_along_their_finest_axis_first():
    assert strides((100, 100, 100), (1.0, 1.0, 1.0)) == (1, 1, 1)
    steps = strides((512, 512, 200), (0.7, 0.7, 5.0))
    assert steps[2] == 1
    assert np.prod([-(-size // step) for size, step in zip((512, 512, 200), steps, strict=True)]) <= MAX_VOXELS
