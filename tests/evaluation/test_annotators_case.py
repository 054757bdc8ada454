"""Cases of eight voxels counted by hand, from files; what is refused, kept and written."""

import json
import math

import nibabel
import numpy as np
import pandas as pd
import pytest
from eight_voxels import DRAWN, PROBABILITY, SPACING_MM, dataset_json, write_drawn, write_map, write_predictions

from nnunet_partial.evaluation import Tolerances, evaluate_folder
from nnunet_partial.evaluation.annotators import agreement_text, annotator_agreement, case, write_agreement
from nnunet_partial.labels import Annotation

VOXEL_ML = 0.003


@pytest.fixture
def files(tmp_path):
    return write_drawn(tmp_path / "annotators"), write_predictions(tmp_path / "predictions")


def measured(files, **options):
    annotators, predictions = files
    content = options.pop("content", None) or dataset_json()
    return annotator_agreement(annotators, Annotation.from_dataset_json(content), prediction_dir=predictions, **options)


def rows_of(summary, identifier) -> dict:
    return next(entry["classes"] for entry in summary["per_case"] if entry["identifier"] == identifier)


def test_annotators_alone(files):
    summary = measured((files[0], None))
    liver = rows_of(summary, "nested")["liver"]
    assert (liver["annotators"], liver["drawn_by"], liver["volume_ml"]) == (3, 3, pytest.approx(2 * VOXEL_ML))
    assert liver["Dice_pairs"] == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)
    assert liver["diversity_pairs"] == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert liver["diversity_draws"] == pytest.approx(1 / 3)
    assert liver["disagreement"] == pytest.approx(2 / 3)
    ann = liver["by_annotator"]["ann"]
    assert ann == {
        "volume_ml": pytest.approx(3 * VOXEL_ML),
        "Dice_to_others": pytest.approx((4 / 5 + 1 / 2) / 2),
        "IoU_distance_to_others": pytest.approx((1 / 3 + 2 / 3) / 2),
        "IoU_distance_among_others": pytest.approx(1 / 2),
    }
    assert liver["pairs"][1] == {"annotators": ["ann", "cy"], "Dice": pytest.approx(0.5), "IoU_distance": pytest.approx(2 / 3)}
    assert "GED2_pairs" not in liver
    assert "calibration" not in summary
    assert summary["with_one_map"] == ["alone"]


def test_an_annotator_who_did_not_look_is_no_vote_against(files):
    spleen = rows_of(measured(files), "nested")["spleen"]
    assert list(spleen["by_annotator"]) == ["ann", "bob"]
    assert (spleen["Dice_pairs"], spleen["disagreement"]) == (pytest.approx(2 / 3), 1 / 2)
    assert spleen["levels"]["50"]["n_ref"] == 2  # one of two who looked, not one of three
    assert spleen["levels"]["60"]["n_ref"] == 1


def test_prediction_by_hand(files):
    summary = measured(files)
    liver = rows_of(summary, "nested")["liver"]
    assert liver["volume_pred_ml"] == pytest.approx(2 * VOXEL_ML)
    assert liver["IoU_distance"] == pytest.approx((1 / 3 + 0 + 1 / 2) / 3)
    assert liver["GED2_pairs"] == pytest.approx(2 * 5 / 18 - 1 / 2)
    assert liver["GED2_draws"] == pytest.approx(2 * 5 / 18 - 1 / 3)
    assert liver["Dice_expected"] == pytest.approx((4 / 5 + 1 + 2 / 3) / 3)
    assert liver["by_annotator"]["cy"]["Dice_to_prediction"] == pytest.approx(2 / 3)
    assert liver["Dice_over_levels"] == pytest.approx((6 / 7 + 4 / 5 + 7) / 9)
    found = summary["calibration"]["liver"]
    assert found["voxels"] == 8  # the whole volume is within 10 mm
    assert found["ECE"] == pytest.approx((0.1 + 1 / 15 + 1 / 15 + 0.1 + 0.05) / 8, rel=1e-5)
    assert found["Brier"] == pytest.approx((0.01 + 1 / 225 + 1 / 225 + 0.01 + 0.0025) / 8, rel=1e-5)
    assert (liver["ECE"], liver["Brier"]) == pytest.approx((found["ECE"], found["Brier"]))
    assert set(found) == {"voxels", "ECE", "Brier", "reliability"}
    assert summary["per_class"]["liver"]["levels"]["40"]["Dice"] == pytest.approx(4 / 5)
    assert summary["per_annotator"]["cy"]["cases"] == 1


def test_a_class_that_nobody_drew(files):
    summary = measured(files)
    kidney = rows_of(summary, "nested")["kidney_left"]
    assert (kidney["drawn_by"], kidney["Dice_pairs"], kidney["Dice_expected"], kidney["GED2_pairs"]) == (0, 1, 1, 0)
    assert math.isnan(kidney["disagreement"])
    assert math.isnan(kidney["Dice_over_levels"])
    assert "kidney_left: nobody drew it in 1 of 2 cases" in agreement_text(summary)
    assert summary["calibration"]["kidney_left"]["voxels"] == 8  # of the other case alone


def test_sides_and_unions(files):
    rows = rows_of(measured(files), "sides")
    assert list(rows) == ["liver", "spleen", "kidney_left", "kidney_right", "kidney_left+kidney_right"]
    assert list(rows["kidney_left"]["by_annotator"]) == ["ann"]  # the other drew no sides
    union = rows["kidney_left+kidney_right"]
    assert (union["annotators"], union["Dice_pairs"]) == (2, pytest.approx(4 / 6))
    assert union["volume_pred_ml"] == pytest.approx(3 * VOXEL_ML)  # 0.5 + 0.4 is the probability of either
    assert union["by_annotator"]["bob"]["Dice_to_prediction"] == pytest.approx(4 / 6)


def test_an_annotator_who_drew_something_else_shows(tmp_path):
    """As in the paper's brain tumor 2: two agree, the third is far from both."""
    same, other = [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 0]
    drawn = {"case": {"ann": same, "bob": [*same[:3], 0, *same[4:]], "cy": other}}
    content = dataset_json(case=dict.fromkeys(drawn["case"], "liver"))
    found = measured((write_drawn(tmp_path, drawn), None), content=content)["per_annotator"]
    assert found["cy"]["IoU_distance_to_others"] == pytest.approx((6 / 7 + 1) / 2)
    assert found["cy"]["IoU_distance_among_others"] == pytest.approx(1 / 4)
    assert found["ann"]["IoU_distance_to_others"] == pytest.approx((1 / 4 + 6 / 7) / 2)
    assert found["ann"]["per_class"] == {"liver": {"cases": 1, **{k: v for k, v in found["ann"].items() if "others" in k}}}


def test_identical_annotators_are_judged_as_one_label_map(tmp_path):
    rng = np.random.default_rng(3)
    labels = np.zeros((6, 12, 40), int)
    labels[1:4, 2:8, 3:9] = 1
    wrong = rng.random(labels.shape) < 0.05
    wrong[:, :, 10:] = False  # from there on it is more than 10 mm to anything that anybody shows
    sure = labels ^ wrong
    probability = {"case": {1: np.where(sure == 1, 0.6 + 0.4 * rng.random(labels.shape), 0.4 * rng.random(labels.shape))}}
    for annotator in ("ann", "bob", "cy"):
        write_map(tmp_path / "annotators" / annotator / "case.nii.gz", labels)
    write_map(tmp_path / "labelsTr" / "case.nii.gz", labels)
    predictions = write_predictions(tmp_path / "predictions", probability)
    content = dataset_json(case=dict.fromkeys(("ann", "bob", "cy"), "full"))
    summary = measured((tmp_path / "annotators", predictions), content=content)
    found = rows_of(summary, "case")["liver"]
    ordinary = evaluate_folder(
        tmp_path / "labelsTr",
        predictions,
        Annotation.from_dataset_json(content),
        tolerances=Tolerances(),
        probability_dir=predictions,
    )
    expected = ordinary["metric_per_case"][0]["metrics"][1]
    assert found["Dice_expected"] == pytest.approx(expected["Dice"])
    assert found["IoU_distance"] == pytest.approx(1 - expected["IoU"])
    for name in ("Dice", "Precision", "Recall", "HD95_mm", "n_pred", "n_ref"):
        assert found["levels"]["50"][name] == pytest.approx(expected[name])
    assert (found["diversity_pairs"], found["disagreement"]) == (0, 0)
    assert summary["calibration"]["liver"]["voxels"] == 6 * 12 * 20
    for name in ("ECE", "Brier", "voxels"):
        assert summary["calibration"]["liver"][name] == pytest.approx(ordinary["calibration"][1][name])


def test_ignored_voxels_are_left_out(files):
    content = dataset_json()
    content["labels"]["ignore"] = 5
    write_map(files[0] / "cy" / "nested.nii.gz", [1, 5, 0, 0, 5, 0, 0, 0])
    rows = rows_of(measured(files, content=content), "nested")
    liver = rows["liver"]
    assert [figures["volume_ml"] for figures in liver["by_annotator"].values()] == pytest.approx(
        [2 * VOXEL_ML, VOXEL_ML, VOXEL_ML]
    )
    assert liver["levels"]["50"]["n_pred"] == 1
    assert rows["spleen"]["volume_ml"] == pytest.approx(1.5 * VOXEL_ML)  # who ignores it there did not look for a spleen
    found = measured(files, content=content)["calibration"]["liver"]
    assert found["voxels"] == 6


def test_all_faults_are_listed_before_anything_is_measured(files, monkeypatch):
    annotators, predictions = files
    monkeypatch.setattr(case, "_measure", lambda task: pytest.fail("measured"))
    (annotators / "cy" / "nested.nii.gz").unlink()
    write_map(annotators / "bob" / "nested.nii.gz", DRAWN["nested"]["bob"], spacing_mm=(1, 1, 2))
    (predictions / "sides.npz").unlink()
    with pytest.raises(ValueError, match="3 faults") as caught:
        measured(files)
    for words in (
        f"case 'nested': annotator 'cy': {annotators / 'cy' / 'nested.nii.gz'} is missing",
        "case 'nested': annotator 'ann' has spacing (1, 1, 3) mm (x, y, z), annotator 'bob' (1, 1, 2) mm",
        "sides.npz is missing; predict with nnUNetv2_predict --save_probabilities",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda drawn, predicted: write_map(predicted / "sides.nii.gz", np.zeros((2, 2, 3))), "the prediction .*2, 2, 3"),
        (lambda drawn, predicted: (drawn / "ann" / "sides.nii.gz").write_bytes(b"x"), "annotator 'ann': .* cannot be read"),
        (lambda drawn, predicted: (predicted / "sides.npz").write_bytes(b"x"), r"case 'sides': .*sides\.npz: File is not a zip"),
        (
            lambda drawn, predicted: np.savez(predicted / "sides.npz", probabilities=np.zeros((4, 2, 2, 2), np.float32)),
            r"case 'sides': .*sides\.npz: probabilities have shape \(4, 2, 2, 2\), \(5, 2, 2, 2\)",
        ),
        (lambda drawn, predicted: (predicted / "sides.nii.gz").unlink(), "--allow-missing.*case 'sides' has no prediction in"),
        (lambda drawn, predicted: write_map(drawn / "bob" / "sides.nii.gz", [9] * 8), r"case 'sides': .* label ids .*: 9$"),
        (lambda drawn, predicted: write_map(predicted / "sides.nii.gz", [1] * 8), "case 'sides': .* another class than the pred"),
    ],
)
def test_refusals_name_case_and_file(files, break_it, words):
    break_it(*files)
    with pytest.raises(ValueError, match=words):
        measured(files)


def test_nothing_to_compare(files, tmp_path):
    content = dataset_json()
    for entry in content["annotation"]["cases"].values():
        entry.pop("annotators", None)
    with pytest.raises(ValueError, match="names no annotators for any case"):
        measured(files, content=content)
    with pytest.raises(FileNotFoundError, match="convert the dataset again"):
        measured((tmp_path / "nowhere", None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no prediction of any of the 2 cases"):
        measured((files[0], tmp_path / "empty"))


def test_cases_of_one_fold(files):
    for ending in (".nii.gz", ".npz"):
        (files[1] / f"sides{ending}").unlink()
    write_map(files[1] / "alone.nii.gz", [0] * 8)
    summary = measured(files, allow_missing=True)
    assert (summary["without_prediction"], summary["not_of_annotators"]) == (["sides"], ["alone"])
    assert [entry["identifier"] for entry in summary["per_case"]] == ["nested"]


def test_finished_cases_are_kept_and_several_are_measured_at_a_time(files, tmp_path, monkeypatch):
    options = {"cache_dir": tmp_path / "cases", "variance_dir": tmp_path / "variance", "surfaces": False}
    first = measured(files, num_processes=2, **options)
    done = []
    measure = case._measure
    monkeypatch.setattr(case, "_measure", lambda task: done.append(task.identifier) or measure(task))
    assert json.dumps(measured(files, **options)) == json.dumps(first)
    assert done == []
    write_map(files[0] / "bob" / "sides.nii.gz", [0] * 8)
    (tmp_path / "variance" / "prediction" / "liver" / "nested.nii.gz").unlink()
    measured(files, **options)
    assert done == ["nested", "sides"]


def test_variance_maps(files, tmp_path):
    measured(files, variance_dir=tmp_path)
    image = nibabel.load(tmp_path / "prediction" / "liver" / "nested.nii.gz")
    probability = np.array(PROBABILITY["nested"][1], np.float32).reshape(2, 2, 2)
    np.testing.assert_allclose(np.asarray(image.dataobj).T, probability * (1 - probability), rtol=1e-6)
    assert image.header.get_zooms() == SPACING_MM
    of_votes = np.asarray(nibabel.load(tmp_path / "annotators" / "liver" / "nested.nii.gz").dataobj).T.ravel()
    np.testing.assert_allclose(of_votes, [0, 2 / 9, 2 / 9, 0, 0, 0, 0, 0], atol=1e-7)
    assert (tmp_path / "annotators" / "kidney_left+kidney_right" / "sides.nii.gz").is_file()


def test_files(files, tmp_path):
    summary = measured(files)
    written = write_agreement(summary, tmp_path / "out", {"nnunet_partial": "x"})
    assert {path.name for path in written} == {
        "agreement.json",
        "agreement.csv",
        "agreement_annotators.csv",
        "agreement_levels.csv",
        "reliability.png",
    }
    content = json.loads((tmp_path / "out" / "agreement.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["per_class"]["liver"]["Dice_pairs"]["mean"] is not None
    rows = pd.read_csv(tmp_path / "out" / "agreement.csv", comment="#").set_index(["identifier", "class"])
    assert rows.loc[("nested", "liver"), "GED2_pairs"] == pytest.approx(1 / 18)
    by_annotator = pd.read_csv(tmp_path / "out" / "agreement_annotators.csv", comment="#")
    assert by_annotator.query("annotator == 'cy'")["class"].tolist() == ["liver"]
    levels = pd.read_csv(tmp_path / "out" / "agreement_levels.csv", comment="#")
    assert levels.query("identifier == 'nested' and `class` == 'liver'").level_percent.tolist() == list(range(10, 100, 10))
    header = (tmp_path / "out" / "agreement.csv").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("# ") for line in header) == len(rows.columns)
