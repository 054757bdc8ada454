"""Networks that help while training and are dropped at test time."""

from nnunet_partial.networks.branches import Branches, Relabeller
from nnunet_partial.networks.confidence import ConfidenceModel, ConfidenceNetwork, RankingModel, VarianceModel
from nnunet_partial.networks.discriminator import Discriminator
from nnunet_partial.networks.dropout import add_dropout, dropped_passes, log_mean_probabilities
from nnunet_partial.networks.last_features import LastFeatures
from nnunet_partial.networks.teacher import Teacher

__all__ = [
    "Branches",
    "ConfidenceModel",
    "ConfidenceNetwork",
    "Discriminator",
    "LastFeatures",
    "RankingModel",
    "Relabeller",
    "Teacher",
    "VarianceModel",
    "add_dropout",
    "dropped_passes",
    "log_mean_probabilities",
]
