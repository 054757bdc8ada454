"""Each source finds the files that belong together, and says what it leaves out."""

import json

import pytest
from native_sources import write_btcv, write_kits19, write_lits, write_msd, write_tcia

from nnunet_partial.dataset_conversion import SOURCES, ConversionError
from nnunet_partial.dataset_conversion.listing import SourceLabel


def names(source: str, root) -> list[str]:
    return [case.name for case in SOURCES[source].list_cases(root).cases]


def test_lits_pairs_by_number_not_by_order(tmp_path):
    write_lits(tmp_path, numbers=(2, 10, 101, 9))
    (tmp_path / "Training Batch 1/volume-3.nii").touch()
    (tmp_path / "Training Batch 2/segmentation-30.nii").touch()
    (tmp_path / "Training Batch 1/test-volume-2.nii").touch()
    listing = SOURCES["lits"].list_cases(tmp_path)
    assert [(case.image.name, case.label_files[0].name) for case in listing.cases] == [
        (f"volume-{i}.nii", f"segmentation-{i}.nii") for i in (2, 9, 10, 101)
    ]
    assert [case.name for case in listing.unlabelled] == ["test_2", "3"]
    assert listing.skipped == [("Training Batch 2/segmentation-30.nii", "no image belongs to it")]


def test_btcv_reads_13_organs(tmp_path):
    write_btcv(tmp_path, numbers=(21, 3))
    assert names("btcv", tmp_path) == ["0003", "0021"]
    table = SOURCES["btcv"].labels(tmp_path)
    assert table[2] == SourceLabel(("kidney_right",))
    assert table[13] == SourceLabel(("adrenal_gland_left",))


@pytest.mark.parametrize("folder", ["", "data"])
def test_kits19_takes_the_repository_or_its_data(tmp_path, folder):
    write_kits19(tmp_path, numbers=(10, 2))
    (tmp_path / "data/case_00250").mkdir()
    (tmp_path / "data/case_00251").mkdir()
    (tmp_path / "data/case_00251/imaging.nii.gz").touch()
    listing = SOURCES["kits19"].list_cases(tmp_path / folder)
    assert [case.name for case in listing.cases] == ["00002", "00010"]
    assert [reason for _, reason in listing.skipped] == ["holds neither imaging.nii.gz nor segmentation.nii.gz"]
    assert [case.name for case in listing.unlabelled] == ["00251"]


def test_tcia_skips_empty_patients_and_labels_of_withdrawn_ones(tmp_path):
    write_tcia(tmp_path, numbers=(1, 24))
    (tmp_path / "TCIA_pancreas_labels-02-05-2017/label0025.nii.gz").touch()
    (tmp_path / "TCIA_pancreas_labels-02-05-2017/label0070.nii.gz").touch()
    listing = SOURCES["tcia_pancreas"].list_cases(tmp_path)
    assert [case.name for case in listing.cases] == ["0001", "0024"]
    assert listing.skipped == [
        ("Pancreas-CT/PANCREAS_0025", "the folder holds no DICOM files"),
        ("TCIA_pancreas_labels-02-05-2017/label0070.nii.gz", "no image belongs to it"),
    ]


def test_msd_ignores_apple_double_and_sorts_by_number(tmp_path):
    root = write_msd(tmp_path / "Task09_Spleen", numbers=(10, 2))
    (root / "labelsTr/_spleen_3.nii.gz").touch()
    assert names("msd", root) == ["spleen_2", "spleen_10"]


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("Task03_Liver", ["liver", "cancer"], [SourceLabel(("liver",)), SourceLabel(("liver",), "liver_tumor")]),
        ("Task07_Pancreas", ["pancreas", "cancer"], [SourceLabel(("pancreas",)), SourceLabel(("pancreas",), "pancreas_tumor")]),
        ("Task08_HepaticVessel", ["Vessel", "Tumour"], [SourceLabel(("hepatic_vessel",)), SourceLabel(("liver_tumor",))]),
        ("Task10_Colon", ["colon cancer primaries"], [SourceLabel(("colon_tumor",))]),
        ("Task04_Hippocampus", ["Anterior"], [SourceLabel(("hippocampus_anterior",))]),
        ("Task09_Spleen", ["spleen"], [SourceLabel(("spleen",))]),
        ("Task11_Mine", ["Left Thing"], [SourceLabel(("left_thing",))]),
    ],
)
def test_msd_labels_become_canonical_names(tmp_path, task, labels, expected):
    root = tmp_path / task
    root.mkdir()
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", **{str(n): name for n, name in enumerate(labels, 1)}}}
    (root / "dataset.json").write_text(json.dumps(content))
    assert list(SOURCES["msd"].labels(root).values()) == expected


def test_msd_refuses_several_channels_and_folders_without_a_task(tmp_path):
    with pytest.raises(ConversionError, match="must be one task's folder"):
        SOURCES["msd"].labels(tmp_path / "nowhere")
    (tmp_path / "dataset.json").write_text('{"modality": {"0": "FLAIR", "1": "T1w"}, "labels": {"0": "background"}}')
    with pytest.raises(ConversionError, match=r"2 channels \(FLAIR, T1w\); only one is supported"):
        SOURCES["msd"].labels(tmp_path)


def test_msd_tests_are_images_that_nobody_labelled(tmp_path):
    root = write_msd(tmp_path / "Task09_Spleen", numbers=(2,))
    (root / "imagesTs").mkdir()
    for name in ("spleen_11", "spleen_7", "._spleen_7"):
        (root / f"imagesTs/{name}.nii.gz").touch()
    listing = SOURCES["msd"].list_cases(root)
    assert [case.name for case in listing.cases] == ["spleen_2"]
    assert [case.name for case in listing.unlabelled] == ["spleen_7", "spleen_11"]


def test_the_260_cases_of_the_hippocampus_are_listed(real_data):
    root = real_data / "Task04_Hippocampus"
    listing = SOURCES["msd"].list_cases(root)
    assert (len(listing.cases), listing.unlabelled, listing.skipped, listing.faults) == (260, [], [], [])
    assert [case.name for case in listing.cases] == sorted(case.name for case in listing.cases)
    assert SOURCES["msd"].channel_names(root) == {"0": "MRI"}


def test_sources_are_named_by_their_keys():
    assert all(source.key == key for key, source in SOURCES.items())
