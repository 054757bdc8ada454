"""Named recipes, a screen each; nnU-Net finds them by class name (`nnUNetv2_train ... -tr NAME`)."""

from nnunet_partial.trainers.adversarial import nnUNetTrainerAdversarial
from nnunet_partial.trainers.ambiguity import nnUNetTrainerAmbiguity
from nnunet_partial.trainers.coranet import nnUNetTrainerCoraNet
from nnunet_partial.trainers.entropy_minimization import nnUNetTrainerEntropyMinimization
from nnunet_partial.trainers.marginal import nnUNetTrainerMarginal, nnUNetTrainerMarginalExclusion
from nnunet_partial.trainers.mean_teacher import nnUNetTrainerMeanTeacher
from nnunet_partial.trainers.naive import nnUNetTrainerNaive
from nnunet_partial.trainers.pi_model import nnUNetTrainerPiModel
from nnunet_partial.trainers.prior_aware import nnUNetTrainerPriorAware
from nnunet_partial.trainers.soft_labels import nnUNetTrainerMajorityLabels, nnUNetTrainerSoftLabels
from nnunet_partial.trainers.uncertainty_aware import nnUNetTrainerUncertaintyAwareMeanTeacher

__all__ = [
    "nnUNetTrainerAdversarial",
    "nnUNetTrainerAmbiguity",
    "nnUNetTrainerCoraNet",
    "nnUNetTrainerEntropyMinimization",
    "nnUNetTrainerMajorityLabels",
    "nnUNetTrainerMarginal",
    "nnUNetTrainerMarginalExclusion",
    "nnUNetTrainerMeanTeacher",
    "nnUNetTrainerNaive",
    "nnUNetTrainerPiModel",
    "nnUNetTrainerPriorAware",
    "nnUNetTrainerSoftLabels",
    "nnUNetTrainerUncertaintyAwareMeanTeacher",
]
