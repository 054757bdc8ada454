"""What a loss is told about each voxel."""

from nnunet_partial.targets.ambiguity import ambiguity_map, ambiguity_tables, positive_map
from nnunet_partial.targets.partial_target import PartialTarget
from nnunet_partial.targets.tables import ProtocolTables

__all__ = ["PartialTarget", "ProtocolTables", "ambiguity_map", "ambiguity_tables", "positive_map"]
