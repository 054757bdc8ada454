"""Reading label maps: axes, geometry, what ITK refuses, what is no label map."""

import nibabel
import numpy as np
import pytest

from nnunet_partial.evaluation import geometry_faults, read_label_map

QUARTER_TURN = (0, 1, 0, -1, 0, 0, 0, 0, 1)


def test_axes_are_nnunets(tmp_path, write):
    write(tmp_path / "case.nii.gz", range(24), shape=(2, 3, 4), spacing_mm=(0.5, 0.75, 3))
    label_map = read_label_map(tmp_path / "case.nii.gz")
    assert np.array_equal(label_map.labels, np.arange(24).reshape(2, 3, 4))
    assert label_map.spacing_mm == pytest.approx([0.5, 0.75, 3])
    assert np.allclose(label_map.direction, np.eye(3))


def test_what_itk_refuses_nibabel_reads(tmp_path):
    sheared = np.array([[1, 0.3, 0, 5], [0, 1, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    labels = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    nibabel.save(nibabel.Nifti1Image(labels, sheared), tmp_path / "sheared.nii.gz")
    label_map = read_label_map(tmp_path / "sheared.nii.gz")
    assert np.array_equal(label_map.labels, labels.T)
    assert label_map.spacing_mm == pytest.approx([1, np.hypot(0.3, 1), 3])


def test_both_readers_agree(tmp_path, write):
    from nnunet_partial.evaluation.label_maps import _read_with_nibabel

    path = tmp_path / "turned.nii.gz"
    write(path, range(24), shape=(2, 3, 4), spacing_mm=(0.5, 0.75, 3), direction=QUARTER_TURN)
    assert geometry_faults(read_label_map(path), _read_with_nibabel(path, refusal="")) == []
    assert np.array_equal(read_label_map(path).labels, _read_with_nibabel(path, refusal="").labels)


def test_geometry(tmp_path, write):
    write(tmp_path / "a.nii.gz", [0] * 8)
    write(tmp_path / "b.nii.gz", [0] * 8, spacing_mm=(1.0001, 1, 3))
    write(tmp_path / "c.nii.gz", [0] * 8, direction=QUARTER_TURN)
    a, b, c = (read_label_map(tmp_path / f"{name}.nii.gz") for name in "abc")
    assert geometry_faults(a, b) == []
    assert geometry_faults(a, c) == [
        "reference has direction (1, 0, 0, 0, 1, 0, 0, 0, 1), prediction (0, 1, 0, -1, 0, 0, 0, 0, 1)"
    ]


def test_whole_floats_are_labels_fractions_are_not(tmp_path, write):
    write(tmp_path / "whole.nii.gz", [0, 1, 2, 3] * 2, dtype=np.float32)
    assert read_label_map(tmp_path / "whole.nii.gz").labels.dtype.kind == "i"
    write(tmp_path / "half.nii.gz", [0.5] * 8, dtype=np.float32)
    with pytest.raises(ValueError, match=r"half\.nii\.gz holds fractions"):
        read_label_map(tmp_path / "half.nii.gz")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"not a NIfTI")
    with pytest.raises(ValueError, match=r"broken\.nii\.gz cannot be read: ITK says"):
        read_label_map(tmp_path / "broken.nii.gz")
    (tmp_path / "broken.nrrd").write_bytes(b"not a NRRD")
    with pytest.raises(ValueError, match=r"broken\.nrrd cannot be read"):
        read_label_map(tmp_path / "broken.nrrd")
