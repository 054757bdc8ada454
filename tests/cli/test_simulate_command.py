"""`nnunet_partial simulate` on the command line, from a plain dataset."""

import json
from pathlib import Path

import pytest
import SimpleITK
from small_dataset import write_cases

from nnunet_partial.datasets import dataset_name
from nnunet_partial.labels import MANIFEST_NAME, read_manifest

LABELS = {f"scan_{number}": [1, 2, 0, 0] for number in range(8)}


@pytest.fixture
def plain(folders) -> Path:
    """Dataset004_Plain: eight cases of four voxels with a liver and a spleen, without a manifest."""
    folder = folders["nnUNet_raw"] / "Dataset004_Plain"
    write_cases(folder / "labelsTr", LABELS)
    write_cases(folder / "imagesTr", {f"{name}_0000": [9, 9, 9, 9] for name in LABELS})
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}, "numTraining": 8}
    (folder / "dataset.json").write_text(json.dumps(content | {"file_ending": ".nii.gz"}))
    return folder


def voxels(path: Path) -> list[int]:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).ravel().tolist()


def test_several_datasets_at_once(cli, plain):
    status, out, _ = cli("simulate", "-d", 4, "--full", "--as", 11, 12, "--missing", 25, 50, "-np", 1)
    assert status == 0
    assert "liver         6 of 8  4 of 8" in out
    for number, percent in ((11, 25), (12, 50)):
        name = f"Dataset{number:03d}_Plain_missing{percent}"
        assert dataset_name(str(number)) == name
        assert f"the dataset lies in {plain.parent / name}; next: nnunet_partial plan -d {number}" in out
    kept = [
        {(path.name, value) for path in plain.parent.glob(f"Dataset{number}_*/labelsTr/*") for value in voxels(path)}
        for number in ("011", "012")
    ]
    assert kept[1] < kept[0]


def test_like_a_mix_with_cases_held_out(cli, plain, tmp_path):
    (tmp_path / "mix.yaml").write_text("{lits: {classes: [liver], cases: 3}, btcv: {classes: all, cases: 2}}")
    arguments = ("simulate", "-d", "Dataset004_Plain", "--full", "--as", 13, "--like", tmp_path / "mix.yaml")
    status, out, _ = cli(*arguments, "--hold-out", 2, "--seed", 1, "--name", "Mixed")
    assert status == 0
    assert "13: 5 training cases, 2 held out, 1 unused" in out
    manifest = read_manifest(plain.parent / "Dataset013_Mixed" / MANIFEST_NAME)
    assert [source.name for source in manifest.sources] == ["lits", "btcv"]


def test_several_annotators(cli, plain):
    status, out, _ = cli("simulate", "-d", 4, "--full", "--as", 14, "--annotators", 3, "--shift-mm", 0, "--miss", 0.5)
    assert status == 0
    assert "14: 3 annotators, 0 mm from the true boundary on the average; " in out
    folder = plain.parent / "Dataset014_Plain_annotators3"
    manifest = read_manifest(folder / MANIFEST_NAME)
    assert {name for case in manifest.cases for name in case.annotators} == {"annotator1", "annotator2", "annotator3"}
    maps = [voxels(path) for path in folder.glob("annotators/*/*.nii.gz")]
    assert len(maps) == 24
    assert {tuple(labels) for labels in maps} == {(1, 2, 0, 0), (1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 0, 0)}


def test_predictions_are_judged_against_the_kept_labels(cli, plain, tmp_path):
    assert cli("simulate", "-d", 4, "--full", "--as", 11, "--missing", 50, "--test-cases", "scan_0", "scan_1")[0] == 0
    folder = plain.parent / "Dataset011_Plain_missing50"
    write_cases(tmp_path / "test", {"scan_0": LABELS["scan_0"]})
    judge = ("evaluate", "-d", 11, "-i", tmp_path / "test", "-r", folder / "labelsTs", "--full-reference")
    status, _, err = cli(*judge)
    assert status == 1
    assert "scan_1" in err
    write_cases(tmp_path / "test", {"scan_1": [1, 0, 0, 0]})
    status, out, _ = cli(*judge, "--json")
    assert status == 0
    assert json.loads(out)["mean"]["spleen"]["Dice"] == 0.5
    write_cases(tmp_path / "training", {"scan_2": [0, 2, 0, 0]})
    judge = ("evaluate", "-d", 11, "-i", tmp_path / "training", "-r", folder / "references", "--full-reference")
    status, out, _ = cli(*judge, "--allow-missing", "--json")
    assert status == 0
    means = json.loads(out)["mean"]
    assert (means["liver"]["Dice"], means["spleen"]["Dice"]) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-d", 4, "--as", 11, "--missing", 50], "there is no label_manifest.json to say what was looked for"),
        (["-d", 4, "--full", "--as", 11, "--missing", 10, 30], "--as names 1 datasets, but 2 are asked for"),
        (["-d", 4, "--full", "--as", 11, "--missing", 5, "--name", "A", "B"], "--name names 2 datasets, but 1 are asked for"),
        (["-d", 4, "--full", "--as", 1000, "--missing", 5], "dataset 1000 'Plain_missing5': id: Input should be less than"),
        (["-d", 4, "--full", "--as", 11, "--missing", 100], "give percentages from 0 to 99"),
        (["-d", 4, "--full", "--as", 11, "--missing", 5, "-np", 0], "at least one process is needed"),
        (["-d", 4, "--full", "--as", 4, "--missing", 5], "has the same id"),
        (["-d", 5, "--full", "--as", 11, "--missing", 5], "Could not find a dataset with the ID 5"),
        (["-d", 4, "--full", "--as", 11, "--like", "none.yaml"], "there is no mix file 'none.yaml'"),
        (["-d", 4, "--full", "--as", 11, "--annotators", 1], "--annotators 1: give a number from 2 to 20"),
        (["-d", 4, "--full", "--as", 11, 12, "--annotators", 3], "--as names 2 datasets, but 1 are asked for"),
        (["-d", 4, "--full", "--as", 11, "--missing", 5, "--miss", 0.5], "--miss says how --annotators draw"),
        (["-d", 4, "--full", "--as", 11, "--missing", 5, "--shift-mm", 0], "--shift-mm says how --annotators draw"),
    ],
)
def test_mistakes_end_in_a_sentence(cli, plain, arguments, sentence):
    status, _, err = cli("simulate", *arguments)
    assert status == 1
    assert sentence in err
    assert [path.name for path in plain.parent.iterdir()] == ["Dataset004_Plain"]
