"""`nnunet_partial evaluate`: the table, the files, and that nnU-Net's model selection goes by our Dice."""

import json
import multiprocessing
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pandas as pd
import pytest
from small_dataset import DATASET, PREDICTIONS, REFERENCES, TRAINER, make_model, write_cases

OUR_DICE = ((0.8 + 1) / 2 + (1 + 2 / 3) / 2) / 2


def test_folder(cli, dataset, tmp_path):
    write_cases(tmp_path / "predictions", PREDICTIONS)
    status, out, _ = cli("evaluate", "-d", 500, "-i", tmp_path / "predictions", "--csv", tmp_path / "dice.csv")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["class", "lits", "msd", "all"] in lines
    assert ["liver", "0.9000", "(2)", ".", "0.9000", "(2)"] in lines
    assert ["spleen", ".", "0.8333", "(2)", "0.8333", "(2)"] in lines
    assert f"4 cases judged; summary: {tmp_path / 'predictions' / 'summary.json'}" in out
    summary = json.loads((tmp_path / "predictions" / "summary.json").read_text(encoding="utf-8"))
    assert summary["foreground_mean"]["Dice"] == pytest.approx(OUR_DICE)
    rows = pd.read_csv(tmp_path / "dice.csv", comment="#")
    assert rows.query("annotated").set_index("identifier").Dice.round(4).to_dict() == {
        "lits_1": 0.8, "lits_2": 1, "msd_1": 1, "msd_2": 0.6667
    }  # fmt: skip


def test_json_is_strict(cli, dataset, tmp_path):
    write_cases(tmp_path / "predictions", {"lits_1": PREDICTIONS["lits_1"]})
    output = tmp_path / "elsewhere.json"
    status, out, _ = cli("evaluate", "-d", DATASET, "-i", tmp_path / "predictions", "--json", "-o", output)
    assert status == 0

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    answer = json.loads(out, parse_constant=refuse)
    assert answer["mean"]["liver"]["Dice"] == pytest.approx(0.8)
    assert answer["mean"]["spleen"]["Dice"] is None
    assert answer["summary_file"] == str(output)
    assert output.is_file()


def test_counts_what_is_not_judged(cli, dataset, tmp_path):
    write_cases(tmp_path / "predictions", {"lits_1": PREDICTIONS["lits_1"], "extra": [0, 0, 0, 0]})
    _, out, _ = cli("evaluate", "-d", 500, "-i", tmp_path / "predictions")
    assert "3 references have no prediction and are not judged" in out
    assert "1 predictions have no reference and are not judged" in out


def test_held_out_references(cli, dataset, tmp_path):
    write_cases(tmp_path / "truth", {"new_1": [1, 2, 0, 0], "new_2": [1, 1, 2, 2]})
    write_cases(tmp_path / "predictions", {"new_1": [1, 1, 0, 0]})
    arguments = ("evaluate", "-d", 500, "-i", tmp_path / "predictions", "-r", tmp_path / "truth")
    status, _, err = cli(*arguments, "--full-reference")
    assert status == 1
    assert "1 references have no prediction" in err
    assert "new_2" in err
    status, _, err = cli(*arguments, "--allow-missing")
    assert status == 1
    assert "nobody can tell what was looked for" in err
    status, out, _ = cli(*arguments, "--allow-missing", "--full-reference")
    assert status == 0
    assert "0.6667 (1)" in out


def test_references_from_the_preprocessed_data_where_the_raw_are_gone(cli, dataset, tmp_path):
    raw, preprocessed = dataset["nnUNet_raw"] / DATASET, dataset["nnUNet_preprocessed"] / DATASET
    (raw / "dataset.json").rename(preprocessed / "dataset.json")
    (raw / "labelsTr").rename(tmp_path / "gone")
    write_cases(tmp_path / "predictions", PREDICTIONS)
    assert cli("evaluate", "-d", 500, "-i", tmp_path / "predictions")[0] == 0


def test_a_sentence_for_a_dataset_that_is_not_there(cli, dataset, tmp_path):
    status, _, err = cli("evaluate", "-d", 499, "-i", tmp_path)
    assert status == 1
    assert "Could not find a dataset with the ID 499" in err


def test_model_selection_goes_by_our_dice(cli, model, monkeypatch):
    """Folders written by `evaluate --crossval`, read by the host as `--no_overwrite` has it, beside its own judgement."""
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))  # spawning takes seconds
    other = model.with_name(model.name.replace(TRAINER, "nnUNetTrainer"))
    make_model(other, predictions={**REFERENCES, "lits_1": [0, 0, 0, 1]})
    arguments = ("-d", 500, "--crossval", "-tr", TRAINER, "nnUNetTrainer", "-f", 0, 1)
    status, out, _ = cli("evaluate", *arguments)
    assert status == 0
    assert f"{TRAINER}__nnUNetPlans__3d_fullres, folds 0 1" in out
    merged = model / "crossval_results_folds_0_1"
    assert sorted(path.name for path in merged.iterdir()) == [
        "dataset.json", "lits_1.nii.gz", "lits_2.nii.gz", "msd_1.nii.gz", "msd_2.nii.gz", "plans.json", "summary.json"
    ]  # fmt: skip
    models = [{"plans": "nnUNetPlans", "configuration": "3d_fullres", "trainer": name} for name in (TRAINER, "nnUNetTrainer")]
    options = {"allow_ensembling": False, "num_processes": 1, "folds": (0, 1)}
    ours = find_best_configuration(500, models, overwrite=False, **options)
    assert ours["all_results"] == {model.name: pytest.approx(OUR_DICE), other.name: pytest.approx(0.75)}
    assert ours["best_model_or_ensemble"]["selected_model_or_models"][0]["trainer"] == TRAINER
    theirs = find_best_configuration(500, models, overwrite=True, **options)
    assert theirs["all_results"][model.name] < 0.5  # every organ found where nobody looked is an error
    assert theirs["best_model_or_ensemble"]["selected_model_or_models"][0]["trainer"] == "nnUNetTrainer"


def test_crossval_replaces_its_folder_and_names_the_files_there(cli, model):
    merged = model / "crossval_results_folds_0_1"
    merged.mkdir()
    (merged / "stale.nii.gz").write_text("")
    assert cli("evaluate", "-d", 500, "--crossval", "-f", 0, 1)[0] == 0
    assert not (merged / "stale.nii.gz").exists()
    summary = json.loads((merged / "summary.json").read_text(encoding="utf-8"))
    assert summary["metric_per_case"][0]["prediction_file"] == str(merged / "lits_1.nii.gz")
    assert not list(model.glob(".crossval*"))


def test_crossval_refuses(cli, model):
    status, _, err = cli("evaluate", "-d", 500, "--crossval")
    assert status == 1
    assert "no finished validation in fold_2, fold_3, fold_4" in err
    write_cases(model / "fold_1" / "validation", {"lits_1": [0, 0, 0, 0]})
    status, _, err = cli("evaluate", "-d", 500, "--crossval", "-f", 0, 1)
    assert status == 1
    assert "two folds predicted lits_1.nii.gz (fold_1 and fold_0)" in err
    assert not (model / "crossval_results_folds_0_1").exists()
    status, _, err = cli("evaluate", "-d", 500, "--crossval", "-c", "2d", "3d_lowres")
    assert status == 1
    assert f"{TRAINER}__nnUNetPlans__2d, {TRAINER}__nnUNetPlans__3d_lowres" in err
    status, _, err = cli("evaluate", "-d", 500, "--crossval", "--full-reference", "-o", "x.json")
    assert status == 1
    assert "--crossval does not take -o, --full-reference" in err
