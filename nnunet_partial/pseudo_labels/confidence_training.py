"""Training of the network that ranks a round's predictions: on human labels, where the truth is known.

Petit et al. 2021, algorithm 2, train a confidence network so; the noise of `aleatoric` (Kendall & Gal 2017) is learned alike.
"""

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nnunet_partial.labels import replacing
from nnunet_partial.losses.aleatoric import expected_log_odds, noisy_cross_entropy
from nnunet_partial.losses.confidence import confidence_loss
from nnunet_partial.networks import ConfidenceModel, RankingModel, VarianceModel
from nnunet_partial.pseudo_labels.request import RoundsRequest
from nnunet_partial.targets import PartialTarget, ProtocolTables, ambiguity_map, positive_map
from nnunet_partial.training.epoch_bar import EpochBar
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.planned_trainer import PlannedTrainer
from nnunet_partial.training.precision import host_precision

FINAL, LATEST, CURVES = "confidence_final.pth", "confidence_latest.pth", "progress.csv"
COLUMNS = ("epoch", "train_loss", "val_loss", "val_auc_confidence", "val_auc_mcp", "seconds")
LAST_LR = 0.1  # of the first: the paper's 1e-4 falls to 1e-5


@dataclass(frozen=True)
class ConfidenceSettings:
    """How the network that ranks is made and trained.

    Attributes:
        criterion: confidence = regression of the True Class Probability; aleatoric = the noise of the log-odds.
        num_epochs: Epochs, as long as those of the plans.
        initial_lr: Learning rate of Adam at the first epoch; it falls exponentially to a tenth.
        widths: Channels of its hidden convolutions; None for 2, 1, 1 and 1 times the network's last features.
        frozen: Train on the frozen segmentation network's features; else on a duplicate that learns too.
        num_samples: How often noise is drawn for the loss of `aleatoric`.
    """

    num_epochs: int
    initial_lr: float
    widths: tuple[int, ...] | None = None
    frozen: bool = False
    criterion: Literal["confidence", "aleatoric"] = "confidence"
    num_samples: int = 10

    @classmethod
    def of(cls, request: RoundsRequest) -> "ConfidenceSettings":
        """What a run of rounds asks for."""
        return cls(
            num_epochs=request.confidence_epochs,
            initial_lr=request.confidence_lr,
            widths=request.confidence_widths,
            frozen=request.confidence_frozen,
            criterion=request.criterion,
            num_samples=request.passes,
        )


@dataclass(frozen=True)
class Patches:
    """What a ranking network learns from.

    Attributes:
        image: (B, channels, *S).
        predicted: Whether the segmentation network predicted the class, (B, K, *S).
        log_odds: What it says of each class, (B, K, *S).
        target: What the annotators knew.
    """

    image: Tensor
    predicted: Tensor
    log_odds: Tensor
    target: PartialTarget


def confidence_model(trainer: PlannedTrainer, settings: ConfidenceSettings) -> RankingModel:
    """The network to train, or to load `confidence_final.pth` into."""
    num_classes = len(trainer.annotation.space.classes)
    model = {"confidence": ConfidenceModel, "aleatoric": VarianceModel}[settings.criterion]
    options = {"widths": settings.widths, "frozen": settings.frozen}
    return model(bare(trainer.network), num_classes, trainer.log_odds, **options).to(trainer.device)


def load_confidence(trainer: PlannedTrainer, settings: ConfidenceSettings, folder: Path) -> RankingModel:
    """The trained network of a round, ready to predict."""
    model = confidence_model(trainer, settings)
    _load_model(model, torch.load(folder / FINAL, map_location="cpu", weights_only=True)["model"])
    return model.eval()


def train_confidence(trainer: PlannedTrainer, settings: ConfidenceSettings, folder: Path) -> None:
    """Train a network that ranks what a segmentation network predicts; goes on where a killed training stopped.

    Args:
        trainer: Initialised, with the segmentation network's weights, on human labels.
        settings: How.
        folder: Where confidence_final.pth, the curves and, on the way, confidence_latest.pth are written.
    """
    if (folder / FINAL).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    try:
        _ConfidenceTraining(trainer, settings, folder).run()
    finally:
        trainer.finish_workers()


class _ConfidenceTraining:
    def __init__(self, trainer: PlannedTrainer, settings: ConfidenceSettings, folder: Path):
        self.trainer, self.settings, self.folder, self.device = trainer, settings, folder, trainer.device
        self.tables = ProtocolTables(trainer.annotation)
        trainer.set_deep_supervision_enabled(False)
        self.segmentation = bare(trainer.network).eval()
        self.model = confidence_model(trainer, settings)
        self.lesson = {"confidence": self._confidence, "aleatoric": self._noise}[settings.criterion]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, settings.initial_lr)
        decay = LAST_LR ** (1 / max(settings.num_epochs - 1, 1))
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, decay)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.device.type == "cuda")
        self.epoch, self.rows = 0, []
        self._resume()

    def run(self) -> None:
        bar = EpochBar()
        for epoch in range(self.epoch, self.settings.num_epochs):
            began = time.monotonic()
            bar.open(epoch, self.settings.num_epochs, self.trainer.num_iterations_per_epoch)
            losses = []
            for batch in _batches(self.trainer.dataloader_train, self.trainer.num_iterations_per_epoch):
                losses.append(self._step(batch))
                bar.advance()
            bar.close()
            self.schedule.step()
            self._finish_epoch(epoch, float(torch.stack(losses).mean()), time.monotonic() - began)
        with replacing(self.folder / FINAL) as temporary:
            torch.save({"model": _own_state(self.model)}, temporary)
        (self.folder / LATEST).unlink(missing_ok=True)

    def _step(self, batch: dict[str, Any]) -> Tensor:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with host_precision(self.device):
            loss, _ = self.lesson(self._patches(batch))
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _confidence(self, patches: Patches) -> tuple[Tensor, Tensor]:
        """The loss, and the log-odds (B, K, *S) that what was decided is right."""
        confidence = self.model(patches.image, patches.predicted)
        return confidence_loss(confidence, patches.log_odds, patches.target), confidence

    def _noise(self, patches: Patches) -> tuple[Tensor, Tensor]:
        """The same; the log-odds are those of each class."""
        mean, log_variance = self.model(patches.image)
        loss = noisy_cross_entropy(mean, log_variance, patches.target, num_samples=self.settings.num_samples)
        return loss, expected_log_odds(mean, log_variance)

    @torch.no_grad()
    def _patches(self, batch: dict[str, Any]) -> Patches:
        image, target = self._on_device(batch)
        logits = self.segmentation(image)
        return Patches(image, predicted_classes(logits), self.trainer.log_odds(logits), target)

    @torch.no_grad()
    def _finish_epoch(self, epoch: int, train_loss: float, seconds: float) -> None:
        self.model.eval()
        losses, right, learned, mcp = [], [], [], []
        for batch in _batches(self.trainer.dataloader_val, self.trainer.num_val_iterations_per_epoch):
            with host_precision(self.device):
                patches = self._patches(batch)
                loss, confidence = self.lesson(patches)
            losses.append(loss)
            ranked = patches.predicted & ambiguity_map(patches.target)  # whether rightly is known
            right.append(positive_map(patches.target)[ranked].cpu())
            learned.append(confidence[ranked].float().cpu())
            mcp.append(patches.log_odds[ranked].float().cpu())
        areas = [_auc(torch.cat(right).numpy(), torch.cat(scores).numpy()) for scores in (learned, mcp)]
        self.rows.append([epoch, train_loss, float(torch.stack(losses).mean()), *areas, seconds])
        self._write_curves()
        print(
            f"{self.settings.criterion} network, epoch {epoch + 1}/{self.settings.num_epochs}: loss {train_loss:.4f}, validation "
            f"{self.rows[-1][2]:.4f}, AUC {areas[0]:.3f} (MCP {areas[1]:.3f}), {seconds:.0f} s",
            flush=True,
        )
        state = {name: getattr(self, name).state_dict() for name in ("optimizer", "schedule", "scaler")}
        with replacing(self.folder / LATEST) as temporary:
            torch.save({**state, "model": _own_state(self.model), "epoch": epoch + 1, "rows": self.rows}, temporary)

    def _resume(self) -> None:
        if not (self.folder / LATEST).exists():
            return
        state = torch.load(self.folder / LATEST, map_location=self.device, weights_only=True)
        _load_model(self.model, state["model"])
        for name in ("optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.epoch, self.rows = state["epoch"], state["rows"]

    def _on_device(self, batch: dict[str, Any]) -> tuple[Tensor, PartialTarget]:
        labels = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
        target = self.tables.target(labels, batch["keys"]).to(self.device, non_blocking=True)
        return batch["data"].to(self.device, non_blocking=True), target

    def _write_curves(self) -> None:
        with replacing(self.folder / CURVES) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([row[0], *(f"{value:.5f}" for value in row[1:])] for row in self.rows)


def _batches(loader: Any, count: int) -> Iterator[dict[str, Any]]:
    for _ in range(count):
        yield next(loader)


def predicted_classes(logits: Tensor) -> Tensor:
    """(B, C, *S) -> (B, K, *S) bool: the class has the largest logit."""
    classes = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (logits.ndim - 2))
    return logits.argmax(1, keepdim=True) == classes


def _auc(right: np.ndarray, scores: Sequence[float]) -> float:
    return float(roc_auc_score(right, scores)) if 0 < right.sum() < len(right) else float("nan")


def _own_state(model: RankingModel) -> dict[str, Tensor]:
    """What was trained; a frozen backbone is the segmentation network's own and is not written again."""
    return {name: value for name, value in model.state_dict().items() if not (model.frozen and name.startswith("backbone."))}


def _load_model(model: RankingModel, state: dict[str, Tensor]) -> None:
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [*unexpected, *(name for name in missing if not (model.frozen and name.startswith("backbone.")))]
    if wrong:
        raise ValueError(f"the ranking network was made with other settings ({len(wrong)} tensors differ, such as {wrong[0]})")
