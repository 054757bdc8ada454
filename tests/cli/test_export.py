"""`nnunet_partial export`: a zip that stock nnU-Net installs and runs where this package cannot be imported."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from small_dataset import DATASET

from nnunet_partial.training.model_export import export_model, stock_checkpoint, trained_folds

INSTALLED = f"{DATASET}/nnUNetTrainer__nnUNetPlans__3d_fullres"
PREDICT_ELSEWHERE = """
import sys
sys.modules["nnunet_partial"] = None  # importing it fails from here on
import numpy as np, torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.paths import nnUNet_results
zip_file, out = sys.argv[1:]
install_model_from_zip_file(zip_file)
predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
predictor.initialize_from_trained_model_folder(f"{nnUNet_results}/INSTALLED", use_folds=(0, 1))
assert predictor.trainer_name == "nnUNetTrainer" and predictor.allowed_mirroring_axes == (0, 1)
image = np.random.default_rng(0).normal(size=(1, 10, 12, 9)).astype(np.float32)
np.save(out, predictor.predict_single_npy_array(image, {"spacing": [1.0, 1.0, 1.0]}))
""".replace("INSTALLED", INSTALLED)


def test_stock_nnunet_installs_and_predicts_without_this_package(cli, model, tmp_path):
    status, out, _ = cli("export", "-d", 500, "-o", tmp_path / "zips" / "model.zip")
    assert status == 0
    assert "nnUNetv2_install_pretrained_model_from_zip" in out
    assert "nnUNetv2_predict -d 500 -c 3d_fullres -p nnUNetPlans -f 0 1" in out
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "nnUNet_results": str(tmp_path / "elsewhere")}
    command = [sys.executable, "-c", PREDICT_ELSEWHERE, str(tmp_path / "zips" / "model.zip"), str(tmp_path / "seg.npy")]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    segmentation = np.load(tmp_path / "seg.npy")
    assert segmentation.shape == (10, 12, 9)
    assert set(np.unique(segmentation)) <= {0, 1, 2}


def test_what_is_in_the_zip(cli, model, tmp_path):
    assert cli("export", "-d", 500, "-f", 1, "-o", tmp_path / "model.zip")[0] == 0
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert sorted(archive.namelist()) == [
            f"{INSTALLED}/{name}"
            for name in ("dataset.json", "dataset_fingerprint.json", "fold_1/checkpoint_final.pth", "plans.json")
        ]
        archive.extractall(tmp_path)
    checkpoint = torch.load(tmp_path / INSTALLED / "fold_1" / "checkpoint_final.pth", weights_only=True)
    original = torch.load(model / "fold_1" / "checkpoint_final.pth", weights_only=False)
    assert sorted(checkpoint) == [
        "current_epoch", "inference_allowed_mirroring_axes", "init_args", "network_weights", "trainer_name"
    ]  # fmt: skip
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["inference_allowed_mirroring_axes"] == original["inference_allowed_mirroring_axes"]
    assert all(torch.equal(checkpoint["network_weights"][name], value) for name, value in original["network_weights"].items())


def test_the_original_checkpoint_is_left_alone():
    checkpoint = {"network_weights": {}, "init_args": {}, "trainer_name": "nnUNetTrainerMarginal", "partial": {}}
    assert stock_checkpoint(checkpoint) == {"network_weights": {}, "init_args": {}, "trainer_name": "nnUNetTrainer"}
    assert checkpoint["trainer_name"] == "nnUNetTrainerMarginal"


def test_weights_the_stock_network_does_not_take_leave_no_zip(model, tmp_path):
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["network_weights"]["confidence.weight"] = torch.zeros(1)
    torch.save(checkpoint, file)
    with pytest.raises(ValueError, match=r"fold_0.checkpoint_final\.pth: the network .* does not take the weights"):
        export_model(model, ["0"], tmp_path / "model.zip")
    assert list(tmp_path.glob("*model.zip*")) == []


def test_trained_folds(tmp_path):
    for fold in ("3", "0", "all", "1"):
        (tmp_path / f"fold_{fold}").mkdir()
    for fold in ("3", "0", "all"):
        (tmp_path / f"fold_{fold}" / "checkpoint_final.pth").touch()
    assert trained_folds(tmp_path) == ["0", "3"]
    assert trained_folds(tmp_path, "checkpoint_best.pth") == []
    (tmp_path / "fold_all" / "checkpoint_best.pth").touch()
    assert trained_folds(tmp_path, "checkpoint_best.pth") == ["all"]


def test_refuses_what_is_not_there(cli, model, tmp_path):
    status, _, err = cli("export", "-d", 500, "-tr", "nnUNetTrainer", "-o", tmp_path / "model.zip")
    assert status == 1
    assert f"trained are: {model.name}" in err
    (model / "dataset_fingerprint.json").unlink()
    status, _, err = cli("export", "-d", 500, "-f", 0, 4, "-o", tmp_path / "model.zip")
    assert status == 1
    assert "dataset_fingerprint.json" in err
    assert "fold_4" in err
    status, _, err = cli("export", "-d", 500, "-chk", "checkpoint_best.pth", "-o", tmp_path / "model.zip")
    assert status == 1
    assert "is the training finished?" in err
    status, _, err = cli("export", "-d", 500, "-o", tmp_path / "model")
    assert status == 1
    assert "must end in .zip" in err
