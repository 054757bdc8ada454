"""Intervals, ranking, coverage and training curves, on numbers that can be counted by hand."""

import json

import numpy as np
import pytest
import SimpleITK

from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.labels import Annotation
from nnunet_partial.report.cases import below_class_means, foreground_keys, metric_names, protocol_of, read_cases, worst_first
from nnunet_partial.report.intervals import mean_interval, mean_of_means_interval
from nnunet_partial.report.reproduce import Model, commands, predicted_images
from nnunet_partial.report.tables import coverage
from nnunet_partial.report.training_run import read_training_run

NAN = float("nan")
DATASET_JSON = {
    "labels": {"background": 0, "liver": 1, "kidney_left": 2, "kidney_right": 3},
    "annotation": {
        "protocols": {"liver": {"labels": {1: ["liver"]}}, "sideless": {"labels": {2: ["kidney_left", "kidney_right"]}}},
        "cases": {
            "a": {"protocol": "liver", "source": "lits"},
            "b": {"protocol": "liver", "source": "lits"},
            "c": {"protocol": "sideless", "source": "kits"},
        },
    },
}


@pytest.fixture
def annotation() -> Annotation:
    return Annotation.from_dataset_json(DATASET_JSON)


def write_summary_file(path, dice_by_case):
    entries = []
    for identifier, dice in dice_by_case.items():
        metrics = {key: {"Dice": value, "NSD": value, "TP": NAN if value != value else 5} for key, value in dice.items()}
        files = {"reference_file": f"/r/{identifier}.nii.gz", "prediction_file": f"/p/{identifier}.nii.gz"}
        entries.append({"identifier": identifier, "source": "s", **files, "metrics": metrics})
    path.write_text(json.dumps({"metric_per_case": entries}))
    return path


class TestIntervals:
    def test_ignores_nan_and_says_how_many(self):
        found = mean_interval([0.2, NAN, 0.4])
        assert found.mean == pytest.approx(0.3)
        assert (found.low, found.high, found.n) == (0.2, 0.4, 2)

    def test_one_value_has_no_interval(self):
        found = mean_interval([0.5])
        assert (found.mean, found.n) == (0.5, 1)
        assert np.isnan(found.low)
        assert np.isnan(mean_interval([NAN]).mean)

    def test_near_the_normal_interval_for_many_values(self):
        values = np.random.default_rng(1).normal(0.8, 0.1, 400)
        found, half = mean_interval(values), 1.96 * values.std() / 20
        assert found.low == pytest.approx(values.mean() - half, abs=0.0015)
        assert found.high == pytest.approx(values.mean() + half, abs=0.0015)
        assert mean_interval(values) == found

    def test_mean_over_classes_redraws_within_sources(self):
        values = np.array([[0.8, NAN], [0.8, NAN], [NAN, 0.4], [NAN, 0.4]])
        found = mean_of_means_interval(values, ["lits", "lits", "kits", "kits"])
        assert (found.mean, found.low, found.high, found.n) == pytest.approx((0.6, 0.6, 0.6, 4))


class TestCases:
    def test_unions_and_ranking(self, tmp_path):
        file = write_summary_file(
            tmp_path / "summary.json",
            {
                "hard": {"1": NAN, "(2, 3)": 0.4},
                "harder": {"1": NAN, "(2, 3)": 0.6},
                "easy": {"1": 0.8, "(2, 3)": NAN},
                "easier": {"1": 1.0, "(2, 3)": NAN},
                "nothing": {"1": NAN, "(2, 3)": NAN},
            },
        )
        cases = read_cases([file])
        assert metric_names(cases) == ["Dice", "NSD"]
        assert foreground_keys(cases) == [1, (2, 3)]
        below = below_class_means(cases)
        assert below == pytest.approx({"hard": -0.1, "harder": 0.1, "easy": -0.1, "easier": 0.1})
        assert [case.identifier for case in worst_first(cases)] == ["easy", "hard", "easier", "harder"]

    def test_held_out_cases_as_evaluate_writes_them(self, tmp_path, annotation):
        for folder in ("references", "predictions"):
            (tmp_path / folder).mkdir()
            labels = SimpleITK.GetImageFromArray(np.ones((2, 2, 2), np.uint8))
            SimpleITK.WriteImage(labels, str(tmp_path / folder / "z.nii.gz"))
        found = evaluate_folder(tmp_path / "references", tmp_path / "predictions", annotation, full_reference=True)
        write_summary(found, tmp_path / "summary.json")
        (case,) = read_cases([tmp_path / "summary.json"])
        assert (case.source, case.mean_dice) == ("not in the dataset", 1.0)

    def test_a_union_is_left_out_of_the_mean_where_its_classes_are_known(self, tmp_path):
        file = write_summary_file(tmp_path / "s.json", {"a": {"2": 0.5, "(2, 3)": NAN}, "b": {"2": NAN, "(2, 3)": 0.9}})
        assert foreground_keys(read_cases([file])) == [2]

    def test_the_same_case_in_two_folds(self, tmp_path):
        files = [write_summary_file(tmp_path / f"{n}.json", {"a": {"1": 1.0}}) for n in range(2)]
        with pytest.raises(ValueError, match=r"judged twice in .*: a"):
            read_cases(files)

    @pytest.mark.parametrize("text", ["{}", "[]", '{"metric_per_case": [{"metrics": {"x y": {}}}]}', "no json"])
    def test_not_a_summary(self, text, tmp_path):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(ValueError, match=r"summary\.json is no summary of nnU-Net's shape"):
            read_cases([tmp_path / "summary.json"])

    def test_protocol_is_the_full_one_where_every_class_was_judged(self, tmp_path, annotation):
        judged = {"a": {"1": 1.0, "2": NAN, "3": NAN}, "b": {"1": 1.0, "2": 0.0, "3": 0.0}}
        own, full = (
            protocol_of(case, annotation) for case in read_cases([write_summary_file(tmp_path / "summary.json", judged)])
        )
        assert own.annotated_classes == {"liver"}
        assert full.annotated_classes == {"liver", "kidney_left", "kidney_right"}


def test_coverage_tells_unions_from_classes_on_their_own(annotation):
    table = coverage(annotation, {"lits": "CC"})
    kits, lits = table["rows"]
    assert [cell["looked"] for cell in lits["cells"]] == [2, 0, 0]
    assert [cell["looked"] for cell in kits["cells"]] == [0, 1, 1]
    assert kits["cells"][1] == {"looked": 1, "alone": 0, "unions": ["kidney_left + kidney_right"]}
    assert table["totals"] == [2, 1, 1]
    assert (lits["licence"], kits["licence"]) == ("CC", "")


class TestTrainingRun:
    LOG = "Epoch {0}\ntrain_loss {1}\nval_loss nan\nPseudo dice [{2}]\nEpoch time: 2.0 s\n"

    def test_an_epoch_trained_again_counts_once(self, tmp_path):
        first = self.LOG.format(0, 0.9, "0.1, nan") + self.LOG.format(1, 0.8, "0.2, nan")
        (tmp_path / "training_log_1.txt").write_text(first)
        again = self.LOG.format(1, -7e-05, "np.float64(0.3), np.float64(1.0)")
        (tmp_path / "training_log_2.txt").write_text(again + "Epoch 2\n")
        run = read_training_run(tmp_path, ["liver", "spleen"])
        assert run.epochs.tolist() == [0, 1]
        assert run.train_loss.tolist() == [0.9, -7e-05]
        assert np.isnan(run.val_loss).all()
        assert run.seconds.sum() == 4
        assert run.curves["liver"]["all sources"].tolist() == [[0, 0.1], [1, 0.3]]
        assert not run.has_sources

    def test_an_epoch_begun_again_and_not_finished_has_no_values(self, tmp_path):
        (tmp_path / "training_log_1.txt").write_text(self.LOG.format(0, 0.9, "0.1") + self.LOG.format(1, 0.8, "0.2"))
        (tmp_path / "training_log_2.txt").write_text("Epoch 1\n")
        assert read_training_run(tmp_path, ["liver"]).epochs.tolist() == [0]

    def test_the_csv_is_preferred_to_the_log(self, tmp_path):
        (tmp_path / "training_log_1.txt").write_text(self.LOG.format(0, 0.9, "0.1"))
        rows = "0,all sources,liver,0.5,1,1,1\n0,lits,liver,,0,0,0\n"
        (tmp_path / "progress_classes.csv").write_text("epoch,source,class,pseudo_dice,tp,fp,fn\n" + rows)
        run = read_training_run(tmp_path, ["liver"])
        assert run.curves["liver"]["all sources"][0, 1] == 0.5
        assert run.has_sources


def test_commands(tmp_path):
    (tmp_path / "predict_from_raw_data_args.json").write_text(json.dumps({"list_of_lists_or_source_folder": "my scans"}))
    model = Model("T", "P", "2d", ("0", "1"))
    lines = commands("500", model, {"partial": {"sampling": "sqrt"}}, tmp_path, "tiny", full_reference=True)
    assert lines[0] == "nnunet_partial plan -d 500 -pl tiny --set sampling=sqrt"
    assert lines[1] == 'eval "$(nnunet_partial env)"'
    assert lines[2:4] == [f"nnUNetv2_train 500 2d {fold} -tr T -p P" for fold in "01"]
    assert lines[4] == f"nnUNetv2_predict -d 500 -c 2d -tr T -p P -f 0 1 -i 'my scans' -o {tmp_path}"
    assert lines[5].endswith("-r REFERENCES --full-reference")
    assert predicted_images(tmp_path / "elsewhere") is None
