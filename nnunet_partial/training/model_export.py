"""A trained model as a zip that stock nnU-Net installs and runs where this package is not installed."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_partial.labels import replacing

STOCK_TRAINER = "nnUNetTrainer"
MODEL_FILES = ("dataset.json", "plans.json", "dataset_fingerprint.json")
# what nnU-Net's predictor and its -pretrained_weights read; optimizer state, curves and our own helpers stay behind
CHECKPOINT_KEYS = ("network_weights", "init_args", "inference_allowed_mirroring_axes", "current_epoch")


def export_model(
    model_folder: Path, folds: Sequence[str], output: Path, *, checkpoint_name: str = "checkpoint_final.pth"
) -> Path:
    """Write a model as <dataset>/nnUNetTrainer__<plans>__<configuration> into a zip.

    Args:
        model_folder: <results>/<dataset>/<trainer>__<plans>__<configuration>.
        folds: Fold numbers, or "all".
        output: The zip; it appears under this name only when it is whole.
        checkpoint_name: The checkpoint of each fold.

    Returns:
        The folder below nnUNet_results where the model will lie once installed.

    Raises:
        FileNotFoundError: files of the model are missing; all are listed.
        ValueError: the stock network does not take the weights.
    """
    checkpoints = {fold: model_folder / f"fold_{fold}" / checkpoint_name for fold in folds}
    missing = [
        str(file) for file in [*(model_folder / name for name in MODEL_FILES), *checkpoints.values()] if not file.is_file()
    ]
    if missing:
        raise FileNotFoundError(f"the model is not complete; missing: {', '.join(missing)}")
    _, plans, configuration = model_folder.name.split("__")
    installed = Path(model_folder.parent.name) / f"{STOCK_TRAINER}__{plans}__{configuration}"
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in MODEL_FILES:
            archive.write(model_folder / name, installed / name, zipfile.ZIP_DEFLATED)
        for fold, file in checkpoints.items():
            checkpoint = stock_checkpoint(torch.load(file, map_location="cpu", weights_only=False))
            _check_weights(model_folder, configuration, checkpoint["network_weights"], where=str(file))
            with archive.open(str(installed / f"fold_{fold}" / checkpoint_name), "w", force_zip64=True) as stream:
                torch.save(checkpoint, stream)
    return installed


def trained_folds(model_folder: Path, checkpoint_name: str = "checkpoint_final.pth") -> list[str]:
    """The folds that have the checkpoint; `fold_all` only where no other has."""
    found = sorted(path.parent.name.removeprefix("fold_") for path in model_folder.glob(f"fold_*/{checkpoint_name}"))
    return [fold for fold in found if fold != "all"] or found


def stock_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The part of a checkpoint that prediction needs, in the name of the stock trainer."""
    return {**{key: checkpoint[key] for key in CHECKPOINT_KEYS if key in checkpoint}, "trainer_name": STOCK_TRAINER}


def _check_weights(model_folder: Path, configuration: str, weights: dict[str, torch.Tensor], *, where: str) -> None:
    """Load the weights the way nnU-Net's predictor will."""
    plans_manager = PlansManager(str(model_folder / "plans.json"))
    configuration_manager = plans_manager.get_configuration(configuration)
    dataset_json = json.loads((model_folder / "dataset.json").read_text(encoding="utf-8"))
    network = nnUNetTrainer.build_network_architecture(
        plans_manager,
        configuration_manager,
        determine_num_input_channels(plans_manager, configuration_manager, dataset_json),
        plans_manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{where}: the network that stock nnU-Net builds from the plans does not take the weights: {error}"
        ) from None
