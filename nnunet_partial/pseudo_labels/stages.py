"""The trainings of a run: the fold's own, and one after each round."""

import json
import os
import shutil
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from nnunet_partial.labels import replacing
from nnunet_partial.paths import offer_trainers
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.pseudo_labels.request import RoundsRequest
from nnunet_partial.training.fine_tuning import FineTuning
from nnunet_partial.training.planned_trainer import PlannedTrainer

SUMMARY = "summary.json"


def make_trainer(request: RoundsRequest, device: torch.device, *, continue_training: bool = False) -> PlannedTrainer:
    """The trainer of a run, as nnU-Net makes it.

    Raises:
        NotImplementedError: it is none of this package's, trains what rounds cannot predict, or cannot learn what is asked.
    """
    offer_trainers()
    trainer = get_trainer_from_args(
        request.dataset, request.configuration, request.fold, request.trainer, request.plans, continue_training, device
    )
    if not isinstance(trainer, PlannedTrainer):
        raise NotImplementedError(
            f"{request.trainer} does not know who annotated what; rounds take this package's trainers, such as "
            "nnUNetTrainerAmbiguity"
        )
    if trainer.is_cascaded:
        raise NotImplementedError(
            f"configuration {request.configuration} is the second stage of a cascade; run rounds on "
            f"{trainer.configuration_manager.previous_stage_name}, or on 3d_fullres"
        )
    if request.criterion == "branches" and not trainer.has_branches:
        raise NotImplementedError(
            f"{request.trainer} has no conservative and radical branch whose agreement could rank; --criterion branches takes "
            "nnUNetTrainerCoraNet"
        )
    if request.soft and not trainer.takes_soft_labels:
        raise NotImplementedError(
            f"{request.trainer} cannot learn from labels that are not certain; --soft takes nnUNetTrainerMajorityLabels, or "
            "nnUNetTrainerSoftLabels where several annotators drew cases"
        )
    return trainer


def train_first(run: RunFiles, request: RoundsRequest, device: torch.device) -> None:
    """Train the fold on human labels and validate it, unless that is done; what `nnUNetv2_train ... --c` does."""
    if not is_done(run, request, 0):
        _run(make_trainer(request, device, continue_training=True), with_validation=request.fold != "all")


def fine_tune(run: RunFiles, request: RoundsRequest, number: int, device: torch.device) -> None:
    """Train on with a round's labels from the network before it, unless that is done; goes on where a killed training stopped."""
    files = run.round(number)
    if not is_done(run, request, number):
        trainer = make_trainer(request, device, continue_training=True)
        trainer.fine_tune(
            FineTuning(
                initial_checkpoint=run.checkpoint(number - 1),
                output_folder=files.training,
                num_epochs=request.epochs,
                initial_lr=request.initial_lr,
                labels=(files.soft_labels if request.soft else files.labels) if request.relabels else None,
                confident=request.soft,
            )
        )
        _run(trainer, with_validation=request.fold != "all")
    _offer(files.checkpoint, run.offered_checkpoint(number))


def is_done(run: RunFiles, request: RoundsRequest, number: int) -> bool:
    """Whether the network after a round is trained and, unless the fold is `all`, its validation cases are predicted."""
    return run.checkpoint(number).exists() and (request.fold == "all" or (run.validation(number) / SUMMARY).exists())


def ranking_trainer(run: RunFiles, request: RoundsRequest, number: int, device: torch.device) -> PlannedTrainer:
    """An initialised trainer with the network whose predictions a round relabels, on human labels; its logs go to the round."""
    trainer = make_trainer(request, device)
    folder = run.round(number).results
    trainer.fine_tune(FineTuning(run.checkpoint(number - 1), folder, num_epochs=1, initial_lr=request.initial_lr))
    trainer.initialize()
    return trainer


def mirror_axes(checkpoint: Path) -> tuple[int, ...]:
    """The axes along which a network's predictions may be mirrored."""
    return tuple(torch.load(checkpoint, map_location="cpu", weights_only=False)["inference_allowed_mirroring_axes"] or ())


def training_cases(trainer: PlannedTrainer) -> list[str]:
    """The fold's training cases."""
    training, _ = trainer.do_split()
    return sorted(map(str, training))


def planned(dataset: Path, plans: str) -> tuple[dict, dict]:
    """A dataset's description and plans, as preprocessing left them.

    Raises:
        FileNotFoundError: the dataset was not planned under this name.
    """
    files = dataset / "dataset.json", dataset / f"{plans}.json"
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"missing: {', '.join(missing)}; run `nnunet_partial plan` first, or name other plans with -p")
    dataset_json, plans_json = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return dataset_json, plans_json


def _run(trainer: PlannedTrainer, *, with_validation: bool) -> None:
    is_trained = (Path(trainer.output_folder) / "checkpoint_final.pth").exists()
    maybe_load_checkpoint(trainer, continue_training=not is_trained, validation_only=is_trained)
    if not is_trained:
        trainer.run_training()
    if with_validation:
        trainer.perform_actual_validation()


def _offer(checkpoint: Path, offered: Path) -> None:
    """Put a round's network where `nnUNetv2_predict -chk` finds it; a link where the disk has them."""
    if offered.exists() and offered.stat().st_mtime >= checkpoint.stat().st_mtime:
        return
    with replacing(offered) as temporary:
        try:
            os.link(checkpoint, temporary)
        except OSError:
            shutil.copyfile(checkpoint, temporary)
