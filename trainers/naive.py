"""The baseline that every method here is held against."""

from nnunet_partial.training.planned_trainer import PlannedTrainer


class nnUNetTrainerNaive(PlannedTrainer):
    """Stock nnU-Net, loss and sampling untouched: what was not looked for is background.

    Only the length, the mirroring and the splits are those of the other trainers, so that a comparison differs in nothing but
    what is done with unannotated organs.
    """
