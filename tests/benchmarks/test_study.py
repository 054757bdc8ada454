"""The study's file says what is trained, and its tables say what came of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from benchmarks.study import layout, results, tables
from benchmarks.study.__main__ import main
from benchmarks.study.job import StudyJob, in_order
from benchmarks.study.protocol import STUDY, Study, read_study, several
from benchmarks.study.repeats import TRAINING, repeats, repeats_text
from benchmarks.trainings import Job, run_all
from nnunet_partial.dataset_conversion.simulation.mix import MixSource, deal
from nnunet_partial.training.settings import TrainingSettings

FIGURES = Path(__file__).parents[2] / "docs" / "study"
PAGES = {  # part -> page with its tables
    "pooling": "pooling.md",
    "pooling_longer": "pooling.md",
    "missing_labels": "missing_labels.md",
    "label_shares": "label_shares.md",
    "recipe": "recipe.md",
    "few_annotations": "few_annotations.md",
    "soft_labels": "soft_labels.md",
}
REPEATS = FIGURES / f"{results.REPEATS}.csv"
CASES = [f"case_{number:02d}" for number in range(24)]
SMALL = {
    "lengths": {"epochs": 10, "iterations": 5},
    "datasets": {"all": {"id": 1, "classes": ["liver", "spleen"]}, "half": {"id": 2, "of": "all", "simulate": {"missing": 50}}},
    "parts": {
        "one": {
            "title": "One",
            "methods": {
                "naive": {"dataset": "half", "trainer": "nnUNetTrainerNaive"},
                "marginal": {"dataset": "half", "trainer": "nnUNetTrainerMarginal", "alone_share": 0.3},
                "rounds": {"after": "marginal", "rounds": {"criterion": "all", "rounds": 2, "share": 0.4}},
            },
            "groups": [{"title": "Methods", "methods": {"naive": "naive", "ours": "marginal", "rounds": "rounds"}}],
            "compared": [["naive", "ours"]],
        }
    },
    "reduced": {"folds": [0], "methods": ["naive"]},
}


@pytest.fixture(scope="module")
def study():
    return read_study()


@pytest.fixture
def small():
    return Study.model_validate(SMALL)


def changed(**methods):
    part = SMALL["parts"]["one"]
    return {**SMALL, "parts": {"one": {**part, "methods": {**part["methods"], **methods}}}}


def test_every_setting_of_the_study_is_a_setting_of_the_plans(study):
    assert {name for method in study.methods.values() for name in method.settings} <= set(TrainingSettings.model_fields)


def test_every_method_is_shown(study):
    for part in study.parts.values():
        assert set(part.methods) <= {
            method for group in part.groups for value in group.methods.values() for method in several(value)
        }


def test_one_organs_datasets_have_the_cases_that_the_pool_annotates(study):
    def annotated(dataset):
        mix = {name: MixSource(**source) for name, source in study.datasets[dataset].simulate["like"].items()}
        dealt = deal(CASES, mix, seed=0)
        return {name: dealt[name] for name, source in mix.items() if source.classes != "none"}

    pool = annotated("sources")
    for organ, source in (("liver", "lits"), ("spleen", "msd_spleen"), ("pancreas", "msd_pancreas"), ("kidneys", "kits")):
        assert annotated(f"{organ}_alone") == {"full": pool["full"], source: pool[source]}


def test_for_each_makes_a_method_for_every_value(study):
    content = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    for alpha in content["parts"]["missing_labels"]["for_each"]["alpha"]:
        assert study.dataset_of(f"confidence_{alpha}") == f"alpha_{alpha}"
        assert study.datasets[f"alpha_{alpha}"].simulate == {"missing": 100 - alpha}


def test_a_digest_tells_trainings_apart(small):
    longer = small.model_copy(update={"lengths": small.lengths.model_copy(update={"epochs": 11})})
    other_parent = Study.model_validate(changed(marginal={"dataset": "half", "trainer": "nnUNetTrainerMarginalExclusion"}))
    other_data = Study.model_validate(
        {**SMALL, "datasets": {**SMALL["datasets"], "half": {"id": 2, "of": "all", "simulate": {"missing": 30}}}}
    )
    for other in (longer, other_parent, other_data):
        assert other.digest("rounds") != small.digest("rounds")
    assert other_parent.digest("naive") == small.digest("naive")


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ({"dataset": "halves", "trainer": "nnUNetTrainerNaive"}, "there is no dataset 'halves'"),
        ({"after": "marginal", "trainer": "nnUNetTrainerNaive"}, "what goes on `after` another"),
        ({"after": "rounds", "rounds": {"criterion": "all", "rounds": 1}}, "'rounds' is no training on human labels"),
        ({"dataset": "half", "trainer": "nnUNetTrainerNaive", "setings": {}}, "Extra inputs are not permitted"),
    ],
)
def test_a_faulty_method_is_refused(method, fault):
    with pytest.raises(ValidationError, match=fault):
        Study.model_validate(changed(more=method))


def test_plans_of_a_method(small, tmp_path):
    folder = tmp_path / "nnUNet_preprocessed" / "Dataset002_half"
    folder.mkdir(parents=True)
    plans = {"plans_name": "nnUNetPlans", "partial": {"num_epochs": 1000}, "configurations": {"3d_fullres": {"batch_size": 9}}}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    assert layout.write_plans(small, "marginal", tmp_path) == "nnUNetPlans_marginal"
    written = json.loads((folder / "nnUNetPlans_marginal.json").read_text())
    assert written["plans_name"] == "nnUNetPlans_marginal"
    assert written["configurations"]["3d_fullres"]["batch_size"] == 2
    assert written["partial"]["num_epochs"] == 10
    assert written["partial"]["stage_one_epochs"] == written["partial"]["consistency_start_epochs"] == 3


def test_rounds_share_the_epochs_of_what_they_go_on_from(small, tmp_path):
    command = StudyJob(small, "rounds", 1).command(tmp_path)
    assert command[command.index("--epochs") + 1] == "2"
    assert command[command.index("-p") + 1] == "nnUNetPlans_marginal"


def test_parents_come_first_and_folds_one_by_one(small):
    jobs = in_order([StudyJob(small, method, fold) for method in ("rounds", "naive", "marginal") for fold in (1, 0)])
    assert [job.name for job in jobs] == [f"{name}_fold{fold}" for fold in (0, 1) for name in ("naive", "marginal", "rounds")]


def test_what_another_study_trained_is_refused(small, tmp_path):
    job = StudyJob(small, "naive", 0)
    job.note_seconds(tmp_path, 60)
    assert job.seconds(tmp_path) == 60
    other = Study.model_validate(changed(naive={"dataset": "half", "trainer": "nnUNetTrainerMarginal"}))
    with pytest.raises(SystemExit, match="as another study had it"):
        StudyJob(other, "naive", 0).command(tmp_path)


def test_known_figures_of_the_same_trainings_alone(small, tmp_path):
    rows = [{"method": "naive", "digest": digest, "fold": 0, "round": 0} for digest in (small.digest("naive"), "00000000")]
    pd.DataFrame(rows).to_csv(tmp_path / "one.csv", index=False)
    known = results.known_figures(tmp_path, small)
    assert len(known.rows) == 1
    assert results.is_known(StudyJob(small, "naive", 0), known)
    assert not results.is_known(StudyJob(small, "naive", 1), known)
    assert not results.is_known(StudyJob(small, "rounds", 0), known)


@pytest.mark.parametrize("file", sorted({*FIGURES.glob("*.csv")} - {REPEATS}), ids=lambda file: file.stem)
def test_the_figures_in_docs_are_known_to_the_study(study, file):
    known = results.known_figures(FIGURES, study)
    kinds = {results.OF_ROUNDS: known.rounds, results.OF_CALIBRATION: known.calibration}
    kind = next((kind for kind in kinds if file.stem.endswith(kind)), "")
    part, rows = file.stem.removesuffix(kind), kinds.get(kind, known.rows)
    assert len(pd.read_csv(file)) == rows["method"].isin(study.parts[part].methods).sum()


@pytest.mark.parametrize(("part", "page"), PAGES.items())
def test_the_tables_in_docs_are_those_of_their_figures(study, part, page, tmp_path):
    jobs = [StudyJob(study, method, fold) for method in study.methods for fold in study.folds]
    text = results.write_part(part, jobs, results.known_figures(FIGURES, study), tmp_path)
    tables_of = [block.strip() for block in text.split("\n\n") if block.startswith("| ")]
    written = (FIGURES.parent / page).read_text(encoding="utf-8")
    assert tables_of
    assert [table for table in tables_of if table not in written] == []
    assert pd.read_csv(tmp_path / f"{part}.csv").equals(pd.read_csv(FIGURES / f"{part}.csv"))


def test_the_repeats_in_docs_are_of_the_study_and_their_tables_in_docs(study):
    found = pd.read_csv(REPEATS)
    assert [study.digest(method) for method in found["method"]] == found["digest"].tolist()
    _, table, _, _, of_organs = repeats_text(found.set_index([*TRAINING, "class"]), study).strip().split("\n\n")[1:]
    written = (FIGURES.parent / "study.md").read_text(encoding="utf-8")
    assert table in written
    assert of_organs in written


def row(method, dice, *, organ="liver", case="a", number=0, fold=0):
    figures = {"Dice": dice, "Precision": dice, "Recall": dice, "HD95_mm": 1.0, "minutes": 2.0}
    return {"method": method, "fold": fold, "round": number, "case": case, "class": organ, **figures}


def test_tables_by_hand(small):
    rows = [row("naive", 0.2), row("marginal", 0.6), row("marginal", 0.8, case="b"), row("rounds", 0.1, number=1)]
    rows += [row("rounds", 0.9, number=2), row("naive", 0.4, organ="spleen"), row("marginal", 0.5, organ="spleen")]
    text = "\n".join(tables.blocks(small.parts["one"], pd.DataFrame(rows)))
    assert "| naive | 30.00 " in text
    assert "| ours | 60.00 " in text  # liver 0.7, spleen 0.5
    assert "| rounds | 90.00 " in text  # after its last round
    assert "| ours - naive | 1 of 1 | +25.00 " in text  # case a: liver +0.4, spleen +0.1
    assert "| method | Dice | precision | recall | HD95 (mm) | minutes |" in text


def test_figures_that_were_not_noted_have_no_column(small):
    rows = pd.DataFrame([row("naive", 0.2)]).drop(columns=["Precision", "Recall", "HD95_mm", "minutes"])
    assert "| method | Dice |\n" in "\n".join(tables.blocks(small.parts["one"], rows))


def test_the_reduced_study_trains_as_the_study_does(study):
    short = study.shortened()
    assert set(short.methods) == set(study.reduced.methods)
    assert set(short.folds) < set(study.folds)
    assert {name: short.digest(name) for name in short.methods} == {name: study.digest(name) for name in short.methods}


def test_the_reduced_study_has_no_table_of_one_method_and_no_part_of_none(study):
    short = study.shortened()
    assert "pooling_longer" not in short.parts
    assert all(part.methods for part in short.parts.values())
    assert all(len(group.methods) > 1 for part in short.parts.values() for group in part.groups)


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """What the command says of arguments that it refuses, before anything is written."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["study", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
        with pytest.raises(SystemExit):
            main()
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    return run


def test_a_part_that_the_reduced_study_has_not_is_refused(refusal):
    told = refusal("--reduced", "--parts", "pooling_longer")
    assert "the reduced study has nothing of pooling_longer: it has pooling, " in told


def test_a_reduced_study_without_what_others_go_on_from_is_refused():
    with pytest.raises(ValidationError, match="reduced: others go on from 'marginal', which is not in it"):
        Study.model_validate({**SMALL, "reduced": {"folds": [0], "methods": ["naive", "rounds"]}})


def rows_of(study, *rows):
    frame = pd.DataFrame(rows)
    return frame.assign(digest=frame["method"].map(study.digest))


def test_repeats_by_hand(small):
    first = rows_of(
        small,
        *(row("naive", 0.2), row("naive", 0.4, organ="spleen")),
        *(row("marginal", 0.5), row("rounds", 0.2, number=1), row("rounds", 0.9, number=2)),
    )
    second = rows_of(
        small,
        *(row("naive", 0.34), row("naive", 0.38, organ="spleen")),
        *(row("marginal", 0.44), row("rounds", 0.8, number=2), row("marginal", 0.1, fold=1)),
    )
    text = repeats_text(repeats([first, second]), small)
    assert "| naive | 0 | 30.00 | 36.00 | 4.24 |" in text
    assert "| rounds | 0 | 90.00 | 80.00 | 7.07 |" in text
    assert "| marginal | 1 |" not in text  # trained once
    assert "By the 2 that go on from no other, 4 trainings, the standard deviation of one training is 4.24 points." in text
    assert "| liver | 2 | 7.62 | 2 | 7.62 |" in text  # 14 and -6 points apart: squares of 7, 7, 3 and 3, by 2
    third = rows_of(small, row("naive", 0.33))
    text = repeats_text(repeats([first, second, third]), small)
    assert "| naive | 0 | 30.00 | 36.00 | 33.00 | 3.00 |" in text
    assert "| marginal | 0 | 50.00 | 44.00 | - | 4.24 |" in text
    assert "one training is 3.46 points." in text  # squares of 3, 3, 0, 3 and 3, by 2 + 1
    assert repeats([first, second[:0]]).empty


def test_the_scatter_of_organs_that_every_training_found(small):
    runs = [rows_of(small, row("naive", dice), row("marginal", other)) for dice, other in ((0.6, 0.5), (0.02, 0.52))]
    assert "| liver | 2 | 29.02 | 1 | 1.41 |" in repeats_text(repeats(runs), small)  # 58 and 2 points apart; 2 points
    runs = [rows_of(small, row("naive", dice)) for dice in (0.0, 0.01)]
    assert "| liver | 1 | 0.71 | 0 | - |" in repeats_text(repeats(runs), small)


def test_repeats_of_soft_labels_are_judged_by_what_annotators_drew_after(small):
    runs = [rows_of(small, row("naive", 0.5)).rename(columns={"Dice": "Dice_truth"}), rows_of(small, row("naive", 0.6))]
    assert "| naive | 0 | 50.00 | 60.00 |" in repeats_text(repeats(runs), small)


def test_known_figures_are_no_repeats_of_themselves(small, tmp_path):
    rows = rows_of(small, row("naive", 0.2))
    rows.to_csv(tmp_path / "one.csv", index=False)
    job, before = StudyJob(small, "naive", 0), rows.assign(Dice=pd.Series([0.212345678], dtype=object))  # as read beside no Dice
    earlier = [results.Known(before, rows[:0], rows[:0])]
    assert results.write_repeats(earlier, [job], tmp_path) == ""
    assert not (tmp_path / "repeats.md").exists()
    job.validation(tmp_path).mkdir(parents=True)
    (job.validation(tmp_path) / "summary.json").touch()
    text = results.write_repeats(earlier, [job], tmp_path)
    assert "| naive | 0 | 21.23 | 20.00 | 0.87 |" in text
    assert (tmp_path / "repeats.md").read_text(encoding="utf-8") == text
    assert pd.read_csv(tmp_path / "repeats.csv")[["class", "1"]].to_numpy().tolist() == [["liver", 21.235]]  # as few digits


@pytest.mark.parametrize("option", ["--known", "--against"])
def test_a_folder_without_figures_is_refused_before_anything_is_trained(option, tmp_path, refusal):
    assert f"{tmp_path} has no figures of what is trained here" in refusal(option, str(tmp_path))


def test_the_rounds_of_a_part_are_those_of_its_own_methods(small, tmp_path, monkeypatch):
    """Another part's rounds may stand in its tables, and are that part's figures."""
    part = {"title": "Two", "methods": {}, "groups": [{"title": "All", "methods": {"rounds": "rounds"}}]}
    study = Study.model_validate({**SMALL, "parts": {**SMALL["parts"], "two": part}})
    audit = {"round": 1, "class": "mean", "share_added": 0.5, "precision": 0.8, "recall": 0.4}
    monkeypatch.setattr(StudyJob, "is_done", lambda job, out: True)
    monkeypatch.setattr(results, "rows_by_labels", lambda job, out: [{**row(job.method, 0.5, number=job.rounds), **job.run}])
    monkeypatch.setattr(results.rounds_tables, "audit_rows", lambda job, out: [{**job.run, **audit}] if job.rounds else [])
    jobs = [StudyJob(study, method, 0) for method in study.methods]
    texts = {name: results.write_part(name, jobs, results.known_figures(None, study), tmp_path) for name in study.parts}
    assert "| rounds | 50.00 " in texts["two"]
    assert "| rounds | 1 | 50.00 | 80.00 | 40.00 |" in texts["one"]
    assert "## Rounds" not in texts["two"]
    assert pd.read_csv(tmp_path / "one_rounds.csv")["method"].tolist() == ["rounds"]
    assert not (tmp_path / "two_rounds.csv").exists()


def test_methods_of_one_organ_each_are_shown_as_one():
    group = SimpleNamespace(methods={"each": ("liver_alone", "spleen_alone")})
    rows = pd.DataFrame([row("liver_alone", 0.5), row("spleen_alone", 0.7, organ="spleen"), row("liver_alone", 0.9, fold=1)])
    shown = tables.shown_rows(group, rows)
    assert set(shown["fold"]) == {0}  # fold 1 has no network for the spleen yet
    assert "| each | 60.00 " in tables.figures_table(shown)


class Command(Job):
    def __init__(self, name, command, after=""):
        self.name, self.line, self.after = name, command, after

    def is_done(self, out):
        return False

    def command(self, out):
        return ["sh", "-c", f"cd {out}; touch {self.name}; {self.line}"]


def run_commands(folder, *jobs, processes=2):
    (folder / "logs").mkdir()
    run_all(jobs, folder, {"PATH": "/usr/bin:/bin"}, processes)


def test_what_goes_on_from_a_failure_is_not_begun(tmp_path):
    jobs = [Command("bad", "exit 3"), Command("good", "true"), Command("child", "true", "bad"), Command("other", "true", "good")]
    with pytest.raises(SystemExit, match="failed: bad, child"):
        run_commands(tmp_path, *jobs)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad", "good", "logs", "other"]


def test_a_job_waits_for_what_it_goes_on_from_and_others_pass_it(tmp_path):
    wait = "for n in $(seq 200); do [ -e last ] && exit 0; sleep 0.05; done; exit 1"  # ends once the last job runs
    run_commands(tmp_path, Command("first", wait), Command("child", "[ -e last ]", "first"), Command("last", "true"))
    assert (tmp_path / "child").exists()
