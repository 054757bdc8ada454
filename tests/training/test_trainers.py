"""Trainers on a small dataset, through nnU-Net's own entry points: train, resume, validate, predict, refuse."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.evaluation.evaluate_predictions import load_summary_json
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from phantom_dataset import offered_copy

from nnunet_partial.labels import LabelError
from nnunet_partial.paths import TRAINER_VARIABLE, offer_trainers
from nnunet_partial.trainers import nnUNetTrainerMarginal, nnUNetTrainerMarginalExclusion, nnUNetTrainerNaive

DATASET = "Dataset701_Small"
CPU = torch.device("cpu")


@pytest.fixture
def root(small_dataset, tmp_path, monkeypatch) -> Path:
    """A copy of the planned dataset, with our trainers offered to nnU-Net."""
    return offered_copy(small_dataset, tmp_path, monkeypatch)


def trainer_of(cls, root: Path, *, configuration="3d_fullres", fold=0, plans_change=None, dataset_change=None):
    folder = root / "nnUNet_preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (plans_change or (lambda _: None))(plans)
    (dataset_change or (lambda _: None))(dataset_json)
    return cls({**plans, "continue_training": False}, configuration, fold, dataset_json, CPU)


def folder_of(root: Path, trainer: str, configuration="3d_fullres", fold=0) -> Path:
    return root / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{configuration}" / f"fold_{fold}"


class TestLookUp:
    @pytest.mark.parametrize("cls", [nnUNetTrainerMarginal, nnUNetTrainerMarginalExclusion, nnUNetTrainerNaive])
    def test_nnunet_finds_one_and_the_same_class(self, cls, root):
        assert recursive_find_trainer_class_by_name(cls.__name__) is cls
        assert recursive_find_trainer_class_by_name(cls.__name__) is cls  # the search purges what it imported

    def test_other_folders_in_the_variable_stay(self, monkeypatch):
        monkeypatch.setenv("nnUNet_extTrainer", "/elsewhere")
        offer_trainers()
        offer_trainers()
        entries = os.environ[TRAINER_VARIABLE].split(os.pathsep)
        assert entries[0] == "/elsewhere"
        assert len(entries) == 2


@pytest.mark.slow
class TestTraining:
    @pytest.mark.parametrize(
        ("trainer", "configuration"),
        [("nnUNetTrainerMarginalExclusion", "3d_fullres"), ("nnUNetTrainerMarginal", "2d"), ("nnUNetTrainerNaive", "3d_fullres")],
    )
    def test_trains_validates_and_the_stock_predictor_runs_it(self, root, trainer, configuration, tmp_path):
        run_training("701", configuration, 0, trainer, device=CPU)
        folder = folder_of(root, trainer, configuration)
        summary = load_summary_json(str(folder / "validation" / "summary.json"))
        annotation = json.loads((root / "nnUNet_raw" / DATASET / "dataset.json").read_text(encoding="utf-8"))["annotation"]
        for case in summary["metric_per_case"]:
            key = Path(case["prediction_file"]).name.removesuffix(".nii.gz")
            if annotation["cases"][key]["protocol"] == "liver":
                assert np.isnan(case["metrics"][2]["Dice"])
                assert not np.isnan(case["metrics"][1]["Dice"])
        predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder.parent), (0,))
        assert predictor.allowed_mirroring_axes == ((0,) if configuration == "2d" else (0, 1))
        images = root / "nnUNet_raw" / DATASET / "imagesTr"
        predictor.predict_from_files(
            [[str(images / "full_00_0000.nii.gz")]],
            [str(tmp_path / "full_00.nii.gz")],
            num_processes_preprocessing=1,
            num_processes_segmentation_export=1,
        )
        prediction = nib.load(tmp_path / "full_00.nii.gz")
        assert prediction.shape == (24, 24, 24)
        assert np.isin(np.asarray(prediction.dataobj), range(4)).all()

    def test_a_checkpoint_is_a_stock_checkpoint(self, root):
        run_training("701", "3d_fullres", 0, "nnUNetTrainerMarginalExclusion", device=CPU)
        checkpoint = torch.load(folder_of(root, "nnUNetTrainerMarginalExclusion") / "checkpoint_final.pth", weights_only=False)
        stock = trainer_of(nnUNetTrainer, root)
        stock.initialize()
        stock.network.load_state_dict(checkpoint["network_weights"])
        assert not list(folder_of(root, "nnUNetTrainerMarginalExclusion").glob("*.tmp"))

    def test_a_killed_training_goes_on(self, root, monkeypatch):
        def die(trainer):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt
            nnUNetTrainer.on_epoch_start(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(nnUNetTrainerMarginalExclusion, "on_epoch_start", die)
            with pytest.raises(KeyboardInterrupt):
                run_training("701", "3d_fullres", 0, "nnUNetTrainerMarginalExclusion", device=CPU)
        folder = folder_of(root, "nnUNetTrainerMarginalExclusion")
        assert (folder / "checkpoint_latest.pth").exists()
        run_training("701", "3d_fullres", 0, "nnUNetTrainerMarginalExclusion", continue_training=True, device=CPU)
        checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
        assert checkpoint["current_epoch"] == 2
        assert len(checkpoint["logging"]["train_losses"]) == 2
        rows = [line.split(",")[:3] for line in (folder / "progress_classes.csv").read_text(encoding="utf-8").splitlines()[1:]]
        assert {epoch for epoch, _, _ in rows} == {"0", "1"}
        assert len(rows) == len(set(map(tuple, rows)))
        assert (folder / "progress_classes.png").exists()
        assert (folder / "validation" / "summary.json").exists()

    def test_stage_one_sees_fully_annotated_cases_alone(self, root, monkeypatch):
        seen = []
        step = nnUNetTrainerMarginal.train_step
        monkeypatch.setattr(
            nnUNetTrainerMarginal,
            "train_step",
            lambda self, batch: (seen.append((self.current_epoch, *batch["keys"])), step(self, batch))[1],
        )
        trainer = trainer_of(
            nnUNetTrainerMarginal,
            root,
            plans_change=lambda plans: plans["partial"].update(stage_one_epochs=1, num_iterations_per_epoch=6),
        )
        trainer.run_training()
        assert all(key.startswith("full") for epoch, *keys in seen if epoch == 0 for key in keys)
        assert any(not key.startswith("full") for epoch, *keys in seen if epoch == 1 for key in keys)

    def test_a_case_nobody_annotated_teaches_nothing(self, root):
        def forget_all(dataset):
            dataset["annotation"]["protocols"]["nothing"] = {"labels": {}}
            dataset["annotation"]["cases"]["liver_01"]["protocol"] = "nothing"

        trainer = trainer_of(nnUNetTrainerMarginalExclusion, root, dataset_change=forget_all)
        trainer.initialize()
        shapes = [
            [round(n * s) for n, s in zip(trainer.configuration_manager.patch_size, scale, strict=True)]
            for scale in trainer._get_deep_supervision_scales()
        ]
        image = torch.randn(2, 1, *trainer.configuration_manager.patch_size)
        batch = {"data": image, "target": [torch.zeros(2, 1, *shape, dtype=torch.int16) for shape in shapes]}
        assert trainer.train_step({**batch, "keys": ["liver_01", "liver_01"]})["loss"] == 0
        assert trainer.train_step({**batch, "keys": ["liver_01", "liver_04"]})["loss"] > 0

    def test_the_host_would_have_counted_unannotated_predictions_as_wrong(self, root):
        trainer = trainer_of(nnUNetTrainerMarginal, root)
        trainer.initialize()
        trainer.set_deep_supervision_enabled(True)
        batch = {"data": torch.randn(2, 1, *trainer.configuration_manager.patch_size), "keys": ["liver_01", "liver_04"]}
        sizes = [
            [round(n * s) for n, s in zip(trainer.configuration_manager.patch_size, scale, strict=True)]
            for scale in trainer._get_deep_supervision_scales()
        ]
        batch["target"] = [torch.zeros(2, 1, *size, dtype=torch.int16) for size in sizes]
        counts = trainer.validation_step(batch)
        assert counts["fp_hard"][1:].tolist() == [0, 0]
        assert counts["fn_hard"].tolist() == [0, 0, 0]


class TestRefusals:
    def test_a_dataset_without_annotation(self, root):
        with pytest.raises(LabelError, match="no 'annotation' block"):
            trainer_of(nnUNetTrainerMarginal, root, dataset_change=lambda dataset: dataset.pop("annotation"))

    def test_a_setting_that_does_not_exist(self, root):
        with pytest.raises(ValueError, match="no setting 'epochs'"):
            trainer_of(nnUNetTrainerMarginal, root, plans_change=lambda plans: plans["partial"].update(epochs=3))

    def test_a_class_that_no_training_case_could_teach(self, root):
        def forget_the_liver(dataset):
            for protocol in dataset["annotation"]["protocols"].values():
                protocol["labels"].pop("1", None)

        trainer = trainer_of(nnUNetTrainerMarginal, root, dataset_change=forget_the_liver)
        with pytest.raises(RuntimeError, match="no training case in which somebody looked for liver"):
            trainer.initialize()
        assert trainer.network is None

    def test_stage_one_without_a_fully_annotated_case(self, root):
        def forget_one_kidney(dataset):
            dataset["annotation"]["protocols"]["full"]["labels"] = {"1": ["liver"], "2": ["kidney_left", "kidney_right"]}

        def ask_for_stage_one(plans):
            plans["partial"].update(stage_one_epochs=1)

        trainer = trainer_of(nnUNetTrainerMarginal, root, dataset_change=forget_one_kidney, plans_change=ask_for_stage_one)
        with pytest.raises(RuntimeError, match="stage_one_epochs"):
            trainer.initialize()
