"""nnU-Net's three folders with a small partly annotated dataset, and a model trained on it (weights as they were drawn)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_dataset import DATASET, DATASET_JSON, PLANS, PREDICTIONS, REFERENCES, TRAINER, make_model, write_cases

from nnunet_partial.cli import main
from nnunet_partial.paths import FOLDER_VARIABLES, TRAINER_VARIABLE


@pytest.fixture
def cli(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a subcommand in this process: status, what it printed, what it complained of."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def folders(tmp_path, monkeypatch) -> dict[str, Path]:
    """nnU-Net's three folders, empty; its variables name them."""
    monkeypatch.delenv(TRAINER_VARIABLE, raising=False)
    found = {variable: tmp_path / variable for variable in FOLDER_VARIABLES}
    for variable, folder in found.items():
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    return found


@pytest.fixture
def dataset(folders) -> dict[str, Path]:
    """The dataset in nnUNet_raw, its references in nnUNet_preprocessed as well."""
    raw, preprocessed = folders["nnUNet_raw"] / DATASET, folders["nnUNet_preprocessed"] / DATASET
    for folder in (raw / "labelsTr", preprocessed / "gt_segmentations"):
        write_cases(folder, REFERENCES)
    (raw / "dataset.json").write_text(json.dumps(DATASET_JSON))
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(PLANS))
    return folders


@pytest.fixture
def model(dataset) -> Path:
    """A model with two folds, each validated on two of the cases."""
    folder = dataset["nnUNet_results"] / DATASET / f"{TRAINER}__nnUNetPlans__3d_fullres"
    make_model(folder, predictions=PREDICTIONS)
    return folder
