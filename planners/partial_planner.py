"""nnU-Net's planners, writing the `partial` block of training settings into the plans."""

from typing import Any, ClassVar

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
)

from nnunet_partial.training.settings import SETTINGS_KEY, TrainingSettings


class PartialBlock:
    """Mixed into a planner of nnU-Net's: settings into the plans, bounds on spacing and patch.

    Everything a model needs at prediction time keeps the host's names, so that the plans serve stock nnU-Net as they are.

    Attributes:
        settings: Defaults of this planner that differ from `TrainingSettings`.
        finest_spacing_mm: Axes finer than this (z, y, x) are resampled to it.
        largest_patch: Voxels a 3d patch has at most on each axis (after the plans' transposition), or None.
    """

    settings: ClassVar[dict[str, Any]] = {}
    finest_spacing_mm: tuple[float, float, float] | None = None
    largest_patch: tuple[int, int, int] | None = None

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Add the block, then let the host write."""
        plans[SETTINGS_KEY] = TrainingSettings(**self.settings).model_dump()
        super().save_plans(plans)

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """The host's spacing, coarsened where this planner has a bound and the user named none."""
        spacing = super().determine_fullres_target_spacing()
        if self.finest_spacing_mm is None or self.overwrite_target_spacing is not None:
            return spacing
        return np.maximum(spacing, self.finest_spacing_mm)

    def get_plans_for_configuration(self, spacing: Any, median_shape: Any, *args: Any) -> dict[str, Any]:
        """The host's configuration for a patch no larger than the bound; it clips its first patch to the median shape."""
        if self.largest_patch is None or len(spacing) != 3:
            return super().get_plans_for_configuration(spacing, median_shape, *args)
        plan = super().get_plans_for_configuration(spacing, np.minimum(median_shape, self.largest_patch), *args)
        plan["median_image_size_in_voxels"] = median_shape
        return plan


class PartialPlanner(PartialBlock, ExperimentPlanner):
    """nnU-Net's default plan."""


class PartialPlannerResEncM(PartialBlock, nnUNetPlannerResEncM):
    """Residual encoder U-Net, medium (nnU-Net's recommendation for about 9-11 GB of GPU memory)."""


class PartialPlannerResEncL(PartialBlock, nnUNetPlannerResEncL):
    """Residual encoder U-Net, large (nnU-Net's recommendation for about 24 GB of GPU memory)."""


class PlannerShi2021(PartialBlock, ExperimentPlanner):
    """The recipe of Shi et al. 2021, section 4.3: 1.5 x 1.5 x 3 mm, patches of 48 x 192 x 192, 120 + 80 epochs, sources alike.

    The paper's 190 is not divisible by the network's strides; 192 is. nnU-Net's optimiser and learning rate are kept.
    """

    settings: ClassVar[dict[str, Any]] = {"num_epochs": 200, "stage_one_epochs": 120, "sampling": "uniform"}
    largest_patch = (48, 192, 192)

    def __init__(self, *args: Any, overwrite_target_spacing: Any = None, **kwargs: Any):
        super().__init__(*args, overwrite_target_spacing=overwrite_target_spacing or [3.0, 1.5, 1.5], **kwargs)


class PlannerTiny(PartialBlock, ExperimentPlanner):
    """A network that trains on a CPU in minutes: voxels of 5 mm or more, small patches, one convolution a stage, AdamW."""

    settings: ClassVar[dict[str, Any]] = {
        "num_epochs": 20,
        "num_iterations_per_epoch": 50,
        "num_val_iterations_per_epoch": 4,
        "optimizer": "adamw",
        "initial_lr": 3e-3,
        "save_every": 5,
    }
    finest_spacing_mm = (5.0, 5.0, 5.0)
    largest_patch = (32, 48, 48)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.UNet_base_num_features = 8
        self.UNet_max_features_3d = self.UNet_max_features_2d = 64
        self.UNet_blocks_per_stage_encoder = (1,) * len(self.UNet_blocks_per_stage_encoder)
        self.UNet_blocks_per_stage_decoder = (1,) * len(self.UNet_blocks_per_stage_decoder)


PLANNERS = {
    "default": PartialPlanner,
    "resenc_m": PartialPlannerResEncM,
    "resenc_l": PartialPlannerResEncL,
    "shi2021": PlannerShi2021,
    "tiny": PlannerTiny,
}


def describe_planners() -> str:
    """One line a planner, for `--help` and the docs."""
    return "\n".join(f"  {name:<10} {planner.__doc__.splitlines()[0]}" for name, planner in PLANNERS.items())
