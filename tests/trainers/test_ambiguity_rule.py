"""`nnUNetTrainerAmbiguity` end to end: trained in seconds, predicted by stock nnU-Net, held against the paper's rule."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from phantom_dataset import set_nnunet_folders

from nnunet_partial.losses import AmbiguityLoss
from nnunet_partial.paths import offer_trainers
from nnunet_partial.trainers import nnUNetTrainerAmbiguity
from nnunet_partial.training.model_export import export_model

DATASET = "Dataset701_Small"
CASES = ("full_00", "kidney_02")
CPU = torch.device("cpu")
TIE = 1e-5  # a gap of float32 probabilities' logarithms that may be rounding


def offer(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.setenv("nnUNet_extTrainer", "")
    offer_trainers()
    torch.set_num_threads(1)
    return set_nnunet_folders(folder, patch)


def trainer_of(cls, root: Path, **settings):
    folder = root / "nnUNet_preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    plans["partial"].update(settings)
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return cls({**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, CPU)


@pytest.fixture
def planned(small_dataset, tmp_path, monkeypatch) -> Path:
    """A copy of the planned dataset with our trainers offered to nnU-Net."""
    shutil.copytree(small_dataset, tmp_path / "nnunet")
    return offer(tmp_path / "nnunet", monkeypatch)


@pytest.fixture(scope="module")
def trained(small_dataset, tmp_path_factory):
    """The same with a model trained for its two epochs."""
    folder = tmp_path_factory.mktemp("ambiguity") / "nnunet"
    shutil.copytree(small_dataset, folder)
    with pytest.MonkeyPatch.context() as patch:
        offer(folder, patch)
        torch.manual_seed(0)
        np.random.seed(0)
        run_training("701", "3d_fullres", 0, "nnUNetTrainerAmbiguity", device=CPU)
        yield folder


@pytest.fixture(scope="module")
def predictions(trained) -> Path:
    """What the stock command makes of two cases, probabilities beside the label maps."""
    (trained / "in").mkdir()
    for case in CASES:
        shutil.copy(trained / "nnUNet_raw" / DATASET / "imagesTr" / f"{case}_0000.nii.gz", trained / "in")
    command = [Path(sys.executable).with_name("nnUNetv2_predict"), "-d", "701", "-c", "3d_fullres", "-f", "0"]
    command += ["-tr", "nnUNetTrainerAmbiguity", "-i", trained / "in", "-o", trained / "out", "--save_probabilities"]
    command += ["-device", "cpu", "-npp", "1", "-nps", "1"]
    done = subprocess.run(command, capture_output=True, timeout=600, check=False, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stderr[-3000:]
    return trained / "out"


def model_of(root: Path) -> Path:
    return root / "nnUNet_results" / DATASET / "nnUNetTrainerAmbiguity__nnUNetPlans__3d_fullres"


def test_nnunet_finds_one_and_the_same_class(planned):
    assert recursive_find_trainer_class_by_name("nnUNetTrainerAmbiguity") is nnUNetTrainerAmbiguity
    assert recursive_find_trainer_class_by_name("nnUNetTrainerAmbiguity") is nnUNetTrainerAmbiguity


def test_the_plans_say_what_dice_weighs(planned):
    for weight in (0, 0.5):
        loss = trainer_of(nnUNetTrainerAmbiguity, planned, weight_ambiguity_dice=weight).build_partial_loss()
        assert isinstance(loss, AmbiguityLoss)
        assert loss.weight_dice == weight
    with pytest.raises(ValueError, match="weight_ambiguity_dice"):
        trainer_of(nnUNetTrainerAmbiguity, planned, weight_ambiguity_dice=-1)


@pytest.mark.slow
@pytest.mark.parametrize("weight_dice", [0, 0.5])
def test_a_step_with_and_without_dice(planned, weight_dice):
    trainer = trainer_of(nnUNetTrainerAmbiguity, planned, weight_ambiguity_dice=weight_dice)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    patch = trainer.configuration_manager.patch_size
    sizes = [[round(n * s) for n, s in zip(patch, scale, strict=True)] for scale in trainer._get_deep_supervision_scales()]
    batch = {"data": torch.randn(2, 1, *patch), "target": [torch.zeros(2, 1, *size, dtype=torch.int16) for size in sizes]}
    batch["keys"] = ["liver_01", "kidney_02"]
    first = trainer.train_step(batch)["loss"]
    assert np.isfinite(first)
    assert trainer.train_step(batch)["loss"] < first


@pytest.mark.slow
class TestTrained:
    def test_its_losses_are_finite(self, trained):
        logging = torch.load(model_of(trained) / "fold_0" / "checkpoint_final.pth", weights_only=False)["logging"]
        assert len(logging["train_losses"]) == 2
        assert np.isfinite([*logging["train_losses"], *logging["val_losses"]]).all()

    def test_its_export_is_a_stock_checkpoint(self, trained, tmp_path):
        export_model(model_of(trained), ["0"], tmp_path / "model.zip")
        with zipfile.ZipFile(tmp_path / "model.zip") as archive:
            archive.extractall(tmp_path)
        (file,) = tmp_path.glob("*/nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth")
        checkpoint = torch.load(file, weights_only=True)
        assert checkpoint["trainer_name"] == "nnUNetTrainer"
        stock = trainer_of(nnUNetTrainer, trained)
        stock.initialize()
        stock.network.load_state_dict(checkpoint["network_weights"])

    @pytest.mark.parametrize("case", CASES)
    def test_stock_prediction_is_the_rule_of_the_paper(self, predictions, case):
        """The organ with the highest sigmoid(d_k), background where all are below 0.5 (Petit et al. 2021, section 3.1.1).

        The host adds tiles in half precision, which makes exact ties of some voxels in the corners of the volume; there the
        label has to be one of the best.
        """
        p = np.load(predictions / f"{case}.npz")["probabilities"].astype(np.float64)  # (C, z, y, x)
        labels = np.asarray(nib.load(predictions / f"{case}.nii.gz").dataobj).T.astype(int)
        gaps = np.log(p[1:]) - np.log(p[:1])  # d_k
        assert np.isfinite(gaps).all()
        assert len(np.unique(labels)) > 2  # two epochs teach little, but a rule is not followed by chance
        rule = np.where(gaps.max(0) > 0, gaps.argmax(0) + 1, 0)
        second, best = np.sort(np.concatenate([np.zeros_like(gaps[:1]), gaps]), axis=0)[-2:]  # background's gap is 0
        clear = best - second > TIE
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(labels[clear], rule[clear])
        chosen = np.take_along_axis(np.concatenate([np.zeros_like(gaps[:1]), gaps]), labels[None], axis=0)[0]
        assert (best - chosen <= TIE).all()
