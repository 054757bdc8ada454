"""Own data by a source file: what it says is what comes out."""

import pickle
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hospital import LABEL_MAPS, MASKS, POOL, convert, write_hospital
from native_sources import SHAPE, abdomen, drawn, save, voxels, write_lits, write_pool, write_series

from nnunet_partial.cli import main
from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool, describe_pool
from nnunet_partial.dataset_conversion.journal import reader_name
from nnunet_partial.dataset_conversion.own_data.example import EXAMPLE
from nnunet_partial.dataset_conversion.own_data.own_source import own_source
from nnunet_partial.dataset_conversion.sources.totalsegmentator import SOURCE_LABELS
from nnunet_partial.labels import read_manifest


def test_label_maps_with_a_union(tmp_path):
    folder = convert(write_hospital(tmp_path / "data"), num_processes=2)
    manifest = read_manifest(folder / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["hospital_p2", "hospital_p10"]
    assert manifest.protocols["hospital"].labels == {1: ("liver",), 2: ("kidney_left", "kidney_right")}
    assert (manifest.sources[0].source, manifest.sources[0].path) == ("data/hospital.yaml", "data")
    assert manifest.sources[0].licence == "not stated, as stated by hospital.yaml"
    np.testing.assert_array_equal(voxels(folder / "imagesTr/hospital_p10_0000.nii.gz"), abdomen(1))
    expected = drawn({"liver": 1, "kidney_left": 2, "kidney_right": 2})
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p10.nii.gz"), expected)


def test_masks_named_in_another_language(tmp_path):
    root = write_hospital(tmp_path / "data", text=MASKS)
    (root / "p10/masks/spleen.nii.gz").unlink()
    folder = convert(root, num_processes=2)
    manifest = read_manifest(folder / "label_manifest.json")
    annotated = {case.identifier: manifest.protocols[case.protocol].annotated_classes for case in manifest.cases}
    assert annotated == {"Munich_p2": {"liver", "spleen"}, "Munich_p10": {"liver"}}
    np.testing.assert_array_equal(voxels(folder / "labelsTr/Munich_p2.nii.gz"), drawn({"liver": 1, "spleen": 2}))


def test_missing_masks_can_say_absent(tmp_path):
    root = write_hospital(tmp_path / "data", text=MASKS + "missing_mask: absent\n")
    (root / "p10/masks/spleen.nii.gz").unlink()
    cases = read_manifest(convert(root) / "label_manifest.json").cases
    assert {case.identifier: case.absent for case in cases} == {"Munich_p2": (), "Munich_p10": ("spleen",)}


def test_tumors_are_painted_over_their_organ_whatever_comes_first(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("p1",))
    lesion = np.zeros(SHAPE, dtype=np.uint8)
    lesion[16:18, 10:12, 9:11] = 1
    save(lesion, root / "p1/masks/lesion.nii.gz", "LPS")
    (root / "hospital.yaml").write_text("""
images: "{case}/ct.nii.gz"
masks: {lesion: "{case}/masks/lesion.nii.gz", liver: "{case}/masks/liver.nii.gz"}
labels: {lesion: {class: liver_tumor, inside: liver}}
""")
    folder = convert(root, classes=["liver", "liver_tumor"], tumor="separate")
    labels = voxels(folder / "labelsTr/hospital_p1.nii.gz")
    np.testing.assert_array_equal(labels == 2, lesion == 1)
    np.testing.assert_array_equal(labels > 0, drawn({"liver": 1}) == 1)
    assert read_manifest(folder / "label_manifest.json").cases[0].notes == ()


def test_only_some_labels_were_looked_for(tmp_path):
    folder = convert(write_hospital(tmp_path / "data", text=LABEL_MAPS + "annotated: [1]\n"))
    manifest = read_manifest(folder / "label_manifest.json")
    assert manifest.protocols[manifest.cases[0].protocol].labels == {1: ("liver",)}


def test_dicom_folders_nrrd_and_names_with_blanks(tmp_path):
    root = tmp_path / "data"
    write_series(abdomen(5), root / "scans/case 7/dicom", 1)
    path = save(drawn({"liver": 1}), root / "drawn/case 7 reader 1.nii.gz", "LPS")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
    (root / "hospital.yaml").write_text("""
images: "scans/{case}/dicom"
label_maps: "drawn/{case} reader *.nrrd"
labels: {1: liver}
label_grid: arrays
""")
    folder = convert(root, classes=["liver"])
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_case_7.nii.gz"), drawn({"liver": 1}))
    np.testing.assert_array_equal(voxels(folder / "imagesTr/hospital_case_7_0000.nii.gz"), abdomen(5))


def test_it_pools_with_public_sources_and_lies_elsewhere_if_the_pool_says_so(tmp_path, monkeypatch):
    write_hospital(tmp_path / "archive")
    (tmp_path / "archive/hospital.yaml").rename(tmp_path / "ours.yml")
    write_lits(tmp_path / "lits")
    monkeypatch.setenv("TEST_ARCHIVE", str(tmp_path / "archive"))
    sources = [{"source": "ours.yml", "path": "$TEST_ARCHIVE", "name": "ours"}, {"source": "lits", "path": "lits"}]
    said = describe_pool(write_pool(tmp_path / "pool.yaml", sources, classes=POOL[:1] + POOL[2:]), tmp_path / "raw")
    assert "ours: 2 cases" in said
    assert "lits: 2 cases" in said


def test_short_form_and_example(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "--example-source"])
    assert stopped.value.code == 0
    example = capsys.readouterr().out
    assert example == EXAMPLE
    root = write_hospital(tmp_path / "data", text=example)
    assert main(["convert", str(root / "hospital.yaml"), "-d", "504", "-np", "1"]) == 0
    manifest = read_manifest(tmp_path / "raw/Dataset504_Hospital/label_manifest.json")
    assert manifest.classes == ("liver", "kidney_left", "kidney_right")
    assert main(["convert", str(root / "hospital.yaml")]) == 1
    assert "this is a source file; name it in a pool" in capsys.readouterr().err


def test_readers_travel_and_their_parameters_name_them(tmp_path):
    root = write_hospital(tmp_path / "data", text=MASKS)
    reader = own_source(root / "hospital.yaml", root).read_labels
    assert pickle.loads(pickle.dumps(reader)) == reader
    (root / "hospital.yaml").write_text(MASKS.replace("/spleen.nii", "/milz.nii"))
    other = own_source(root / "hospital.yaml", root).read_labels
    assert reader_name(reader) == reader_name(pickle.loads(pickle.dumps(reader))) != reader_name(other)
    assert reader_name(convert_pool) == "nnunet_partial.dataset_conversion.convert.convert_pool"


def test_changed_file_converts_again(tmp_path):
    root = write_hospital(tmp_path / "data")
    folder = convert(root, classes=POOL[:1] + POOL[2:])
    (root / "hospital.yaml").write_text(LABEL_MAPS.replace("1: liver, 2:", "2: liver, 1:"))
    convert(root, classes=POOL[:1] + POOL[2:])
    expected = drawn({"liver": 2, "kidney_left": 1, "kidney_right": 1})
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p2.nii.gz"), expected)


def test_images_without_any_label_are_unlabelled(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("p1", "p2"), text=MASKS + "missing_mask: absent\n")
    for path in (root / "p2/masks").iterdir():
        path.unlink()
    manifest = read_manifest(convert(root) / "label_manifest.json")
    assert [(skip.item, skip.reason) for skip in manifest.skipped] == [("p2/ct.nii.gz", "no label belongs to it")]


def test_series_and_label_side_by_side_in_the_folder_of_the_case(tmp_path):
    root = tmp_path / "data"
    write_series(abdomen(5), root / "p1", 1)
    save(drawn({"liver": 1}), root / "p1/labels.nii.gz", "LPS")
    (root / "hospital.yaml").write_text(LABEL_MAPS.replace("{case}/ct.nii.gz", "{case}") + "label_grid: arrays\n")
    manifest = read_manifest(convert(root) / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["hospital_p1"]
    assert [skip.item for skip in manifest.skipped] == ["hospital.yaml"]
    assert manifest.skipped[0].reason == "no image: neither a folder nor a file in .nii.gz, .nii, .nrrd, .mha"


def test_real_series_with_a_label_map_of_other_axes(real_data, tmp_path):
    """A JPEG 2000 series without file endings (LPS), and TotalSegmentator's map of it in NIfTI (LAS)."""
    source = real_data / "totalsegmentator"
    shutil.copytree(source / "example_ct_dicom", tmp_path / "data/p1/dicom")
    shutil.copy(source / "example_seg_dicom.nii.gz", tmp_path / "data/p1/labels.nii.gz")
    lines = [f"  {number}: {label.classes[0]}" for number, label in SOURCE_LABELS.items()]
    text = ['images: "{case}/dicom"', 'label_maps: "{case}/labels.nii.gz"', "labels:", *lines]
    (tmp_path / "data/hospital.yaml").write_text("\n".join(text))
    classes = [label.classes[0] for label in SOURCE_LABELS.values()]
    folder = convert(tmp_path / "data", classes=classes)
    (case,) = read_manifest(folder / "label_manifest.json").cases
    labels = nib.load(folder / "labelsTr/hospital_p1.nii.gz")
    original = nib.as_closest_canonical(nib.load(source / "example_seg_dicom.nii.gz"))
    np.testing.assert_array_equal(np.asarray(labels.dataobj), np.asarray(original.dataobj))
    np.testing.assert_allclose(labels.affine, original.affine, atol=1e-3)
    hu = voxels(folder / "imagesTr/hospital_p1_0000.nii.gz")
    assert np.median(hu[np.asarray(labels.dataobj) == classes.index("vertebrae_t12") + 1]) > 100
    assert case.notes == ()


def test_groups_of_cases_that_were_annotated_in_different_ways(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("a1", "b1"))
    for group, annotated in (("a", "[1, 2]"), ("b", "[1]")):
        text = LABEL_MAPS.replace("{case}/ct", f"{group}{{case}}/ct").replace("{case}/labels", f"{group}{{case}}/labels")
        (root / f"{group}.yaml").write_text(text + f"annotated: {annotated}\n")
    pool = write_pool(root / "pool.yaml", [{"source": "a.yaml"}, {"source": "b.yaml"}], classes=POOL[:1] + POOL[2:])
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    manifest = read_manifest(folder / "label_manifest.json")
    np.testing.assert_array_equal(voxels(folder / "labelsTr/b_1.nii.gz"), drawn({"liver": 1}))  # a kidney of no side says nothing
    assert {case.identifier: len(manifest.protocols[case.protocol].labels) for case in manifest.cases} == {"a_1": 2, "b_1": 1}
