"""`nnunet_partial threshold`: levels by hand, headers, and what is refused."""

import json
import os

import nibabel
import numpy as np
import pytest
import SimpleITK
from eight_voxels import SPACING_MM, write_map, write_predictions

from nnunet_partial.evaluation.confidence_levels import labels_at


def labels_of(path) -> list[int]:
    return np.asarray(nibabel.load(path).dataobj).T.ravel().tolist()


@pytest.fixture
def predictions(tmp_path):
    return write_predictions(tmp_path / "predictions")


def test_label_maps_at_a_level(cli, predictions, tmp_path):
    status, out, err = cli("threshold", "-i", predictions, "-o", tmp_path / "cut", "--confidence", 0.3)
    assert status == 0, err
    assert labels_of(tmp_path / "cut" / "nested.nii.gz") == [1, 1, 1, 0, 2, 2, 0, 0]
    assert labels_of(tmp_path / "cut" / "sides.nii.gz") == [0, 0, 0, 0, 3, 3, 4, 0]  # 0.5 before 0.4
    assert "2 cases cut" in out
    record = json.loads((tmp_path / "cut" / "threshold.json").read_text(encoding="utf-8"))
    assert record["levels"] == dict.fromkeys(("liver", "spleen", "kidney_left", "kidney_right"), 0.3)
    assert record["cases"]["nested"]["liver"] == {"predicted_ml": pytest.approx(0.006), "at_level_ml": pytest.approx(0.009)}


def test_a_rerun_cuts_what_is_missing_or_has_changed(cli, predictions, tmp_path):
    def cut(level=0.3):
        status, out, err = cli("threshold", "-i", predictions, "-o", tmp_path / "cut", "--confidence", level, "--json")
        assert status == 0, err
        times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("*.nii.gz")}
        return json.loads(out), times

    record, first = cut()
    assert cut() == (record, first)
    (tmp_path / "cut" / "nested.nii.gz").unlink()
    again, second = cut()
    assert again == record
    assert second["sides.nii.gz"] == first["sides.nii.gz"]
    later = second["sides.nii.gz"] + 1
    os.utime(predictions / "sides.npz", ns=(later, later))
    third = cut()[1]
    assert third["sides.nii.gz"] > second["sides.nii.gz"]
    assert third["nested.nii.gz"] == second["nested.nii.gz"]
    other, fourth = cut(0.6)
    assert other["levels"] != record["levels"]
    assert all(fourth[name] > third[name] for name in third)


def test_a_class_with_a_low_level_is_not_hidden_by_the_one_around_it(cli, predictions, tmp_path):
    arguments = ("threshold", "-i", predictions, "-o", tmp_path / "cut", "--confidence", 0.5, "--class", "kidney_right=0.1")
    status, out, err = cli(*arguments, "-np", 2, "--json")
    assert status == 0, err
    assert json.loads(out)["levels"]["kidney_right"] == 0.1
    # 0.4 / 0.1 is more than 0.5 / 0.5, and 0.1 is at least 0.1
    assert labels_of(tmp_path / "cut" / "sides.nii.gz") == [0, 0, 0, 0, 4, 3, 4, 4]
    assert labels_of(tmp_path / "cut" / "nested.nii.gz") == [1, 1, 0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("level", [0.05, 0.2, 0.5, 0.7])
def test_one_level_for_all_is_the_argmax_of_the_classes_that_reach_it(level):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4, 7, 8, 9))
    channels = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    expected = np.where(channels[1:].max(axis=0) >= level, channels[1:].argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(labels_at(iter(channels), [level] * 3), expected)


def test_header_of_the_prediction_is_kept(cli, predictions, tmp_path):
    image = nibabel.load(predictions / "nested.nii.gz")
    affine = np.array([[0, 0, 3.0, 7], [0.8, 0.6, 0, 8], [-0.6, 0.8, 0, 9], [0, 0, 0, 1]])  # turned: not what numpy's axes say
    turned = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
    turned.header["descrip"] = b"from the scanner"
    nibabel.save(turned, predictions / "nested.nii.gz")
    assert cli("threshold", "-i", predictions, "-o", tmp_path / "cut", "--confidence", 0.3)[0] == 0
    cut = nibabel.load(tmp_path / "cut" / "nested.nii.gz")
    np.testing.assert_allclose(cut.affine, affine, atol=1e-6)
    assert bytes(cut.header["descrip"]).startswith(b"from the scanner")
    assert cut.get_data_dtype() == np.uint8
    assert np.asarray(cut.dataobj).T.ravel().tolist() == [1, 1, 1, 0, 2, 2, 0, 0]


def test_other_formats(cli, predictions, tmp_path):
    for name in ("nested", "sides"):
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(predictions / f"{name}.nii.gz")), str(predictions / f"{name}.mha"))
        (predictions / f"{name}.nii.gz").unlink()
    content = json.loads((predictions / "dataset.json").read_text()) | {"file_ending": ".mha"}
    (predictions / "dataset.json").write_text(json.dumps(content))
    assert cli("threshold", "-i", predictions, "-o", tmp_path / "cut", "--confidence", 0.3)[0] == 0
    cut = SimpleITK.ReadImage(str(tmp_path / "cut" / "nested.mha"))
    assert cut.GetSpacing() == SPACING_MM
    assert SimpleITK.GetArrayFromImage(cut).ravel().tolist() == [1, 1, 1, 0, 2, 2, 0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--confidence", 0), "confidence level 0 is not between 0 and 1"),
        (("--confidence", 1), "confidence level 1 is not between 0 and 1"),
        (("--confidence", "nan"), "confidence level nan is not between 0 and 1"),
        (("--confidence", 0.5, "--class", "spleen=2"), "confidence level 2 of spleen is not between 0 and 1"),
        (("--confidence", 0.5, "--class", "splen=0.2"), "class 'splen' is not in the label space (did you mean 'spleen'?)"),
        (("--confidence", 0.5, "--class", "spleen"), "level 'spleen': CLASS=LEVEL is expected"),
        (("--confidence", 0.5, "--class", "spleen=low"), "level 'spleen=low': CLASS=LEVEL is expected"),
        (("--confidence", 0.5, "--class", "spleen=0.2", "spleen=0.3"), "class 'spleen' has two levels, 0.2 and 0.3"),
        (("--confidence", 0.5, "-np", 0), "at least one process is needed"),
    ],
)
def test_levels_that_are_refused(cli, predictions, tmp_path, options, words):
    status, _, err = cli("threshold", "-i", predictions, "-o", tmp_path / "cut", *options)
    assert status == 1
    assert words in err
    assert not (tmp_path / "cut").exists()


def test_folders_that_are_refused(cli, predictions, tmp_path):
    arguments = ("threshold", "-i", predictions, "--confidence", 0.3, "-o")
    status, _, err = cli(*arguments, predictions)
    assert (status, "holds the predictions themselves" in err) == (1, True)
    write_map(tmp_path / "labelsTr" / "nested.nii.gz", [1] * 8)
    status, _, err = cli(*arguments, tmp_path / "labelsTr")
    assert (status, "holds label maps that are not from this command" in err) == (1, True)
    assert labels_of(tmp_path / "labelsTr" / "nested.nii.gz") == [1] * 8
    assert [cli(*arguments, tmp_path / "cut")[0] for _ in range(2)] == [0, 0]  # but again into its own
    (predictions / "nested.npz").unlink()
    (predictions / "sides.npz").write_bytes(b"x")
    status, _, err = cli(*arguments, tmp_path / "other")
    assert status == 1
    assert "nested.npz is missing; predict with nnUNetv2_predict --save_probabilities" in err
    assert "sides.npz: File is not a zip file" in err
    (predictions / "dataset.json").unlink()
    status, _, err = cli(*arguments, tmp_path / "other")
    assert (status, "dataset.json; nnUNetv2_predict copies the model's there" in err) == (1, True)


def test_probabilities_of_something_else(cli, predictions, tmp_path):
    write_map(predictions / "nested.nii.gz", [0, 0, 2, 2, 0, 0, 1, 1])
    status, _, err = cli("threshold", "-i", predictions, "-o", tmp_path / "cut", "--confidence", 0.3)
    assert status == 1
    assert "case 'nested': " in err
    assert "another class than the predicted one" in err
    assert not (tmp_path / "cut" / "nested.nii.gz").exists()
