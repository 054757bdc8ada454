"""Any dataset of nnU-Net as a source; what our own conversion knew about its cases stays known."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from native_sources import CLASSES, ORGANS, SHAPE, abdomen, drawn, save, voxels, write_btcv, write_kits19, write_lits, write_pool

from nnunet_partial.dataset_conversion import SOURCES, ConversionError, ConvertOptions, convert_pool, single_source_pool
from nnunet_partial.labels import read_manifest

LABELS = {"background": 0, "Liver": 1, "Left Kidney": 2}


def write_raw(root: Path, ending: str = ".nii.gz", labels=None, axes: str = "LAS", **entries) -> Path:
    """Two cases with a liver and a left kidney."""
    for number in (2, 10):
        image = save(abdomen(number), root / f"imagesTr/case_{number}_0000.nii.gz", axes)
        drawn_on = save(drawn({"liver": 1, "kidney_left": 2}), root / f"labelsTr/case_{number}.nii.gz", axes)
        for path in (image, drawn_on) if ending != ".nii.gz" else ():
            SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path).replace(".nii.gz", ending))
            path.unlink()
    content = {"channel_names": {"0": "CT"}, "labels": labels or LABELS, "numTraining": 2, "file_ending": ending, **entries}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def convert(pool, raw: Path) -> Path:
    return convert_pool(pool, raw, ConvertOptions(progress=False))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_every_format_lies_where_it_lay(tmp_path, ending):
    root = write_raw(tmp_path / "Dataset017_Two", ending, licence="CC0")
    folder = convert(single_source_pool("nnunet_raw", str(root), 501), tmp_path / "raw")
    assert folder.name == "Dataset501_Two"
    manifest = read_manifest(folder / "label_manifest.json")
    assert manifest.classes == ("liver", "kidney_left")
    assert manifest.sources[0].licence == "CC0, as stated by its dataset.json"
    assert [case.identifier for case in manifest.cases] == ["nnunet_raw_case_2", "nnunet_raw_case_10"]
    for number in (2, 10):
        np.testing.assert_array_equal(voxels(folder / f"imagesTr/nnunet_raw_case_{number}_0000.nii.gz"), abdomen(number))
        labels = voxels(folder / f"labelsTr/nnunet_raw_case_{number}.nii.gz")
        np.testing.assert_array_equal(labels, drawn({"liver": 1, "kidney_left": 2}))


def test_a_tumor_beside_its_organ_lies_inside_it(tmp_path):
    root = write_raw(tmp_path / "D", labels={"background": 0, "liver": 1, "liver_tumor": 2})
    merged = convert(single_source_pool("nnunet_raw", str(root), 501), tmp_path / "raw")
    assert set(np.unique(voxels(merged / "labelsTr/nnunet_raw_case_2.nii.gz"))) == {0, 1}
    separate = convert(single_source_pool("nnunet_raw", str(root), 502, tumor="separate"), tmp_path / "raw")
    assert read_manifest(separate / "label_manifest.json").classes == ("liver", "liver_tumor")


def test_protocols_and_unions_of_a_converted_dataset_stay(tmp_path):
    """A case with all organs, one with kidneys without a side, one nobody annotated: pooled, and pooled again."""
    write_btcv(tmp_path / "btcv", numbers=(1,))
    save(abdomen(300), tmp_path / "kits/data/case_00000/imaging.nii.gz", "IPL")
    save(drawn({"kidney_left": 1, "kidney_right": 1}), tmp_path / "kits/data/case_00000/segmentation.nii.gz", "IPL")
    save(abdomen(301), tmp_path / "kits/data/case_00210/imaging.nii.gz", "IPL")
    sources = [
        {"source": "btcv", "path": "btcv"},
        {"source": "kits19", "path": "kits", "sides": "union", "unlabelled": "keep"},
    ]
    first = convert(write_pool(tmp_path / "first.yaml", sources), tmp_path / "raw")
    classes = ["kidney_right", "kidney_left", "liver"]  # other ids than in the first dataset
    again = [{"source": "nnunet_raw", "path": str(first), "name": "first", "unlabelled": "keep"}]
    folder = convert(write_pool(tmp_path / "again.yaml", again, classes=classes, number=501), tmp_path / "raw")
    manifest = read_manifest(folder / "label_manifest.json")
    protocols = {case.identifier: manifest.protocols[case.protocol].labels for case in manifest.cases}
    assert protocols == {
        "first_btcv_0001": {1: ("kidney_right",), 2: ("kidney_left",), 3: ("liver",)},
        "first_kits19_00000": {2: ("kidney_left", "kidney_right")},
        "first_kits19_00210": {},
    }
    expected = np.zeros(SHAPE, dtype=np.uint8)
    expected[ORGANS["kidney_left"]] = expected[ORGANS["kidney_right"]] = 2
    np.testing.assert_array_equal(voxels(folder / "labelsTr/first_kits19_00000.nii.gz"), expected)
    np.testing.assert_array_equal(
        voxels(folder / "labelsTr/first_btcv_0001.nii.gz"), drawn({"kidney_right": 1, "kidney_left": 2, "liver": 3})
    )
    skipped = [{"source": "nnunet_raw", "path": str(first), "name": "first"}]
    folder = convert(write_pool(tmp_path / "livers.yaml", skipped, classes=["liver"], number=502), tmp_path / "raw")
    manifest = read_manifest(folder / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["first_btcv_0001"]
    assert {skip.item: skip.reason for skip in manifest.skipped} == {
        "kits19_00000": "none of the pool's classes was looked for",
        "imagesTr/kits19_00210_0000.nii.gz": "no label belongs to it",
    }


@pytest.mark.parametrize(("classes", "labels"), [(["liver"], ("liver",)), (["liver", "liver_tumor"], ("liver", "liver_tumor"))])
def test_organ_whose_tumors_nobody_told_apart_fits_pools_with_and_without_tumors(tmp_path, classes, labels):
    write_lits(tmp_path / "lits", numbers=(2,))
    sources = [{"source": "lits", "path": "lits", "tumor": "union"}]
    first = convert(write_pool(tmp_path / "first.yaml", sources, classes=["liver", "liver_tumor"]), tmp_path / "raw")
    again = [{"source": "nnunet_raw", "path": str(first), **({"tumor": "separate"} if len(classes) > 1 else {})}]
    folder = convert(write_pool(tmp_path / "again.yaml", again, classes=classes, number=501), tmp_path / "raw")
    manifest = read_manifest(folder / "label_manifest.json")
    assert manifest.protocols[manifest.cases[0].protocol].labels == {1: labels}


def test_union_that_does_not_fit_the_pool_is_refused(tmp_path):
    write_kits19(tmp_path / "kits", numbers=(0,))
    sources = [{"source": "kits19", "path": "kits", "sides": "union"}]
    first = convert(write_pool(tmp_path / "first.yaml", sources, classes=CLASSES[3:]), tmp_path / "raw")
    again = [{"source": "nnunet_raw", "path": str(first)}]
    with pytest.raises(
        ConversionError, match="case 'kits19_00000': label 1 stands for kidney_left or kidney_right: class 'kidney_r"
    ):
        convert(write_pool(tmp_path / "again.yaml", again, classes=["kidney_left"], number=501), tmp_path / "raw")


def test_unlisted_cases_and_loose_files(tmp_path):
    block = {"protocols": {"all": {"labels": {"1": ["liver"]}}}, "cases": {"case_2": {"protocol": "all", "source": "x"}}}
    root = write_raw(tmp_path / "D", labels={"background": 0, "liver": 1, "kidney_left": 2}, annotation=block)
    save(abdomen(), root / "imagesTr/case_3_0000.nii.gz")
    save(drawn({"liver": 1}), root / "labelsTr/case_4.nii.gz")
    listing = SOURCES["nnunet_raw"].list_cases(root)
    assert [case.name for case in listing.cases] == ["case_2"]
    assert listing.faults == ["case 'case_10' is not in dataset.json['annotation']: what was looked for in it?"]
    assert [case.name for case in listing.unlabelled] == ["case_3"]
    assert listing.skipped == [("labelsTr/case_4.nii.gz", "no image belongs to it")]
    with pytest.raises(ConversionError, match=r"case 'case_10' is not in dataset.json"):
        convert(single_source_pool("nnunet_raw", str(root), 501), tmp_path / "raw")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, r"has 2 channels \(T1, T2\); only one is supported"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "labels whole are regions"),
        ({"labels": {"background": 0, "liver": 1, "ignore": 2}}, r"label 'ignore' \(2\) cannot be kept"),
        ({"file_ending": ".png"}, "files end in '.png'; only .nii.gz"),
        ({"dataset": {}}, "the entry 'dataset' lists files one by one"),
        ({"annotation": {"protocols": {}, "cases": {"a": {"protocol": "b", "source": "c"}}}}, "protocol 'b' does not exist"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path, entries, message):
    root = tmp_path / "D"
    root.mkdir()
    labels = {"background": 0, "liver": 1}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", **entries}
    (root / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ConversionError, match=message):
        single_source_pool("nnunet_raw", str(root), 501)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "must be one dataset's folder"), ("{", "not a JSON file"), ('{"labels": {}}', r"needs channel_names.*source msd")],
)
def test_folders_that_are_no_dataset(tmp_path, text, message):
    if text:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ConversionError, match=message):
        SOURCES["nnunet_raw"].list_cases(tmp_path)
