"""Every layout can be read back, and its labels are the truth of the organs its source annotates, in physical space."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import yaml

from nnunet_partial.demo import layouts
from nnunet_partial.demo.phantom import ORGANS, make_phantom


@pytest.fixture(scope="module")
def phantoms():
    return [make_phantom(seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def sources(phantoms, tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    for write in layouts.WRITERS.values():
        for n, phantom in enumerate(phantoms):
            write(phantom, root, n)
    return root


def in_phantom_axes(path, phantom):
    """The array of a NIfTI file, turned to the phantom's axes by its affine."""
    image = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_allclose(image.affine, phantom.affine, atol=1e-3)
    return np.asarray(image.dataobj)


@pytest.mark.parametrize(
    ("image", "label", "ids", "axes"),
    [
        ("btcv/RawData/Training/img/img0002.nii.gz", "btcv/RawData/Training/label/label0002.nii.gz", layouts.BTCV_IDS, "LAS"),
        ("lits/Training Batch 1/volume-10.nii", "lits/Training Batch 1/segmentation-10.nii", {"liver": 1}, "LPS"),
        ("Task09_Spleen/imagesTr/spleen_10.nii.gz", "Task09_Spleen/labelsTr/spleen_10.nii.gz", {"spleen": 1}, "RAS"),
        (
            "kits19/data/case_00001/imaging.nii.gz",
            "kits19/data/case_00001/segmentation.nii.gz",
            {"kidney_left": 1, "kidney_right": 1},
            "IPL",
        ),
    ],
)
def test_nifti_layouts_agree_with_the_truth(sources, phantoms, image, label, ids, axes):
    assert "".join(nib.aff2axcodes(nib.load(sources / image).affine)) == axes
    np.testing.assert_array_equal(in_phantom_axes(sources / image, phantoms[1]), phantoms[1].image)
    np.testing.assert_array_equal(in_phantom_axes(sources / label, phantoms[1]), layouts.label_map(phantoms[1], ids))


def test_dicom_series_and_flipped_label_agree_with_the_truth(sources, phantoms):
    phantom = phantoms[0]
    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(sources / "tcia/Pancreas-CT/PANCREAS_0001/study/series"))
    reader.SetFileNames(names)
    series = reader.Execute()
    assert len(names) == phantom.image.shape[2]
    np.testing.assert_allclose(series.GetSpacing(), phantom.spacing_mm, atol=1e-3)
    array = sitk.GetArrayFromImage(series).transpose(2, 1, 0)  # (left, posterior, superior)
    np.testing.assert_array_equal(array[::-1, ::-1], phantom.image)
    corner = series.TransformIndexToPhysicalPoint((0, 0, 0))
    np.testing.assert_allclose(corner, [-v for v in phantom.affine[:2, 3] * -1] + [phantom.affine[2, 3]], atol=1e-3)

    label = np.asarray(nib.load(sources / "tcia/TCIA_pancreas_labels-02-05-2017/label0001.nii.gz").dataobj)
    np.testing.assert_array_equal(label[:, ::-1][::-1, ::-1], layouts.label_map(phantom, {"pancreas": 1}))
    assert (label[::-1, ::-1] != layouts.label_map(phantom, {"pancreas": 1})).any(), "the header does not say the flip"


def test_peculiarities_of_the_public_sets(sources):
    assert (sources / "Task09_Spleen/imagesTr/._spleen_2.nii.gz").read_bytes().startswith(b"\x00\x05\x16\x07")
    listed = json.loads((sources / "Task09_Spleen/dataset.json").read_text(encoding="utf-8"))
    assert listed["labels"] == {"0": "background", "1": "spleen"}
    assert listed["numTraining"] == len(listed["training"]) == 2
    types = {n: nib.load(sources / f"kits19/data/case_{n:05d}/segmentation.nii.gz").get_data_dtype() for n in (0, 1)}
    assert types == {0: np.uint8, 1: np.uint16}


def test_held_out_case_has_the_whole_truth(tmp_path, phantoms):
    layouts.write_held_out(phantoms[0], tmp_path, 3, "RAS")
    truth = in_phantom_axes(tmp_path / "labelsTs/phantom_03.nii.gz", phantoms[0])
    for number, organ in enumerate(ORGANS, 1):
        np.testing.assert_array_equal(truth == number, phantoms[0].mask(organ))
    assert (tmp_path / "imagesTs/phantom_03_0000.nii.gz").exists()


def test_pool_file_names_the_classes_and_five_sources():
    pool = yaml.safe_load(layouts.pool_text(500, "Abdomen"))
    assert pool["dataset"] == {"id": 500, "name": "Abdomen"}
    assert tuple(pool["classes"]) == ORGANS
    assert [source["source"] for source in pool["sources"]] == list(layouts.WRITERS)
