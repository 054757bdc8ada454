"""nnU-Net searches this folder (variable nnUNet_extTrainer); the trainers live in nnunet_partial.trainers."""

from nnunet_partial.trainers import (
    nnUNetTrainerAdversarial,
    nnUNetTrainerAmbiguity,
    nnUNetTrainerCoraNet,
    nnUNetTrainerMajorityLabels,
    nnUNetTrainerMarginal,
    nnUNetTrainerMarginalExclusion,
    nnUNetTrainerMeanTeacher,
    nnUNetTrainerNaive,
    nnUNetTrainerPriorAware,
    nnUNetTrainerSoftLabels,
)
