"""Whole runs of rounds on a small dataset, through the command."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from phantom_dataset import set_nnunet_folders

from nnunet_partial.cli import main
from nnunet_partial.pseudo_labels import confidence_training
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.training.arrays import open_array

DATASET, TRAINER = "Dataset701_Small", "nnUNetTrainerAmbiguity"
COMMAND = ["rounds", "-d", "701", "-f", "0", "-device", "cpu", "--epochs", "1", "--confidence-epochs", "1", "--disable_tta"]


@pytest.fixture
def root(small_dataset, tmp_path, monkeypatch) -> Path:
    """A copy of the planned dataset."""
    shutil.copytree(small_dataset, tmp_path / "nnunet")
    monkeypatch.setenv("nnUNet_extTrainer", "")
    torch.set_num_threads(1)
    return set_nnunet_folders(tmp_path / "nnunet", monkeypatch)


@pytest.fixture(scope="session")
def trained(small_dataset, tmp_path_factory) -> Path:
    """The same after round 0; its network was made to see livers, which two epochs of training would not."""
    root = tmp_path_factory.mktemp("trained") / "nnunet"
    shutil.copytree(small_dataset, root)
    with pytest.MonkeyPatch.context() as patch:
        set_nnunet_folders(root, patch)
        assert main([*COMMAND, "--criterion", "none", "--rounds", "1"]) == 0
    checkpoint = files(root, "none").checkpoint(0)
    shutil.rmtree(files(root, "none").results)
    state = torch.load(checkpoint, weights_only=False)
    state["network_weights"]["decoder.seg_layers.1.bias"][1] += 20
    torch.save(state, checkpoint)
    return root


@pytest.fixture
def after_round_0(trained, tmp_path, monkeypatch) -> Path:
    """A copy of the dataset with a trained fold."""
    shutil.copytree(trained, tmp_path / "nnunet")
    torch.set_num_threads(1)
    return set_nnunet_folders(tmp_path / "nnunet", monkeypatch)


def files(root: Path, name: str, trainer: str = TRAINER) -> RunFiles:
    fold = root / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"
    return RunFiles(fold, root / "nnUNet_preprocessed" / DATASET, name)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def label_maps(run: RunFiles, number: int) -> dict[str, np.ndarray]:
    return {path.name: open_array(path)[:] for path in sorted(run.round(number).labels.glob("*.b2nd"))}


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
class TestRun:
    def test_two_rounds_with_learned_confidence(self, after_round_0, capfd):
        human = after_round_0 / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_3d_fullres"
        before = contents(human)
        assert main([*COMMAND, "--rounds", "2"]) == 0
        run = files(after_round_0, "confidence")
        assert contents(human) == before, "human labels were touched"

        splits = json.loads((human.parent / "splits_final.json").read_text(encoding="utf-8"))
        labelled = {name.removesuffix("_seg.b2nd") for name in label_maps(run, 2)}
        assert labelled, "the network was made to see livers"
        assert labelled <= set(splits[0]["train"])
        for case in labelled:
            drawn, merged = open_array(human / f"{case}_seg.b2nd")[:], open_array(run.round(2).labels_of(case))[:]
            assert (merged[drawn != 0] == drawn[drawn != 0]).all()

        audit = json.loads((run.results / "audit.json").read_text(encoding="utf-8"))
        assert {row["round"] for row in audit["rows"]} == {0, 1, 2}
        assert (run.results / "audit.png").exists()
        assert "model: -chk checkpoint_confidence_round_2.pth" in capfd.readouterr().out

        checkpoint = torch.load(run.offered_checkpoint(2), weights_only=False)
        assert checkpoint["trainer_name"] == TRAINER
        assert not [name for name in checkpoint["network_weights"] if "head" in name or "backbone" in name]

        stamps = {path: path.stat().st_mtime_ns for path in run.preprocessed.rglob("*") if path.is_file()}
        assert main([*COMMAND, "--rounds", "2"]) == 0
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "a finished run did something again"

    def test_the_stock_predictor_runs_a_round_s_network(self, after_round_0, tmp_path):
        assert main([*COMMAND, "--criterion", "all"]) == 0
        run = files(after_round_0, "all")
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(run.fold.parent), (0,), run.offered_checkpoint(1).name)
        image = after_round_0 / "nnUNet_raw" / DATASET / "imagesTr" / "full_00_0000.nii.gz"
        predictor.predict_from_files_sequential([[str(image)]], [str(tmp_path / "full_00.nii.gz")])
        assert nib.load(tmp_path / "full_00.nii.gz").shape == (24, 24, 24)

    def test_killed_while_relabelling(self, after_round_0):
        """Half of the cases lose their records and one its labels, as if the run had ended there: the same comes out."""
        assert main([*COMMAND, "--criterion", "mcp", "--rounds", "2"]) == 0
        run = files(after_round_0, "mcp")
        expected = label_maps(run, 1)
        records = sorted((run.round(1).preprocessed / "cases").iterdir())
        for record in records[::2]:
            record.unlink()
        next(iter(run.round(1).labels.glob("*.b2nd"))).unlink()
        (run.round(1).labels / ".half.b2nd.1.tmp.b2nd").write_bytes(b"half")
        shutil.rmtree(run.round(1).training)
        shutil.rmtree(run.round(2).results)
        shutil.rmtree(run.round(2).preprocessed)
        for record in (run.round(1).preprocessed / "cases").glob("*.json"):
            if not run.round(1).labels_of(record.stem).exists():
                record.unlink()  # a record is written after its labels, so this cannot be left by a kill
        assert main([*COMMAND, "--criterion", "mcp", "--rounds", "2"]) == 0
        found = label_maps(run, 1)
        assert found.keys() == expected.keys()
        assert all((found[name] == expected[name]).all() for name in expected)

    def test_parts_relabel_what_one_process_would(self, after_round_0, monkeypatch):
        assert main([*COMMAND, "--criterion", "mcp", "--rounds", "1", "--name", "whole"]) == 0
        whole, shared = files(after_round_0, "whole"), files(after_round_0, "shared")
        command = [*COMMAND, "--criterion", "mcp", "--rounds", "1", "--name", "shared", "-num_parts", "2"]
        waited = []

        def other_part_works(seconds):
            """While part 0 waits, part 1 runs to its end."""
            waited.append(seconds)
            assert len(waited) == 1, "part 0 waits for what part 1 has done"
            assert main([*command, "-part_id", "1"]) == 0

        monkeypatch.setattr("nnunet_partial.pseudo_labels.rounds.time.sleep", other_part_works)
        assert main([*command, "-part_id", "0"]) == 0
        assert waited
        expected, found = label_maps(whole, 1), label_maps(shared, 1)
        assert found.keys() == expected.keys()
        assert all((found[name] == expected[name]).all() for name in expected)

    @pytest.mark.parametrize("trainer", ["nnUNetTrainerMarginalExclusion", "nnUNetTrainerNaive"])
    def test_any_of_our_trainers_from_the_begin(self, root, trainer):
        """Nothing is trained before: round 0 is."""
        assert main([*COMMAND, "-tr", trainer, "--rounds", "1"]) == 0
        assert files(root, "confidence", trainer).offered_checkpoint(1).exists()

    def test_soft_pseudo_labels(self, after_round_0):
        """The network of another trainer, under this one's name: they are the same network."""
        run = files(after_round_0, "mcp", "nnUNetTrainerMajorityLabels")
        shutil.copytree(files(after_round_0, "mcp").fold, run.fold)
        command = [*COMMAND, "-tr", "nnUNetTrainerMajorityLabels", "--criterion", "mcp", "--rounds", "2", "--soft"]
        assert main(command) == 0
        hard = label_maps(run, 2)
        soft = {path.name: open_array(path)[:] for path in run.round(2).soft_labels.glob("*.b2nd")}
        assert soft.keys() == hard.keys()
        for name, labels in soft.items():
            confident = labels >= 4  # behind the dataset's ids 0 to 3
            assert confident.any()
            assert (hard[name][~confident] == labels[~confident]).all()
        logged = torch.load(run.checkpoint(2), weights_only=False)["logging"]["train_losses"]
        assert np.isfinite(logged).all()

    def test_2d_with_a_frozen_network(self, root):
        assert main([*COMMAND, "-c", "2d", "--rounds", "1", "--confidence-mode", "frozen"]) == 0
        fold = root / "nnUNet_results" / DATASET / f"{TRAINER}__nnUNetPlans__2d" / "fold_0"
        assert (fold / "checkpoint_confidence_round_1.pth").exists()
        saved = torch.load(fold / "rounds/confidence/round_1/confidence/confidence_final.pth", weights_only=True)["model"]
        assert all(name.startswith("head.") for name in saved)


class TestRelabelOnly:
    """The first round's labels alone, by criteria whose passes are random."""

    RELABEL = ("rounds", "relabel", *COMMAND[1:], "--passes", "2")

    def scores(self, run: RunFiles) -> dict[str, bytes]:
        return {path.name: open_array(path)[:].tobytes() for path in (run.round(1).preprocessed / "scores").glob("*.b2nd")}

    @pytest.mark.parametrize("criterion", ["dropout", "augmentation"])
    def test_killed_or_shared_it_comes_out_the_same(self, after_round_0, criterion, capfd):
        command = [*self.RELABEL, "--criterion", criterion]
        assert main(command) == 0
        run = files(after_round_0, criterion)
        labels, scores = label_maps(run, 1), self.scores(run)
        assert labels, "the network was made to see livers"
        assert not run.round(1).training.exists()
        assert "model: -chk" not in capfd.readouterr().out

        for record in sorted((run.round(1).preprocessed / "cases").iterdir())[::2]:  # as a kill would leave it
            record.unlink()
            run.round(1).score_of(record.stem).unlink()
        assert main(command) == 0
        assert self.scores(run) == scores

        shared = [*command, "--name", "shared", "-num_parts", "2"]
        files(after_round_0, "shared").results.mkdir(parents=True)
        shutil.copy(run.description, files(after_round_0, "shared").description)
        change(files(after_round_0, "shared").description, lambda content: content["arguments"].update(name="shared"))
        assert main([*shared, "-part_id", "1"]) == 0
        assert main([*shared, "-part_id", "0"]) == 0
        assert self.scores(files(after_round_0, "shared")) == scores
        found = label_maps(files(after_round_0, "shared"), 1)
        assert found.keys() == labels.keys()
        assert all((found[name] == labels[name]).all() for name in labels)

    @pytest.mark.slow
    def test_the_run_goes_on_from_there(self, after_round_0):
        command = [*COMMAND, "--criterion", "mcp", "--rounds", "1"]
        assert main(["rounds", "relabel", *command[1:]]) == 0
        run = files(after_round_0, "mcp")
        rows = json.loads((run.results / "audit.json").read_text(encoding="utf-8"))["rows"]
        assert {row["round"] for row in rows} == {0, 1}
        assert all(row["dice"] is None for row in rows if row["round"] == 1)
        stamps = {path: path.stat().st_mtime_ns for path in run.preprocessed.rglob("*") if path.is_file()}
        assert main(command) == 0
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "what was relabelled is relabelled again"
        rows = json.loads((run.results / "audit.json").read_text(encoding="utf-8"))["rows"]
        assert any(row["dice"] is not None for row in rows if row["round"] == 1)
        audit = (run.results / "audit.json").read_bytes()
        assert main(["rounds", "relabel", *command[1:]]) == 0
        assert (run.results / "audit.json").read_bytes() == audit

    @pytest.mark.slow
    def test_noise_is_learned_killed_and_learned_on(self, after_round_0, monkeypatch):
        """Killed in its second epoch: what the first one learned stays, and the second one is done again."""
        command = [*self.RELABEL, "--criterion", "aleatoric", "--confidence-epochs", "2"]
        run = files(after_round_0, "aleatoric")
        curves = run.round(1).confidence / confidence_training.CURVES
        replacing, written = confidence_training.replacing, []

        def die_in_the_second_epoch(path):
            written.append(path.name)
            if written.count(confidence_training.LATEST) == 2:
                raise KeyboardInterrupt
            return replacing(path)

        with monkeypatch.context() as patch:
            patch.setattr(confidence_training, "replacing", die_in_the_second_epoch)
            assert main(command) != 0
        first = curves.read_text(encoding="utf-8").splitlines()[:2]
        assert main(command) == 0
        lines = curves.read_text(encoding="utf-8").splitlines()
        assert (lines[:2], len(lines)) == (first, 3)
        saved = torch.load(run.round(1).confidence / confidence_training.FINAL, weights_only=True)["model"]
        assert saved["head.layers.8.weight"].any(), "nothing was learned"
        assert label_maps(run, 1)

    @pytest.mark.slow
    def test_agreement_of_branches_that_a_training_has(self, root):
        """Two rounds: the second one ranks by branches that the first one carried on."""
        change(
            root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json",
            lambda plans: plans["partial"].update(consistency_start_epochs=1),
        )
        command = [*COMMAND, "-tr", "nnUNetTrainerCoraNet"]
        assert main([*command, "--criterion", "none", "--rounds", "1"]) == 0
        run = files(root, "branches", "nnUNetTrainerCoraNet")
        checkpoint = torch.load(run.checkpoint(0), weights_only=False)
        checkpoint["network_weights"]["decoder.seg_layers.1.bias"][1] += 20
        for branch in ("conservative", "radical"):
            checkpoint["partial"][f"branches.{branch}.1.bias"][0] += 3
        torch.save(checkpoint, run.checkpoint(0))
        shutil.rmtree(files(root, "none", "nnUNetTrainerCoraNet").results)
        assert main([*command, "--criterion", "branches", "--rounds", "2"]) == 0
        assert label_maps(run, 2)
        for number in (1, 2):
            learned = torch.load(run.checkpoint(number), weights_only=False)["partial"]
            assert learned["branches.radical.1.bias"][0] > 1.5, f"round {number} began with new branches"


class TestRefusals:
    def refused(self, capfd, *arguments) -> str:
        assert main([*COMMAND, *arguments]) == 1
        return capfd.readouterr().err

    def test_a_class_annotated_nowhere(self, root, capfd):
        def nobody_looks_for_kidneys(content):
            for case in content["annotation"]["cases"].values():
                case["protocol"] = "liver"

        change(root / "nnUNet_preprocessed" / DATASET / "dataset.json", nobody_looks_for_kidneys)
        said = self.refused(capfd)
        assert "nobody looked for kidney_left, kidney_right: nothing could learn to find it" in said

    def test_nothing_to_relabel(self, root, capfd):
        def everybody_looks_for_all(content):
            for case in content["annotation"]["cases"].values():
                case["protocol"] = "full"

        change(root / "nnUNet_preprocessed" / DATASET / "dataset.json", everybody_looks_for_all)
        assert "there is nothing to relabel" in self.refused(capfd)

    def test_other_plans(self, after_round_0, capfd):
        def finer(plans):
            plans["configurations"]["3d_fullres"]["spacing"] = [2.5, 2.5, 2.5]

        change(after_round_0 / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json", finer)
        assert "was trained by other plans (spacing differ)" in self.refused(capfd)

    def test_a_missing_parent(self, after_round_0, capfd):
        run = files(after_round_0, "confidence")
        run.round(1).results.mkdir(parents=True)
        run.checkpoint(0).unlink()
        assert "round 1 is there, but the network it was made from is missing" in self.refused(capfd)

    def test_a_trainer_of_nnunet_s_own(self, root, capfd):
        assert "nnUNetTrainer does not know who annotated what" in self.refused(capfd, "-tr", "nnUNetTrainer")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-p", "nnUNetPlansX"], "there are no plans"),
            (["-f", "first"], "a fold is a number, or all"),
            (["-num_parts", "2", "-part_id", "2"], "-part_id 2 of -num_parts 2 does not exist"),
            (["--criterion", "all", "--rounds", "2"], "criterion 'all' is one round"),
            (["--soft"], "nnUNetTrainerAmbiguity cannot learn from labels that are not certain; --soft takes"),
            (["--soft", "--criterion", "none"], "criterion 'none' makes no pseudo-labels; leave --soft out"),
            (["--criterion", "branches"], "nnUNetTrainerAmbiguity has no conservative and radical branch"),
            (["--criterion", "mcp", "--passes", "3"], "criterion 'mcp' takes no --passes, only dropout, augmentation, aleatoric"),
            (["--criterion", "dropout", "--noise", "0.2"], "criterion 'dropout' takes no --noise, only augmentation"),
            (["-o", "somewhere"], "belong to `nnunet_partial rounds export`"),
        ],
    )
    def test_arguments(self, root, capfd, arguments, message):
        assert message in self.refused(capfd, *arguments)

    def test_nothing_to_relabel_by(self, root, capfd):
        assert main(["rounds", "relabel", *COMMAND[1:], "--criterion", "none"]) == 1
        assert "criterion 'none' relabels nothing; let the rounds run" in capfd.readouterr().err

    def test_export_of_a_run_that_is_not_there(self, root, capfd, tmp_path):
        assert main(["rounds", "export", "-d", "701", "-o", str(tmp_path)]) == 1
        assert "no run 'confidence'" in capfd.readouterr().err
