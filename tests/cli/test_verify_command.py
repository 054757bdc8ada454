"""`nnunet_partial verify` on the command line."""

import csv
import json

import pytest
from small_abdomen import at, edit_image, edit_labels, write_dataset


@pytest.fixture
def dataset(folders):
    return write_dataset(folders["nnUNet_raw"] / "Dataset500_Abdomen")


def test_a_sound_dataset(cli, dataset):
    status, out, _ = cli("verify", "-d", 500, "-np", 2)
    assert status == 0
    assert out.startswith("Dataset500_Abdomen: 4 cases; 4 read now, 0 known from an earlier run\n")
    assert out.splitlines()[-1] == "no faults, no remarks"
    status, again, _ = cli("verify", "-d", "Dataset500_Abdomen")
    assert "0 read now, 4 known" in again
    assert again.splitlines()[1:] == out.splitlines()[1:]
    assert "4 read now" in cli("verify", "-d", 500, "--fresh")[1]


def test_status(cli, dataset):
    edit_image(dataset, at((0, 0, 0), -5000))
    assert cli("verify", "-d", 500, "-np", 1)[0] == 0
    status, out, _ = cli("verify", "-d", 500, "--strict")
    assert status == 1
    assert "REMARK intensity range: 1, in 1 case\n  full_1: 'full_1_0000.nii.gz' holds values from -5000" in out
    edit_labels(dataset, at((0, 0, 0), 9))
    status, out, _ = cli("verify", "-d", 500, "-n", 0)
    assert status == 1
    assert "FAULT label ids: 1, in 1 case\n  and 1 more\n" in out
    assert out.splitlines()[-1] == "1 fault, 1 remark"


def test_files(cli, dataset, tmp_path):
    edit_labels(dataset, at((0, 0, 0), 9))
    files = {option: tmp_path / f"{option}.{ending}" for option, ending in (("json", "json"), ("csv", "csv"), ("picture", "svg"))}
    coverage = tmp_path / "coverage.csv"
    options = [part for option, file in files.items() for part in (f"--{option}", file)]
    status, out, err = cli("verify", "-d", 500, "-np", 1, *options, "--coverage-csv", coverage)
    assert status == 1
    assert all(f": {file}" in out for file in (*files.values(), coverage))
    everything = json.loads(files["json"].read_text(encoding="utf-8"))
    assert (everything["cases"], everything["faults"], everything["remarks"]) == (4, 1, 0)
    with files["csv"].open() as file:
        assert list(csv.DictReader(file)) == everything["findings"]
    assert everything["findings"][0] | {"message": ""} == {
        "severity": "fault", "kind": "label ids", "case": "full_1", "source": "full", "message": ""
    }  # fmt: skip
    with coverage.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 2
    assert rows[5] == {
        "class": "kidney_left", "source": "kits", "cases": "2", "annotated": "2", "present": "2", "absent": "0", "unread": "0",
        "voxels": "2304", "shares_id_with": "kidney_right",
    }  # fmt: skip
    assert files["picture"].read_text(encoding="utf-8").startswith("<?xml")
    status, out, err = cli("verify", "-d", 500, "--json", "-")
    assert json.loads(out) == everything
    assert (status, err) == (1, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-np", 0), "at least one process"),
        (("-n", -1), "not negative"),
        (("--picture", "coverage.pdf"), "must end in .png or .svg"),
    ],
)
def test_mistakes_end_in_a_sentence(cli, dataset, options, words):
    status, _, err = cli("verify", "-d", 500, *options)
    assert status == 1
    assert words in err
    assert not (dataset / ".verification.json").exists()


def test_no_dataset(cli, dataset):
    (dataset / "dataset.json").unlink()
    status, _, err = cli("verify", "-d", 500)
    assert status == 1
    assert "convert the dataset first" in err
    assert cli("verify", "-d", 7)[0] == 1
