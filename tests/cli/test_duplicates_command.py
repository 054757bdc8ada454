"""`nnunet_partial duplicates` on the command line: two real scans, one of them there twice."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_partial.labels import Annotation, read_manifest

NAME = "Dataset500_Abdomen"
MANIFEST = {
    "dataset": {"id": 500, "name": "Abdomen"},
    "classes": ["liver", "spleen"],
    "protocols": {"liver": {"labels": {1: ["liver"]}}, "spleen": {"labels": {2: ["spleen"]}}},
    "sources": [
        {"name": name, "source": name, "path": path, "licence": "none"}
        for name, path in (("lits", "LiTS"), ("msd", "Task03_Liver"))
    ],
    "cases": [
        {"identifier": key, "source": source, "protocol": protocol, "image_files": ["a"], "label_files": ["b"]}
        for key, source, protocol in (("lits_1", "lits", "liver"), ("lits_2", "lits", "liver"), ("msd_1", "msd", "spleen"))
    ],
}
IMAGES = {"lits_1": 1, "lits_2": 2, "msd_1": 1}
DRAWN = {"lits_1": (6, 1), "lits_2": (6, 1), "msd_1": (1, 2)}


@pytest.fixture
def raw(folders, template) -> Path:
    """The dataset in nnUNet_raw."""
    return shutil.copytree(template, folders["nnUNet_raw"] / NAME)


@pytest.fixture(scope="module")
def template(real_data, tmp_path_factory) -> Path:
    """The dataset, made once."""
    folder = tmp_path_factory.mktemp("template") / NAME
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for key, number in IMAGES.items():
        image = nib.as_closest_canonical(nib.load(real_data / f"btcv/img/img{number:04d}.nii.gz"))
        nib.save(image, folder / f"imagesTr/{key}_0000.nii.gz")
        labels = np.asarray(nib.as_closest_canonical(nib.load(real_data / f"btcv/label/label{number:04d}.nii.gz")).dataobj)
        organ, ours = DRAWN[key]
        nib.save(
            nib.Nifti1Image((labels == organ).astype(np.uint8) * np.uint8(ours), image.affine), folder / f"labelsTr/{key}.nii.gz"
        )
    (folder / "label_manifest.json").write_text(json.dumps(MANIFEST))
    annotation = read_manifest(folder / "label_manifest.json").annotation()
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "annotation": annotation.as_json(),
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def scans(folder: Path) -> dict[str, str]:
    annotation = Annotation.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8")))
    return {key: case.scan for key, case in annotation.cases.items()}


def test_found_recorded_and_named(cli, raw, tmp_path):
    status, out, _ = cli("duplicates", "-d", 500, "-np", 1, "--csv", tmp_path / "pairs.csv", "--json", tmp_path / "pairs.json")
    assert status == 0
    assert "LiTS and Decathlon Task03 are the same scans" in out
    assert "next: nnunet_partial plan" in out
    assert scans(raw) == {"lits_1": "lits_1", "lits_2": "", "msd_1": "lits_1"}
    assert json.loads((raw / "duplicates.json").read_text(encoding="utf-8")) == {
        "groups": [{"scan": "lits_1", "cases": ["lits_1", "msd_1"]}]
    }
    (row,) = csv.DictReader((tmp_path / "pairs.csv").open())
    assert (row["first"], row["second"], row["kind"]) == ("lits_1", "msd_1", "exact")
    assert json.loads((tmp_path / "pairs.json").read_text(encoding="utf-8"))["groups"] == [["lits_1", "msd_1"]]


def test_dry_run_finds_and_records_nothing(cli, raw):
    before = (raw / "dataset.json").read_bytes()
    status, out, _ = cli("duplicates", "-d", 500, "-np", 1, "--dry-run", "--json", "-")
    assert status == 1
    assert [pair["kind"] for pair in json.loads(out)["pairs"]] == ["exact"]
    assert (raw / "dataset.json").read_bytes() == before
    assert not (raw / "duplicates.json").exists()


def test_a_held_out_scan_among_the_training_cases(cli, raw, real_data, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/again.nii.gz").symlink_to((real_data / "btcv/img/img0002.nii.gz").resolve())
    status, out, err = cli("duplicates", "-d", 500, "-np", 1, "--held-out", tmp_path / "test")
    assert status == 1
    assert "HELD OUT" in out
    assert "training cases are among the held-out scans" in err


def test_splits_that_separate_a_group(cli, raw, folders):
    preprocessed = folders["nnUNet_preprocessed"] / NAME
    preprocessed.mkdir()
    (preprocessed / "dataset.json").write_text((raw / "dataset.json").read_text(encoding="utf-8"))
    splits = [{"train": ["lits_1", "lits_2"], "val": ["msd_1"]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    status, out, _ = cli("duplicates", "-d", 500, "-np", 1)
    assert status == 1
    assert "trains and validates on one scan: lits_1, msd_1" in out
    assert "is a copy from before" in out


def test_merged_into_a_new_dataset(cli, raw):
    status, out, _ = cli("duplicates", "-d", 500, "-np", 1, "--merge", "-o", 501, "Once")
    new = raw.parent / "Dataset501_Once"
    assert status == 0
    assert f"the new dataset lies in {new}" in out
    parts = [np.asarray(nib.load(raw / f"labelsTr/{key}.nii.gz").dataobj) for key in ("lits_1", "msd_1")]
    np.testing.assert_array_equal(np.asarray(nib.load(new / "labelsTr/lits_1.nii.gz").dataobj), parts[0] + parts[1])
    assert scans(new) == {"lits_1": "", "lits_2": ""}
    assert scans(raw) == {"lits_1": "", "lits_2": "", "msd_1": ""}


def test_nothing_to_merge(cli, raw, monkeypatch):
    monkeypatch.setattr("nnunet_partial.dataset_conversion.duplicates.search.find_duplicates", lambda *_, **__: [])
    status, out, _ = cli("duplicates", "-d", 500, "-np", 1, "--merge", "-o", 501)
    assert status == 0
    assert "no scan occurs twice, so Dataset501_Abdomen was not written" in out
    assert not (raw.parent / "Dataset501_Abdomen").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--merge"], "need its id"),
        (["-o", "501"], "need its id"),
        (["-np", "0"], "at least one process"),
        (["--drop", "first", "-o", "500"], "has the same id"),
        (["--drop", "first", "-o", "many"], "a number from 1 to 999"),
        (["--drop", "first", "-o", "501", "a b"], "letters, digits"),
        (["--held-out", "."], "holds no .nii.gz or .nii file"),
    ],
)
def test_mistakes_end_in_a_sentence(cli, raw, arguments, message, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr("nnunet_partial.dataset_conversion.duplicates.search.find_duplicates", lambda *_, **__: [])
    status, _, err = cli("duplicates", "-d", 500, *arguments)
    assert status == 1
    assert message in err
