"""`nnunet_partial compare`, on what `evaluate` writes; and what `evaluate` writes beside Dice."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from small_dataset import DATASET, DATASET_JSON, PLANS, PREDICTIONS, REFERENCES, write_cases


@pytest.fixture
def runs(cli, dataset, tmp_path):
    """Two evaluated folders of predictions."""
    for name, cases in (("worse", PREDICTIONS), ("perfect", REFERENCES)):
        write_cases(tmp_path / name, cases)
        status, _, err = cli("evaluate", "-d", 500, "-i", tmp_path / name, "--csv", tmp_path / f"{name}.csv")
        assert status == 0, err
    return tmp_path / "worse", tmp_path / "perfect"


def test_compare(cli, runs, tmp_path):
    files = {"--markdown": "table.md", "--latex": "table.tex", "--csv": "table.csv"}
    options = [text for option, name in files.items() for text in (option, tmp_path / name)]
    status, out, _ = cli("compare", f"stock={runs[0]}", f"ours={tmp_path / 'perfect.csv'}", "--metric", "Dice", "NSD", *options)
    assert status == 0
    assert "| liver | 2 | 0.9000 | 1.0000 | +0.1000 |" in out
    assert "tolerance 2 mm" in out
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in out
    assert (tmp_path / "table.tex").read_text(encoding="utf-8").count(r"\toprule") == 2
    rows = pd.read_csv(tmp_path / "table.csv").set_index(["metric", "class_name"])
    assert rows.loc[("Dice", "spleen"), "difference"] == pytest.approx((0 + 1 / 3) / 2)
    assert f"written: {tmp_path / 'table.md'}" in out


def test_compare_json_is_strict(cli, runs):
    _, out, _ = cli("compare", *runs, "--json")
    rows = json.loads(out, parse_constant=pytest.fail)["rows"]
    assert [row["class_name"] for row in rows] == ["liver", "spleen", "mean over classes"]
    assert rows[-1]["wilcoxon_holm_p"] is None


def test_compare_says_what_is_wrong(cli, runs, tmp_path):
    status, _, err = cli("compare", runs[0], tmp_path / "nothing")
    assert status == 1
    assert "there is no file" in err
    status, _, err = cli("compare", *runs, "--metric", "HD95")
    assert status == 1
    assert "has no metric 'HD95'" in err
    assert "HD95_mm" in err
    cli("evaluate", "-d", 500, "-i", runs[1], "--tolerance-mm", 5)
    status, _, err = cli("compare", *runs, "--metric", "NSD")
    assert status == 1
    assert "NSD was not measured alike" in err


def test_surfaces_tolerances_and_parquet(cli, dataset, tmp_path):
    write_cases(tmp_path / "predictions", PREDICTIONS)
    arguments = ("evaluate", "-d", 500, "-i", tmp_path / "predictions")
    status, out, _ = cli(*arguments, "--tolerance-mm", 1, "spleen=3", "--parquet", tmp_path / "rows.parquet")
    assert status == 0
    assert "tolerance 1 mm, spleen 3 mm" in out
    assert "spleen: 2 cases" in out  # predicted where nobody looked
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    assert rows.query("annotated and identifier == 'lits_2'").HD_mm.tolist() == [0]
    assert cli(*arguments, "--no-surface")[0] == 0
    assert "HD_mm" not in json.loads((tmp_path / "predictions" / "summary.json").read_text(encoding="utf-8"))["mean"]["1"]
    status, _, err = cli(*arguments, "--no-surface", "--tolerance-mm", 3)
    assert status == 1
    assert "--tolerance-mm needs surfaces" in err
    status, _, err = cli(*arguments, "--tolerance-mm", "thick")
    assert status == 1
    assert "tolerance 'thick': a length in mm" in err


def test_parts(cli, dataset, tmp_path):
    write_cases(tmp_path / "predictions", PREDICTIONS)
    arguments = ("evaluate", "-d", 500, "-i", tmp_path / "predictions", "-num_parts", 2, "-part_id")
    status, out, _ = cli(*arguments, 1)
    assert status == 0
    assert "part 1 of 2 is done; 2 cases are left to the other parts" in out
    assert not (tmp_path / "predictions" / "summary.json").exists()
    status, out, _ = cli(*arguments, 0)
    assert status == 0
    assert "4 cases judged" in out
    status, _, err = cli(*arguments, 2)
    assert status == 1
    assert "part 2 of 2 does not exist" in err


def test_probabilities(cli, dataset, tmp_path):
    write_cases(tmp_path / "predictions", PREDICTIONS)
    for identifier, labels in PREDICTIONS.items():
        probabilities = 0.1 + 0.7 * np.eye(3, dtype=np.float32)[labels].T.reshape(3, 1, 2, 2)
        np.savez_compressed(tmp_path / "predictions" / f"{identifier}.npz", probabilities=probabilities)
    arguments = ("evaluate", "-d", 500, "-i", tmp_path / "predictions")
    diagrams = tmp_path / "reliability.png"
    status, out, err = cli(*arguments, "--probabilities", tmp_path / "predictions", "--reliability", diagrams, "--json")
    assert status == 0, err
    found = json.loads(out)["calibration"]
    assert found["liver"]["ranked_voxels"] == 6
    assert found["liver"]["Brier"] == pytest.approx((5 * 0.04 + 2 * 0.01 + 0.64) / 8, rel=1e-5)
    assert diagrams.is_file()
    status, _, err = cli(*arguments, "--reliability", diagrams)
    assert status == 1
    assert "--reliability needs --probabilities" in err


def test_probabilities_as_nnunet_itself_saves_them(cli, dataset, tmp_path):
    """Axes transposed for the network and turned back, resampled and uncropped: what --save_probabilities writes."""
    reference = SimpleITK.GetImageFromArray(np.pad(np.ones((2, 3, 4), np.uint8), 2))
    reference.SetSpacing((0.5, 1, 3))
    for folder in (dataset["nnUNet_raw"] / DATASET / "labelsTr", dataset["nnUNet_preprocessed"] / DATASET / "gt_segmentations"):
        SimpleITK.WriteImage(reference, str(folder / "lits_1.nii.gz"))
    plans = PlansManager({**PLANS, "transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]})
    shape = (8, 6, 7)  # (x, z, y), as the network has them
    properties = {
        "sitk_stuff": {"spacing": (0.5, 1, 3), "origin": (0, 0, 0), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)},
        "spacing": [3, 1, 0.5],
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, size] for size in shape],
        "shape_after_cropping_and_before_resampling": shape,
    }
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (3, *shape)).astype(np.float32))
    configuration = plans.get_configuration("3d_fullres")
    (tmp_path / "predictions").mkdir()
    export_prediction_from_logits(
        logits, properties, configuration, plans, DATASET_JSON, str(tmp_path / "predictions" / "lits_1"), save_probabilities=True
    )
    arguments = ("evaluate", "-d", 500, "-i", tmp_path / "predictions", "--probabilities", tmp_path / "predictions", "--json")
    status, out, err = cli(*arguments)
    assert status == 0, err
    probability = torch.softmax(logits, 0)[1].numpy().transpose(1, 2, 0)  # (z, y, x)
    truth = SimpleITK.GetArrayFromImage(reference)
    assert json.loads(out)["calibration"]["liver"]["Brier"] == pytest.approx(np.mean((probability - truth) ** 2), rel=1e-4)
