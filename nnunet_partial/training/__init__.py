"""The one seam to nnU-Net: base trainer, settings, splits, balanced sampling, online metrics."""

from nnunet_partial.training.partial_trainer import PartialTrainer, PlannedTrainer
from nnunet_partial.training.settings import SETTINGS_KEY, TrainingSettings

__all__ = ["SETTINGS_KEY", "PartialTrainer", "PlannedTrainer", "TrainingSettings"]
