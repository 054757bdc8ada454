"""References in preprocessed space are what nnU-Net makes of a completely annotated case, and are made once."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tilted_dataset import FULL, PARTLY, TiltedDataset, write_tilted_dataset

from nnunet_partial.pseudo_labels.geometry import CaseGeometry
from nnunet_partial.pseudo_labels.references import ReferenceMaps
from nnunet_partial.training.arrays import open_array


@pytest.fixture
def tilted(tmp_path, small_dataset) -> TiltedDataset:
    return write_tilted_dataset(tmp_path, small_plans(small_dataset))


def small_plans(small_dataset: Path) -> dict:
    file = small_dataset / "nnUNet_preprocessed" / "Dataset701_Small" / "nnUNetPlans.json"
    return json.loads(file.read_text(encoding="utf-8"))


def kept_file(dataset: TiltedDataset, case: str) -> Path:
    return dataset.preprocessed / f"{dataset.configuration_manager.data_identifier}_references" / f"{case}.b2nd"


def test_equals_what_nnunet_preprocesses(tilted):
    found = tilted.references.load(FULL)
    expected = open_array(tilted.human / f"{FULL}_seg.b2nd")[:]
    np.testing.assert_array_equal(found, expected)  # -1 outside included
    assert found.dtype == np.int16
    assert set(np.unique(found)) == {-1, 0, 1, 2, 3}


def test_a_partly_annotated_case_shows_all_its_organs(tilted):
    found = tilted.references.load(PARTLY)
    np.testing.assert_array_equal(found, tilted.references.load(FULL))  # the same scan
    human = open_array(tilted.human / f"{PARTLY}_seg.b2nd")[:]
    assert set(np.unique(human)) == {-1, 0, 1}


def test_equals_the_planned_dataset_in_2d_and_3d(small_dataset, tmp_path):
    raw, preprocessed = (small_dataset / folder / "Dataset701_Small" for folder in ("nnUNet_raw", "nnUNet_preprocessed"))
    shutil.copytree(raw, tmp_path / "raw")
    shutil.copytree(raw / "labelsTr", tmp_path / "raw" / "references")
    shutil.copytree(preprocessed, tmp_path / "preprocessed")
    plans = PlansManager(small_plans(small_dataset))
    for name in ("3d_fullres", "2d"):
        configuration = plans.get_configuration(name)
        references = ReferenceMaps(tmp_path / "raw", tmp_path / "preprocessed", plans, configuration)
        expected = open_array(preprocessed / configuration.data_identifier / "full_00_seg.b2nd")[:]
        np.testing.assert_array_equal(references.load("full_00"), expected)


def test_made_once_and_again_when_the_reference_is_newer(tilted):
    first = tilted.references.load(FULL)
    made = kept_file(tilted, FULL).stat().st_mtime_ns
    assert (tilted.references.load(FULL) == first).all()
    assert kept_file(tilted, FULL).stat().st_mtime_ns == made
    file = tilted.references.folder / f"{FULL}.nii.gz"
    image = SimpleITK.ReadImage(str(file))
    SimpleITK.WriteImage(image * 0, str(file))
    os.utime(file, ns=(made + 10**9, made + 10**9))
    assert tilted.references.load(FULL).max() == 0
    assert not list(kept_file(tilted, FULL).parent.glob(".*"))


def test_made_again_when_the_case_was_preprocessed_again(tilted):
    tilted.references.load(FULL)
    made = kept_file(tilted, FULL).stat().st_mtime_ns
    os.utime(tilted.human / f"{FULL}.pkl", ns=(made + 10**9, made + 10**9))
    tilted.references.load(FULL)
    assert kept_file(tilted, FULL).stat().st_mtime_ns > made


def test_available_and_known(tilted):
    assert tilted.references.available
    assert tilted.references.shows(PARTLY, "liver")  # nothing says otherwise
    (tilted.raw / "simulation.json").write_text(json.dumps({"dropped": {PARTLY: ["kidney_left"], FULL: []}}))
    assert tilted.references.shows(PARTLY, "kidney_left")
    assert not tilted.references.shows(PARTLY, "kidney_right")  # its source did not have it either
    shutil.rmtree(tilted.references.folder)
    assert not tilted.references.available
    tilted.references.folder.mkdir()
    assert not tilted.references.available


def test_a_reference_that_does_not_tell_two_classes_apart(tilted):
    protocols = {"side unknown": {"labels": {1: ["liver"], 2: ["kidney_left", "kidney_right"]}}}
    annotation = {"protocols": protocols, "cases": {PARTLY: {"protocol": "side unknown", "source": "kits"}}}
    dropped = {PARTLY: ["liver", "kidney_left", "kidney_right"]}
    (tilted.raw / "simulation.json").write_text(json.dumps({"dropped": dropped, "reference_annotation": annotation}))
    assert [name for name in dropped[PARTLY] if tilted.references.shows(PARTLY, name)] == ["liver"]


class TestRefusals:
    def test_no_reference(self, tilted):
        (tilted.references.folder / f"{FULL}.nii.gz").unlink()
        with pytest.raises(FileNotFoundError, match=rf"case '{FULL}' has no reference .*{FULL}\.nii\.gz; simulate"):
            tilted.references.load(FULL)

    def test_not_preprocessed(self, tilted):
        (tilted.human / f"{FULL}.pkl").unlink()
        with pytest.raises(FileNotFoundError, match=rf"{FULL}\.pkl does not exist; run `nnunet_partial plan`"):
            tilted.references.load(FULL)

    def test_no_image(self, tilted):
        (tilted.raw / "imagesTr" / f"{FULL}_0000.nii.gz").unlink()
        with pytest.raises(FileNotFoundError, match=f"case '{FULL}' has a reference but no image in .*imagesTr"):
            tilted.references.load(FULL)

    def test_another_shape(self, tilted):
        file = tilted.references.folder / f"{FULL}.nii.gz"
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(file))[:, :, 1:], str(file))
        with pytest.raises(ValueError, match=rf"has shape \(21, 48, 40\), the image of case '{FULL}' has \(22, 48, 40\)"):
            tilted.references.load(FULL)

    def test_an_image_that_changed(self, tilted):
        file = tilted.raw / "imagesTr" / f"{FULL}_0000.nii.gz"
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(file)) + 1, str(file))  # no voxel is 0 any longer
        with pytest.raises(ValueError, match=f"case '{FULL}' was cropped to .* preprocess the dataset again"):
            tilted.references.load(FULL)

    def test_an_array_of_other_plans(self, tilted):
        geometry = CaseGeometry.read(tilted.human / f"{FULL}.pkl", tilted.plans_manager, tilted.configuration_manager)
        with pytest.raises(
            ValueError, match=r"an array has shape \(4, 4, 4\), the case is preprocessed to .* make the round again"
        ):
            geometry.labels_to_raw(np.zeros((1, 4, 4, 4), np.int16))
