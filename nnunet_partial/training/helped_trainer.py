"""Training with helpers: where the annotation leaves several classes open, something besides it has a say."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_partial.labels import replacing
from nnunet_partial.targets import PartialTarget, TaughtTarget
from nnunet_partial.training.fine_tuning import FineTuning
from nnunet_partial.training.partial_trainer import PartialTrainer
from nnunet_partial.training.perturbation import with_noise
from nnunet_partial.training.precision import host_precision
from nnunet_partial.training.ramp_up import sigmoid_ramp_up

HELPERS_KEY = "partial"
"""Key of a checkpoint under which the networks lie that training alone needs."""


class HelpedTrainer(PartialTrainer):
    """Base of the trainers that learn from voxels of which the annotation leaves open what they are.

    The first epochs (`consistency_start_epochs`) teach from annotation alone. What is saved as the model is nnU-Net's own
    network; helpers lie beside it in checkpoints, so that a training can be resumed.

    Raises:
        RuntimeError: (in `initialize`) the training ends before the helpers begin. (In `load_checkpoint`) the checkpoint has no
            helpers to go on with.
    """

    def build_helpers(self) -> dict[str, nn.Module]:
        """The networks that training alone needs, by name."""
        return {}

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """The loss, called as `loss(output, TaughtTarget)`, or in validation as the loss by annotation is.

        Args:
            supervised: The loss by annotation, over all resolutions.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say what it learns where the annotation leaves classes open")

    def lessons(self, image: Tensor) -> dict[str, Tensor | float]:
        """What is said of a batch beside its annotation, by the attribute of `TaughtTarget`; asked without gradients."""
        return {}

    def student_view(self, image: Tensor) -> Tensor:
        """What the network that trains sees of a batch; validation shows it the image."""
        return image

    def noisy(self, image: Tensor) -> Tensor:
        """The image with noise, drawn anew at each call."""
        return with_noise(image, self.settings.teacher_noise, num_image_channels=len(self.dataset_json["channel_names"]))

    @property
    def epochs_taught(self) -> int:
        """Epochs since the helpers began; negative before."""
        return self.current_epoch - self.settings.consistency_start_epochs

    def fine_tune(self, fine_tuning: FineTuning) -> None:
        """Go on from another training, whose weights need no epochs on annotation alone."""
        super().fine_tune(fine_tuning)
        self.settings = self.settings.model_copy(update={"consistency_start_epochs": 0})

    def initialize(self) -> None:
        """The set-up of every trainer, and the networks that help."""
        self._refuse_beginning_too_late()
        super().initialize()
        self.helpers = nn.ModuleDict(self.build_helpers()).to(self.device)
        self.loss = self.build_taught_loss(self.loss)

    def train_step(self, batch: dict[str, Any]) -> dict:
        """The step of every trainer, on a target that knows what the other networks say."""
        batch = {**batch, "data": batch["data"].to(self.device, non_blocking=True), "lessons": {}}
        if self.epochs_taught >= 0:
            with torch.no_grad(), host_precision(self.device):
                batch["lessons"] = self.lessons(batch["data"])
        batch["data"] = self.student_view(batch["data"])
        return super().train_step(batch)

    def save_checkpoint(self, filename: str) -> None:
        """The host's checkpoint, and the other networks under a key of their own."""
        beside = f"{filename}.host"
        super().save_checkpoint(beside)
        if self.local_rank == 0 and not self.disable_checkpointing:
            checkpoint = torch.load(beside, map_location="cpu", weights_only=False)
            with replacing(Path(filename)) as temporary:  # the checkpoint is there with all of its networks, or not at all
                torch.save({**checkpoint, HELPERS_KEY: self.helpers.state_dict()}, temporary)
            Path(beside).unlink()

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """The host's checkpoint, and the other networks."""
        checkpoint = torch.load(filename_or_checkpoint, map_location="cpu", weights_only=False)
        if HELPERS_KEY not in checkpoint:
            raise RuntimeError(
                f"{filename_or_checkpoint} was written by {checkpoint['trainer_name']} and has no '{HELPERS_KEY}' networks for "
                f"{type(self).__name__} to go on with"
            )
        super().load_checkpoint(filename_or_checkpoint)
        self.helpers.load_state_dict(checkpoint[HELPERS_KEY])

    def _partial_target(self, batch: dict[str, Any]) -> PartialTarget | list[PartialTarget] | TaughtTarget:
        target = super()._partial_target(batch)
        if "lessons" not in batch:  # a validation batch
            return target
        weight = sigmoid_ramp_up(self.epochs_taught, self.settings.ramp_up_epochs) if self.epochs_taught >= 0 else 0.0
        return TaughtTarget(target, weight, **batch["lessons"])

    def _refuse_beginning_too_late(self) -> None:
        if self.settings.consistency_start_epochs >= self.num_epochs:
            raise RuntimeError(
                f"voxels that the annotation leaves open teach after {self.settings.consistency_start_epochs} epochs, but "
                f"training ends after {self.num_epochs}; plan again with --set consistency_start_epochs=0, or train with "
                f"nnUNetTrainerMarginal"
            )
