"""nnU-Net searches this folder (variable nnUNet_extTrainer); the trainers live in nnunet_partial.trainers."""

from nnunet_partial.trainers import (
    nnUNetTrainerAdversarial,
    nnUNetTrainerAmbiguity,
    nnUNetTrainerCoraNet,
    nnUNetTrainerEntropyMinimization,
    nnUNetTrainerMajorityLabels,
    nnUNetTrainerMarginal,
    nnUNetTrainerMarginalExclusion,
    nnUNetTrainerMeanTeacher,
    nnUNetTrainerNaive,
    nnUNetTrainerPiModel,
    nnUNetTrainerPriorAware,
    nnUNetTrainerSoftLabels,
    nnUNetTrainerUncertaintyAwareMeanTeacher,
)
