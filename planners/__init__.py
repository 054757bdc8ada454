"""nnU-Net's planners with our block of training settings, and preprocessing that can be resumed."""

from nnunet_partial.planners.partial_planner import PLANNERS, describe_planners
from nnunet_partial.planners.preprocess import preprocess_configuration

__all__ = ["PLANNERS", "describe_planners", "preprocess_configuration"]
