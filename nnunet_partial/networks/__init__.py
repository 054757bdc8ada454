"""Networks that help while training and are dropped at test time."""

from nnunet_partial.networks.confidence import ConfidenceModel, ConfidenceNetwork

__all__ = ["ConfidenceModel", "ConfidenceNetwork"]
