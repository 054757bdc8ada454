"""The audit of rounds: voxels countable by hand, ranking against scikit-learn, files, tables, bad input."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from nnunet_partial.evaluation import ranking_metrics
from nnunet_partial.evaluation.calibration import NUM_SCORE_RANKS, ranking_counts
from nnunet_partial.labels import Annotation, LabelError, write_json
from nnunet_partial.pseudo_labels.audit import AuditRow, audit_round, markdown_audit, read_audit, write_audit
from nnunet_partial.pseudo_labels.audit_rows import COLUMNS
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.training.arrays import write_array

CASES = ("a_1", "a_2", "b_1")
ANNOTATION = Annotation.model_validate(
    {
        "space": {"classes": ("liver", "spleen", "aorta")},
        "protocols": {"most": {"labels": {1: ("liver",), 3: ("aorta",)}}, "aorta": {"labels": {3: ("aorta",)}}},
        "cases": {
            "a_1": {"protocol": "most", "source": "a"},
            "a_2": {"protocol": "most", "source": "a"},
            "b_1": {"protocol": "aorta", "source": "b"},
        },
    }
)
HUMAN = {
    "a_1": [1, 1, 0, 0, 0, 0, 0, 0, 0, -1],
    "a_2": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "b_1": [0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
}
TRUTH = {
    "a_1": [1, 1, 0, 2, 2, 2, 2, 0, 0, -1],
    "a_2": [2, 2, 2, 2, 2, 0, 0, 0, 0, 0],
    "b_1": [1, 1, 2, 2, 0, 0, 0, 0, 0, 3],
}
PREDICTED = {
    "a_1": [0, 0, 2, 2, 2, 2, 2, 0, 0, 0],
    "a_2": [2, 2, 2, 0, 0, 0, 0, 0, 0, 0],
    "b_1": [1, 2, 2, 0, 0, 0, 0, 0, 0, 0],
}
SCORES = {
    "a_1": [0, 0, 0.5, 3, 2, 1, 0.2, 0, 0, 0],
    "a_2": [9, 9, 9, 0, 0, 0, 0, 0, 0, 0],
    "b_1": [4, -1, 1.5, 0, 0, 0, 0, 0, 0, 0],
}
LABELS = {  # after each round
    1: {"a_1": [1, 1, 0, 2, 2, 0, 0, 0, 0, -1], "b_1": [1, 0, 2, 0, 0, 0, 0, 0, 0, 3]},
    2: {"a_1": [1, 1, 2, 2, 2, 2, 0, 0, 0, -1], "b_1": [1, 2, 2, 0, 0, 0, 0, 0, 0, 3]},
}


def selection(predicted: int, already: int, added: int, total: int, threshold: float | None) -> dict:
    return {"predicted": predicted, "already": already, "added": added, "total": total, "threshold": threshold}


SELECTIONS = {
    1: {
        "a_1": {"spleen": selection(5, 0, 2, 2, 2.0)},
        "a_2": {"spleen": selection(3, 0, 0, 0, None)},
        "b_1": {"liver": selection(1, 0, 1, 1, 4.0), "spleen": selection(2, 0, 1, 1, 1.5)},
    },
    2: {
        "a_1": {"spleen": selection(5, 2, 2, 4, 0.5)},
        "a_2": {"spleen": selection(3, 0, 0, 0, None)},
        "b_1": {"liver": selection(1, 1, 0, 1, None), "spleen": selection(2, 1, 1, 2, -1.0)},
    },
}


@dataclass(frozen=True)
class KnownTruth:
    """Takes the place of `ReferenceMaps`: label maps in memory."""

    maps: dict[str, list[int]]
    available: bool = True
    unknown: tuple[tuple[str, str], ...] = ()

    def load(self, case: str) -> np.ndarray:
        return line(self.maps[case], np.int16)

    def shows(self, case: str, class_name: str) -> bool:
        return (case, class_name) not in self.unknown


def line(values: list, dtype: type) -> np.ndarray:
    """(1, 1, 1, n)."""
    return np.array(values, dtype=dtype)[None, None, None]


@pytest.fixture
def run(tmp_path) -> RunFiles:
    """Two rounds of a run over three cases; in both, a_2 is dropped."""
    run = RunFiles(tmp_path / "results" / "Model" / "fold_0", tmp_path / "preprocessed", "run")
    for case, values in HUMAN.items():
        write_array(line(values, np.int16), human_folder(run) / f"{case}_seg.b2nd", (1, 1, 10))
    for number, selections in SELECTIONS.items():
        files = run.round(number)
        for case in CASES:
            write_array(line(PREDICTED[case], np.int16), files.prediction_of(case), (1, 1, 10))
            write_array(line(SCORES[case], np.float32), files.score_of(case), (1, 1, 10))
            if case in LABELS[number]:
                write_array(line(LABELS[number][case], np.int16), files.labels_of(case), (1, 1, 10))
            changed = None if number == 1 else {"a_1": 0.1, "a_2": 0.9, "b_1": 0.2}[case]
            write_record(run, number, case, selections[case], dropped=case == "a_2", changed_fraction=changed)
    return run


def human_folder(run: RunFiles) -> Path:
    return run.dataset / "human"


def write_record(run: RunFiles, number: int, case: str, classes: dict, **noted: object) -> None:
    file = run.round(number).record_of(case)
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {"identifier": case, "source": case[0], "protocol": "x", "dropped": False, "changed_fraction": None, "seconds": 1.5}
    write_json({**record, "classes": classes, **noted}, file)


def audited(run: RunFiles, number: int, references: object = KnownTruth(TRUTH), **options: object) -> dict:
    rows = audit_round(run.round(number), number, ANNOTATION, human_folder(run), references, CASES, **options)
    return {(row.class_name, row.source): row for row in rows}


class TestByHand:
    def test_which_rows_there_are(self, run):
        assert list(audited(run, 1)) == [
            *(("liver", "b"), ("liver", "all"), ("spleen", "a"), ("spleen", "b"), ("spleen", "all")),
            *(("aorta", "all"), ("mean", "all")),
        ]

    def test_the_first_round(self, run):
        row = audited(run, 1, dice={"spleen": 0.8, "liver": float("nan")})["spleen", "all"]
        assert (row.cases, row.cases_touched, row.cases_dropped) == (3, 2, 1)
        assert (row.predicted, row.candidates, row.voxels_added, row.voxels_total) == (10, 7, 3, 3)
        assert row.share_added == pytest.approx(0.3)
        assert row.threshold_lowest == pytest.approx(expit(1.5))
        assert row.threshold_median == pytest.approx((expit(1.5) + expit(2)) / 2)
        assert row.changed_fraction is None
        assert (row.precision, row.reference_voxels) == (1, 4 + 5 + 2)
        assert row.recall == pytest.approx(3 / 11)
        assert row.auc == pytest.approx(9 / 10)  # wrong 0.5, -1; right 3, 2, 1, 0.2, 1.5
        assert row.ap_success == pytest.approx((1 + 1 + 1 + 1 + 5 / 6) / 5)
        assert row.ap_error == pytest.approx((1 + 2 / 3) / 2)
        assert row.dice == 0.8

    def test_the_second_round_leaves_out_what_the_first_labelled(self, run):
        row = audited(run, 2)["spleen", "all"]
        assert (row.predicted, row.candidates, row.voxels_added, row.voxels_total) == (10, 4, 3, 6)
        assert row.share_added == pytest.approx((2 + 2 + 1 + 1) / 10)
        assert row.changed_fraction == pytest.approx((0.1 + 0.9 + 0.2) / 3)
        assert row.precision == pytest.approx(4 / 6)
        assert row.recall == pytest.approx(4 / 11)
        assert row.csi == pytest.approx(4 / (6 + 11 - 4))
        assert row.auc == pytest.approx(3 / 4)  # wrong 0.5, -1; right 1, 0.2
        assert row.threshold_lowest == pytest.approx(expit(-1))

    def test_one_source(self, run):
        rows = audited(run, 2)
        assert (rows["spleen", "a"].cases, rows["spleen", "a"].cases_dropped) == (2, 1)
        assert rows["spleen", "a"].precision == pytest.approx(3 / 4)
        assert rows["spleen", "a"].recall == pytest.approx(3 / 9)
        assert rows["spleen", "b"].precision == pytest.approx(1 / 2)
        assert rows["spleen", "b"].auc is None  # one candidate
        assert rows["liver", "b"].auc is None  # none
        assert (rows["liver", "b"].precision, rows["liver", "b"].recall) == (1, 0.5)

    def test_a_class_that_was_looked_for_everywhere(self, run):
        row = audited(run, 1, dice={"aorta": 0.9})["aorta", "all"]
        assert (row.cases, row.predicted, row.dice) == (0, 0, 0.9)
        assert row.share_added is row.precision is row.recall is row.auc is row.reference_voxels is None

    def test_mean_over_classes(self, run):
        row = audited(run, 1, dice={"spleen": 0.8, "aorta": 0.9, "liver": float("nan")})["mean", "all"]
        assert (row.cases, row.cases_touched, row.cases_dropped) == (3, 2, 1)  # a case counts once
        assert (row.predicted, row.voxels_added, row.reference_voxels) == (11, 4, 13)
        assert row.recall == pytest.approx((1 / 2 + 3 / 11) / 2)
        assert row.dice == pytest.approx(0.85)
        assert row.auc == pytest.approx(9 / 10)  # of the spleen; the liver has no wrong candidate

    def test_round_0_has_dice_alone(self, run):
        rows = audited(run, 0, dice={"liver": 0.5, "spleen": 0.7})
        assert [source for _, source in rows] == ["all"] * 4
        assert rows["mean", "all"] == AuditRow(round=0, class_name="mean", source="all", dice=0.6)

    def test_nothing_relabelled(self, run):
        rows = audit_round(run.round(1), 1, ANNOTATION, human_folder(run), None, [], {"liver": 0.5})
        assert [row.class_name for row in rows] == ["liver", "spleen", "aorta", "mean"]

    @pytest.mark.parametrize("references", [None, KnownTruth({}, available=False)])
    def test_without_references(self, run, references):
        rows, known = audited(run, 2, references), audited(run, 2)
        for key, row in rows.items():
            judged = dict.fromkeys(("precision", "recall", "csi", "auc", "ap_success", "ap_error", "reference_voxels"))
            assert row == known[key].model_copy(update=judged)

    def test_a_class_the_reference_does_not_show(self, run):
        row = audited(run, 2, KnownTruth(TRUTH, unknown=(("b_1", "spleen"),)))["spleen", "all"]
        assert row.precision == pytest.approx(3 / 4)
        assert row.recall == pytest.approx(3 / 9)
        assert row.voxels_total == 6
        assert audited(run, 2, KnownTruth(TRUTH, unknown=(("b_1", "spleen"),)))["spleen", "b"].precision is None


class TestRanking:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("scale", [0.3, 4, 60])
    def test_equals_scikit_learn_on_the_voxels(self, seed, scale):
        rng = np.random.default_rng(seed)
        scores = rng.normal(scale, scale, 20_000).astype(np.float32)
        right = rng.random(len(scores)) < expit(scores / scale)
        found = ranking_metrics(*(ranking_counts(scores[::2], right[::2]) + ranking_counts(scores[1::2], right[1::2])))
        for name, exact in (
            ("AUC", roc_auc_score(right, scores)),
            ("AP_success", average_precision_score(right, scores)),
            ("AP_error", average_precision_score(~right, -scores)),
        ):
            assert abs(found[name] - exact) <= found[f"{name}_tolerance"] + 1e-12
            assert found[f"{name}_tolerance"] < 2e-3

    def test_goes_on_where_float32_probabilities_are_all_1(self):
        scores = np.linspace(20, 60, 2001, dtype=np.float32)
        right = np.random.default_rng(0).random(2001) < np.linspace(0, 1, 2001)
        assert len(np.unique(expit(scores))) == 1
        assert ranking_metrics(*ranking_counts(scores, right))["AUC"] == pytest.approx(roc_auc_score(right, scores), abs=2e-3)

    def test_order_at_the_ends(self):
        scores = np.array([-np.inf, -1e5, -2, -1e-3, 0, 1e-3, 2, 1e5, np.inf], dtype=np.float32)
        ranks = [int(np.flatnonzero(ranking_counts(scores[n : n + 1], np.ones(1, bool))[1])[0]) for n in range(len(scores))]
        assert ranks == sorted(ranks)
        assert (ranks[0], ranks[-1]) == (0, NUM_SCORE_RANKS - 1)

    def test_refuses_nan(self):
        with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
            ranking_counts(np.array([np.nan, 1], np.float32), np.ones(2, bool))


class TestFiles:
    def rows(self, run) -> list[AuditRow]:
        return [row for number in (0, 1, 2) for row in audited(run, number, dice={"spleen": 0.5 + number / 7}).values()]

    def test_written_and_read_back(self, run):
        write_audit(run, self.rows(run))
        assert read_audit(run) == self.rows(run)
        first = {name: (run.results / name).read_bytes() for name in ("audit.json", "audit.csv")}
        write_audit(run, read_audit(run))
        assert {name: (run.results / name).read_bytes() for name in first} == first
        assert sorted(path.name for path in run.results.iterdir()) == ["audit.csv", "audit.json"]

    def test_the_csv_leaves_unknown_cells_empty(self, run):
        write_audit(run, self.rows(run)[3:4])  # the mean of round 0
        head, cells = (run.results / "audit.csv").read_text(encoding="utf-8").splitlines()
        assert head.split(",") == list(COLUMNS)
        assert cells == "0,mean,all,0,0,0,0,0,0,0,,,,,,,,,,,,0.5"

    def test_numbers_are_those_of_any_order_of_summation(self):
        row = AuditRow(round=1, class_name="liver", source="all", auc=0.1 + 0.2)
        assert row.auc == 0.3

    def test_nothing_audited_yet(self, run):
        assert read_audit(run) == []

    def test_refuses_what_is_no_audit(self, run):
        run.results.mkdir(parents=True)
        (run.results / "audit.json").write_text("[]")
        with pytest.raises(LabelError, match=r"audit\.json: is not an audit; remove it"):
            read_audit(run)
        row = AuditRow(round=1, class_name="liver", source="all").as_dict() | {"precision": "high", "cases": -1}
        (run.results / "audit.json").write_text(json.dumps({"rows": [row]}))
        with pytest.raises(LabelError, match=r"(?s)audit\.json, row 1: 2 faults.*cases: .*precision: "):
            read_audit(run)
        with pytest.raises(ValueError, match="finite"):
            AuditRow(round=1, class_name="liver", source="all", dice=float("nan"))

    def test_tables_in_the_columns_of_the_paper(self, run):
        relabelling, ranking = markdown_audit(self.rows(run)).split("\n\n")
        lines = relabelling.splitlines()
        assert lines[0] == "| class  | round | added % | precision % | recall % | Dice % |"
        assert lines[1] == "| ------ | ----: | ------: | ----------: | -------: | -----: |"
        assert lines[2] == "| mean   |     0 |       - |           - |        - |  50.00 |"
        assert [line.split()[1] for line in lines[2:]] == ["mean"] * 3 + ["liver"] * 3 + ["spleen"] * 3 + ["aorta"] * 3
        assert lines[9] == "| spleen |     1 |   30.00 |      100.00 |    27.27 |  64.29 |"
        assert ranking.splitlines()[0] == "| class  | round | AUC % | AP_success % | AP_error % |"
        assert "| spleen |     1 | 90.00 |        96.67 |      83.33 |" in ranking
        assert "liver" not in ranking

    def test_without_references_there_is_no_table_of_rankings(self, run):
        assert "AUC" not in markdown_audit(list(audited(run, 1, None).values()))


class TestRefusals:
    def test_a_case_without_record(self, run):
        run.round(1).record_of("a_2").unlink()
        with pytest.raises(FileNotFoundError, match=r"1 of 3 cases have no record in .*cases \(a_2\); let the round finish"):
            audited(run, 1)

    def test_all_faulty_records_at_once(self, run):
        run.round(1).record_of("a_1").write_text("{")
        write_record(run, 1, "b_1", {"aorta": selection(0, 0, 0, 0, None)})
        with pytest.raises(
            LabelError, match=r"(?s)2 faults.*'a_1': .*JSON.*'b_1': aorta: looked for in this case.*run the round"
        ):
            audited(run, 1)

    def test_a_record_that_contradicts_its_label_map(self, run):
        write_record(run, 1, "a_1", {"spleen": selection(5, 0, 3, 3, 1.0)})
        with pytest.raises(LabelError, match="'a_1': its label map holds 2 pseudo-labels of spleen, its record says 3; remove"):
            audited(run, 1)

    def test_files_that_are_gone(self, run):
        run.round(1).score_of("a_1").unlink()
        with pytest.raises(FileNotFoundError, match=r"scores.a_1\.b2nd does not exist, though the round has a record"):
            audited(run, 1)

    def test_another_shape(self, run):
        with pytest.raises(ValueError, match=r"a_1_seg\.b2nd has shape \(1, 1, 1, 10\), .* reference of its case \(1, 1, 1, 4\)"):
            audited(run, 1, KnownTruth({**TRUTH, "a_1": [0, 0, 0, 2]}))

    def test_scores_that_are_nan(self, run):
        write_array(line([np.nan] * 10, np.float32), run.round(1).score_of("a_1"), (1, 1, 10))
        with pytest.raises(ValueError, match=r"a_1\.b2nd: spleen: 5 of 5 scores are NaN"):
            audited(run, 1)

    def test_a_case_the_dataset_does_not_know(self, run):
        write_record(run, 1, "c_1", {})
        with pytest.raises(KeyError, match=r"case 'c_1' is not in dataset\.json"):
            audit_round(run.round(1), 1, ANNOTATION, human_folder(run), None, ["c_1"])
