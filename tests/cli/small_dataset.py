"""A dataset of four voxels a case, each source annotated for one organ, and a tiny model as our trainers would leave it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

DATASET = "Dataset500_Abdomen"
TRAINER = "nnUNetTrainerMarginalExclusion"
DATASET_JSON = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "spleen": 2},
    "numTraining": 4,
    "file_ending": ".nii.gz",
    "annotation": {
        "protocols": {"liver": {"labels": {1: ["liver"]}}, "spleen": {"labels": {2: ["spleen"]}}},
        "cases": {
            "lits_1": {"protocol": "liver", "source": "lits"},
            "lits_2": {"protocol": "liver", "source": "lits"},
            "msd_1": {"protocol": "spleen", "source": "msd"},
            "msd_2": {"protocol": "spleen", "source": "msd"},
        },
    },
}
REFERENCES = {"lits_1": [1, 1, 0, 0], "lits_2": [1, 1, 1, 0], "msd_1": [2, 0, 0, 0], "msd_2": [2, 2, 0, 0]}
# finds unannotated organs everywhere; liver 0.8 and 1, spleen 1 and 2/3
PREDICTIONS = {"lits_1": [1, 1, 1, 2], "lits_2": [1, 1, 1, 2], "msd_1": [2, 1, 1, 1], "msd_2": [2, 0, 1, 1]}
PLANS = {
    "dataset_name": DATASET,
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "experiment_planner_used": "ExperimentPlanner",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 0.0, "std": 1.0, "percentile_00_5": -3.0, "percentile_99_5": 3.0, "min": -3.0, "max": 3.0, "median": 0.0}
    },
    "partial": {"num_epochs": 2},
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [8, 8, 8],
            "spacing": [1.0, 1.0, 1.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "batch_dice": True,
            **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
            **{
                f"resampling_fn_{what}_kwargs": {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}
                for what in ("data", "seg", "probabilities")
            },
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [2, 4],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3]] * 2,
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}


def write_cases(folder: Path, cases: dict[str, Sequence[int]]) -> None:
    """Write label maps of four voxels."""
    folder.mkdir(parents=True, exist_ok=True)
    for identifier, labels in cases.items():
        image = SimpleITK.GetImageFromArray(np.array(labels, np.uint8).reshape(1, 2, 2))
        SimpleITK.WriteImage(image, str(folder / f"{identifier}.nii.gz"))


def make_model(folder: Path, *, predictions: dict[str, Sequence[int]]) -> None:
    """Write a model folder as our trainers leave it."""
    plans_manager = PlansManager(PLANS)
    configuration = plans_manager.get_configuration("3d_fullres")
    cases = list(predictions)
    for fold in (0, 1):
        validation = folder / f"fold_{fold}" / "validation"
        write_cases(validation, {identifier: predictions[identifier] for identifier in cases[fold::2]})
        (validation / "summary.json").write_text("{}")
        network = nnUNetTrainer.build_network_architecture(plans_manager, configuration, 1, 3, enable_deep_supervision=True)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {"momentum": torch.zeros(100_000)},
            "grad_scaler_state": None,
            "logging": {"train_losses": [1.0]},
            "_best_ema": 0.5,
            "current_epoch": 2,
            "init_args": {"configuration": "3d_fullres", "fold": fold, "plans": PLANS, "dataset_json": DATASET_JSON},
            "trainer_name": TRAINER,
            "inference_allowed_mirroring_axes": (0, 1),
            "partial": {"confidence_network": torch.zeros(100_000)},
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    for name, content in (("plans.json", PLANS), ("dataset.json", DATASET_JSON), ("dataset_fingerprint.json", {})):
        (folder / name).write_text(json.dumps(content))
