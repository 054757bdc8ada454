"""Networks that help while training and are dropped at test time."""

from nnunet_partial.networks.branches import Branches, Relabeller
from nnunet_partial.networks.confidence import ConfidenceModel, ConfidenceNetwork, RankingModel, VarianceModel
from nnunet_partial.networks.dropout import MonteCarloDropout, decoder_dropout
from nnunet_partial.networks.last_features import LastFeatures
from nnunet_partial.networks.teacher import Teacher

__all__ = [
    "Branches",
    "ConfidenceModel",
    "ConfidenceNetwork",
    "LastFeatures",
    "MonteCarloDropout",
    "RankingModel",
    "Relabeller",
    "Teacher",
    "VarianceModel",
    "decoder_dropout",
]
