"""`nnunet_partial agreement` in this process, on the cases of eight voxels."""

import json

import pandas as pd
import pytest
from eight_voxels import dataset_json, write_drawn, write_predictions

DATASET = "Dataset500_Abdomen"


@pytest.fixture
def raw(folders):
    """The dataset with its annotators' label maps, in nnUNet_raw."""
    raw = folders["nnUNet_raw"] / DATASET
    write_drawn(raw / "annotators")
    (raw / "dataset.json").write_text(json.dumps(dataset_json()), encoding="utf-8")
    return raw


def test_annotators_alone(cli, raw):
    status, out, err = cli("agreement", "-d", 500)
    assert status == 0, err
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert lines["cy"][:3] == ["cy", "1", "0.5833"]  # to the others: 1/2 and 2/3
    assert "kidney_left: nobody drew it in 1 of 2 cases" in out
    assert "1 cases have one label map only and are not compared" in out
    assert "2 cases compared" in out
    assert {path.name for path in (raw / "annotators_agreement").iterdir()} == {
        "agreement.json",
        "agreement.csv",
        "agreement_annotators.csv",
        "cases",
    }


def test_predictions_too(cli, raw, tmp_path):
    predictions = write_predictions(tmp_path / "predictions")
    status, out, err = cli("agreement", "-d", 500, "-i", predictions, "--variance-maps")
    assert status == 0, err
    for words in ("p >= t against the averaged annotation", "HD95 mm", "GED2_pairs", "ECE", "reliability.png, variance_maps/"):
        assert words in out
    assert (predictions / "agreement" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert (predictions / "agreement" / "variance_maps" / "prediction" / "spleen" / "nested.nii.gz").is_file()
    made_by = json.loads((predictions / "agreement" / "agreement.json").read_text(encoding="utf-8"))["made_by"]
    assert made_by["arguments"]["predictions"] == str(predictions)
    assert made_by["nnunet_partial"]


def test_held_out_cases(cli, raw, tmp_path):
    drawn = {"new": {"ann": [1, 1, 0, 0, 0, 0, 0, 0], "bob": [1, 2, 0, 0, 0, 0, 0, 0]}}
    predictions = write_predictions(tmp_path / "predictions", {"new": {1: [0.9, 0.6, 0, 0, 0, 0, 0, 0]}})
    references = write_drawn(raw / "annotatorsTs", drawn)
    arguments = ("agreement", "-d", 500, "-r", references)
    status, out, err = cli(*arguments, "--full-reference", "-i", predictions, "--json")
    assert status == 0, err
    found = json.loads(out)["per_class"]
    assert found["liver"]["Dice_expected"]["mean"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["spleen"]["annotators"]["mean"] == 2
    assert cli(*arguments, "--full-reference")[0] == 0
    assert (raw / "annotatorsTs_agreement" / "agreement.json").is_file()
    status, _, err = cli(*arguments)
    assert status == 1
    assert "case 'nested': annotator 'ann': " in err  # the dataset's own cases are not in that folder
    (raw / "nothing").mkdir()
    status, _, err = cli("agreement", "-d", 500, "-r", raw / "nothing", "--full-reference")
    assert (status, "holds no label maps <annotator>/<case>.nii.gz" in err) == (1, True)


def test_json_is_strict(cli, raw, tmp_path):
    predictions = write_predictions(tmp_path / "predictions")
    status, out, err = cli("agreement", "-d", 500, "-i", predictions, "-o", tmp_path / "out", "--json", "--no-surface")
    assert status == 0, err
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["summary_file"] == str(tmp_path / "out" / "agreement.json")
    spleen = found["per_class"]["spleen"]
    assert "HD95_over_levels_mm" not in spleen
    rows = pd.read_csv(tmp_path / "out" / "agreement.csv", comment="#")
    assert spleen["GED2_pairs"]["mean"] == pytest.approx(rows[rows["class"] == "spleen"].GED2_pairs.mean())


def test_says_what_is_wrong(cli, raw, tmp_path):
    predictions = write_predictions(tmp_path / "predictions")
    (predictions / "sides.nii.gz").unlink()
    status, _, err = cli("agreement", "-d", 500, "-i", predictions)
    assert status == 1
    assert f"case 'sides' has no prediction in {predictions}" in err
    status, out, _ = cli("agreement", "-d", 500, "-i", predictions, "--allow-missing")
    assert status == 0
    assert "1 cases have no prediction and are left out" in out
    status, _, err = cli("agreement", "-d", 500, "--allow-missing")
    assert (status, "--allow-missing needs predictions" in err) == (1, True)
    status, _, err = cli("agreement", "-d", 500, "-np", 0)
    assert (status, "at least one process is needed" in err) == (1, True)
