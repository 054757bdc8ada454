"""Arrays and their place in the patient: turned, written and read back without a change."""

import gzip
from dataclasses import replace

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from native_sources import save

from nnunet_partial.dataset_conversion.image_files.nifti import image_header, linkable_header, write_labels, write_nifti
from nnunet_partial.dataset_conversion.image_files.volume import (
    Volume,
    bounding_box,
    itk_affine,
    read_labels,
    read_nifti,
    same_grid,
    to_ras,
    with_square_axes,
)

FACES = [(slice(None),) * axis + (place,) for axis in range(3) for place in (0, -1)]
AXES = [x + y + z for x in "RL" for y in "AP" for z in "SI"] + ["IPL", "ASR", "PIR", "SLA"]


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize("axes", AXES)
def test_every_orientation_comes_back_to_ras(tmp_path, array, axes):
    volume = read_nifti(save(array, tmp_path / "image.nii", axes))
    assert volume.axcodes == axes
    turned = to_ras(volume)
    np.testing.assert_array_equal(turned.array, array)
    reference = nib.as_closest_canonical(nib.load(tmp_path / "image.nii"))
    np.testing.assert_allclose(turned.affine, reference.affine)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_stored_values_and_scale_survive_writing(tmp_path, dtype):
    array = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    volume = Volume(array, np.diag([1.5, 1.5, 3, 1]), slope=0.5, inter=-1024)
    write_nifti(volume.array, image_header(volume), tmp_path / "a.nii.gz")
    write_nifti(np.asfortranarray(volume.array), image_header(volume), tmp_path / "b.nii.gz")
    back = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.array, array)
    assert back.array.dtype == dtype
    assert (back.slope, back.inter) == (0.5, -1024)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj), array * 0.5 - 1024)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_every_reader_reads_a_written_label_map(tmp_path, array, monkeypatch, dtype, fast):
    monkeypatch.setattr(imagecodecs.ZLIBNG, "available", fast and imagecodecs.ZLIBNG.available)
    image = Volume(array.astype(np.int16), np.diag([1.5, 1.5, 3, 1]), slope=2.0, inter=-1024)
    labels = np.zeros((64, 48, 40), dtype)
    labels[10:30, 5:20, 3:9] = np.random.default_rng(0).integers(1, 14, (20, 15, 6))
    path = tmp_path / "labels.nii.gz"
    write_labels(labels, image_header(replace(image, array=np.zeros(labels.shape, np.int16))), path)
    assert gzip.decompress(path.read_bytes())[352:] == labels.tobytes(order="F")  # the standard library checks the sum
    back = read_nifti(path)
    np.testing.assert_array_equal(back.array, labels)
    assert (back.array.dtype, back.slope, back.inter) == (dtype, 1, 0)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
    by_itk = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(by_itk).transpose(2, 1, 0), labels)
    np.testing.assert_allclose(itk_affine(by_itk), image.affine, atol=1e-5)


@given(arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)), st.booleans())
def test_a_bounding_box_is_the_smallest(mask, in_files_order):
    box = bounding_box(np.asfortranarray(mask) if in_files_order else mask)
    outside = mask.copy()
    outside[box] = False
    assert not outside.any()
    found = mask[box]
    assert found.size == 0 if not mask.any() else all(found[face].any() for face in FACES)


def test_nibabel_and_itk_see_a_written_file_at_one_place(tmp_path, array):
    angle = np.radians(10)
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 2.5]]
    affine[:3, 3] = 12.5, -40, 812
    volume = Volume(array, affine)
    write_nifti(array, image_header(volume), tmp_path / "image.nii.gz")
    np.testing.assert_allclose(itk_affine(SimpleITK.ReadImage(str(tmp_path / "image.nii.gz"))), affine, atol=1e-5)
    np.testing.assert_allclose(nib.load(tmp_path / "image.nii.gz").affine, affine, atol=1e-5)


@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_square_axes_keep_spacing_and_are_perpendicular(shear, other):
    affine = np.diag([0.8, 0.8, 5.0, 1.0])
    affine[1, 2], affine[0, 1] = shear * 5, other
    squared, skew = with_square_axes(Volume(np.zeros((2, 2, 2)), affine))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(squared.affine[:3, :3].T @ squared.affine[:3, :3], np.diag(spacing**2), atol=1e-9)
    assert (skew > 1e-6) == (abs(shear) > 1e-7 or abs(other) > 1e-7) or skew < 1e-4


def test_sheared_files_are_not_linked(tmp_path, array):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.3
    path = save(array, tmp_path / "image.nii.gz", affine=affine)
    assert linkable_header(path, read_nifti(path)) is None


def test_only_compressed_ras_files_are_linked(tmp_path, array):
    for name, axes, serves in (("a.nii.gz", "RAS", True), ("b.nii.gz", "LAS", False), ("c.nii", "RAS", False)):
        path = save(array, tmp_path / name, axes)
        assert (linkable_header(path, read_nifti(path)) is not None) == serves


def test_file_whose_two_forms_disagree_is_read_as_nibabel_reads_it(tmp_path, array):
    image = nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0]))
    image.set_sform(np.diag([1.0, 1.0, 2.0, 1.0]), code=0)
    moved = np.diag([1.0, 1.0, 2.0, 1.0])
    moved[:3, 3] = 30
    image.set_qform(moved, code=1)
    nib.save(image, tmp_path / "image.nii.gz")
    np.testing.assert_allclose(read_nifti(tmp_path / "image.nii.gz").affine, moved)


def test_labels_with_a_scale_factor_are_read_as_ids(tmp_path):
    volume = Volume(np.array([[[0, 1]]], dtype=np.uint8), np.eye(4), slope=2.0)
    write_nifti(volume.array, image_header(volume), tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nii.gz").array, [[[0, 2]]])


def test_grids_are_compared_at_their_corners(array):
    volume = Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))
    for shift, same in ((0.05, True), (0.2, False)):
        affine = volume.affine.copy()
        affine[0, 3] = shift
        assert same_grid(volume, Volume(array, affine)) == same


def test_bounding_box():
    mask = np.zeros((4, 5, 6), dtype=bool)
    assert mask[bounding_box(mask)].size == 0
    mask[1, 2, 3] = mask[2, 2, 5] = True
    assert bounding_box(mask) == (slice(1, 3), slice(2, 3), slice(3, 6))
