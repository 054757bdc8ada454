"""An experiment of `benchmarks.study`: on coarse resolutions the shares of the nearest voxel, not the mean of shares."""

from typing import Any

from nnunet_partial.targets import PartialTarget
from nnunet_partial.trainers import nnUNetTrainerMajorityLabels, nnUNetTrainerSoftLabels


class nnUNetTrainerNearestSoftLabels(nnUNetTrainerSoftLabels):
    """`nnUNetTrainerSoftLabels` with the host's way to coarse resolutions."""

    def _partial_target(self, batch: dict[str, Any]) -> PartialTarget | list[PartialTarget]:
        return nnUNetTrainerMajorityLabels._partial_target(self, batch)
