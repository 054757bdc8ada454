"""What a loss is told about each voxel."""

from nnunet_partial.targets.ambiguity import ambiguity_map, ambiguity_tables, positive_map
from nnunet_partial.targets.candidate_map import ambiguous_voxels, candidate_map, decided_voxels, unannotated_organs
from nnunet_partial.targets.partial_target import PartialTarget
from nnunet_partial.targets.pooled_target import PooledTarget, pooled_targets
from nnunet_partial.targets.soft_tables import SoftTables
from nnunet_partial.targets.soft_target import SoftTarget, as_soft
from nnunet_partial.targets.tables import ProtocolTables
from nnunet_partial.targets.taught_target import TaughtTarget
from nnunet_partial.targets.votes import Votes, encode_votes

__all__ = [
    "PartialTarget",
    "PooledTarget",
    "ProtocolTables",
    "SoftTables",
    "SoftTarget",
    "TaughtTarget",
    "Votes",
    "ambiguity_map",
    "ambiguity_tables",
    "ambiguous_voxels",
    "as_soft",
    "candidate_map",
    "decided_voxels",
    "encode_votes",
    "pooled_targets",
    "positive_map",
    "unannotated_organs",
]
