"""Named recipes, a screen each; nnU-Net finds them by class name (`nnUNetv2_train ... -tr NAME`)."""

from nnunet_partial.trainers.adversarial import nnUNetTrainerAdversarial
from nnunet_partial.trainers.ambiguity import nnUNetTrainerAmbiguity
from nnunet_partial.trainers.coranet import nnUNetTrainerCoraNet
from nnunet_partial.trainers.marginal import nnUNetTrainerMarginal, nnUNetTrainerMarginalExclusion
from nnunet_partial.trainers.mean_teacher import nnUNetTrainerMeanTeacher
from nnunet_partial.trainers.naive import nnUNetTrainerNaive
from nnunet_partial.trainers.prior_aware import nnUNetTrainerPriorAware
from nnunet_partial.trainers.soft_labels import nnUNetTrainerMajorityLabels, nnUNetTrainerSoftLabels

__all__ = [
    "nnUNetTrainerAdversarial",
    "nnUNetTrainerAmbiguity",
    "nnUNetTrainerCoraNet",
    "nnUNetTrainerMajorityLabels",
    "nnUNetTrainerMarginal",
    "nnUNetTrainerMarginalExclusion",
    "nnUNetTrainerMeanTeacher",
    "nnUNetTrainerNaive",
    "nnUNetTrainerPriorAware",
    "nnUNetTrainerSoftLabels",
]
