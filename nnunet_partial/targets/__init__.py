"""What a loss is told about each voxel."""

from nnunet_partial.targets.partial_target import PartialTarget
from nnunet_partial.targets.tables import ProtocolTables

__all__ = ["PartialTarget", "ProtocolTables"]
