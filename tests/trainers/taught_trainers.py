"""Trainers that learn from voxels with several candidate classes, made ready for a step; a batch for them."""

import json
from pathlib import Path

import numpy as np
import torch

from nnunet_partial.trainers import (
    nnUNetTrainerCoraNet,
    nnUNetTrainerEntropyMinimization,
    nnUNetTrainerMeanTeacher,
    nnUNetTrainerPiModel,
    nnUNetTrainerUncertaintyAwareMeanTeacher,
)

DATASET = "Dataset701_Small"
CPU = torch.device("cpu")
WITH_TEACHER = [nnUNetTrainerMeanTeacher, nnUNetTrainerCoraNet, nnUNetTrainerUncertaintyAwareMeanTeacher]
TAUGHT = [*WITH_TEACHER, nnUNetTrainerPiModel, nnUNetTrainerEntropyMinimization]


def trainer_of(cls, root: Path, change=lambda dataset_json: None, configuration: str = "3d_fullres", **settings):
    folder = root / "nnUNet_preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    plans["partial"] |= {"consistency_start_epochs": 0, "optimizer": "adamw", "initial_lr": 3e-3, **settings}
    change(dataset_json)
    return cls({**plans, "continue_training": False}, configuration, 0, dataset_json, CPU)


def ready(*args, epoch: int = 0, **settings):
    """A trainer at the beginning of an epoch, deep supervision on."""
    trainer = trainer_of(*args, **settings)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.current_epoch = epoch
    trainer.on_train_epoch_start()
    return trainer


def batch_of(trainer, *keys: str, seed: int = 0) -> dict:
    """A batch of whole cases, cut to the patch, with a label map a resolution."""
    generator = torch.Generator().manual_seed(seed)
    patch = trainer.configuration_manager.patch_size
    scales = trainer._get_deep_supervision_scales()
    datasets = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(keys))
    images, labels = [], []
    for key in keys:
        data, segmentation, *_ = datasets.load_case(key)
        corner = tuple(slice(0, size) for size in patch)
        images.append(torch.from_numpy(np.asarray(data[:])[(slice(None), *corner)]))
        labels.append(torch.from_numpy(np.asarray(segmentation[:])[(slice(None), *corner)].clip(0).astype(np.int16)))
    images = torch.stack(images).float()
    labels = torch.stack(labels)
    strides = [[round(1 / share) for share in scale] for scale in scales]
    targets = [labels[(..., *(slice(None, None, step) for step in steps))] for steps in strides]
    noise = 0.01 * torch.randn(images.shape, generator=generator)
    return {"data": images + noise, "target": targets, "keys": list(keys)}


def forget(*keys: str):
    """Nobody has annotated these cases."""

    def change(dataset_json):
        dataset_json["annotation"]["protocols"]["nothing"] = {"labels": {}}
        for key in keys:
            dataset_json["annotation"]["cases"][key]["protocol"] = "nothing"

    return change


def add_ignore_label(dataset_json: dict) -> None:
    dataset_json["labels"]["ignore"] = 4
    dataset_json["annotation"]["ignore_label"] = 4


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
