"""The `partial` block of nnU-Net's plans: how long to train, on what, and with which weights."""

import json
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.labels.space import near_miss

SETTINGS_KEY = "partial"


class TrainingSettings(BaseModel):
    """What a trainer reads from plans["partial"]; every default is nnU-Net's own or the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_epochs: int = Field(1000, ge=1, description="Epochs in all (nnU-Net: 1000)")
    num_iterations_per_epoch: int = Field(250, ge=1, description="Training batches an epoch (nnU-Net: 250)")
    num_val_iterations_per_epoch: int = Field(50, ge=1, description="Validation batches an epoch (nnU-Net: 50)")
    initial_lr: float = Field(1e-2, gt=0, description="Learning rate at epoch 0, falling polynomially (nnU-Net: 0.01)")
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd",
        description="sgd = nnU-Net's own; adamw = leaves the plateau of the first thousand iterations sooner, for short runs",
    )
    save_every: int = Field(10, ge=1, description="Epochs between checkpoints that `--c` resumes from (nnU-Net: 50)")
    oversample_foreground_percent: float = Field(
        0.33, ge=0, le=1, description="Share of patches centred on an organ (nnU-Net, paper: 0.33)"
    )
    stage_one_epochs: int = Field(
        0,
        ge=0,
        description="First epochs on fully annotated cases alone (Shi et al. 2021: 120 of 200); 0 = all cases from the start",
    )
    sampling: Literal["uniform", "sqrt", "proportional"] = Field(
        "uniform",
        description="How often a source is seen: uniform = all sources alike (Shi et al. 2021), sqrt = by the root of their "
        "number of cases (MultiTalent), proportional = every case alike (nnU-Net)",
    )
    weight_marginal: float = Field(1.0, ge=0, description="Weight of the marginal loss")
    weight_exclusion: float = Field(2.0, ge=0, description="Weight of the exclusion loss (Shi et al. 2021, table 5: 1 : 2)")
    weight_ambiguity_dice: float = Field(
        1.0,
        ge=0,
        description="Weight of a Dice term beside the ambiguity loss (nnU-Net: 1; Petit et al. 2021: 0, cross entropy alone)",
    )
    weight_soft_dice: float = Field(
        0.0,
        ge=0,
        description="Weight of a Dice term beside the cross entropy with soft labels (Silva & Oliveira 2021: 0; it undoes the "
        "calibration)",
    )
    consistency_start_epochs: int = Field(
        30,
        ge=0,
        description="Trainers that learn from open voxels: first epochs on annotation alone (Shi et al. 2022: 30)",
    )
    ramp_up_epochs: int = Field(
        0,
        ge=0,
        description="Epochs over which what the teacher says gains its weight (Shi et al. 2022: 0; Laine & Aila 2017, who begin "
        "without epochs on annotation alone: 80)",
    )
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="Share of its weights that the teacher keeps at each iteration (Shi et al. 2022: 0.99)"
    )
    teacher_noise: float = Field(
        0.1,
        ge=0,
        description="Standard deviation of noise on the image that the teacher sees, in the Pi-model on both views, in units of "
        "normalised intensity (Yu et al. 2019: 0.1)",
    )
    weight_consistency: float = Field(
        1.0, ge=0, description="Weight of agreement with the teacher, or of the Pi-model's views (Shi et al. 2022: 1)"
    )
    weight_self_training: float = Field(
        1.0, ge=0, description="CoraNet: weight of the network's own labels on certain voxels (Shi et al. 2022: 1)"
    )
    misclassification_cost: float = Field(
        5.0, ge=1, description="CoraNet: alpha, what a branch's costly error costs beside the other (Shi et al. 2022: 5)"
    )
    relabel_every: int = Field(5, ge=1, description="CoraNet: epochs between own labels and new ones (Shi et al. 2022: 5)")
    monte_carlo_passes: int = Field(
        8, ge=1, description="UA-MT: passes of the teacher under dropout whose mean counts (Yu et al. 2019: 8)"
    )
    dropout_rate: float = Field(
        0.5, ge=0, lt=1, description="UA-MT, Pi-model: share of channels dropped behind two stages (Yu et al. 2019: 0.5)"
    )
    weight_entropy: float = Field(
        0.001, ge=0, description="Entropy minimisation: weight of the entropy among candidates (Vu et al. 2019: 0.001)"
    )
    weight_adversarial: float = Field(
        0.01,
        ge=0,
        description="Adversarial: weight of the discriminator's verdict on voxels with one candidate (Hung et al. 2018: 0.01)",
    )
    weight_adversarial_ambiguous: float = Field(
        0.001, ge=0, description="Adversarial: the same on voxels with several candidates (Hung et al. 2018: 0.001)"
    )
    weight_masked_self_training: float = Field(
        0.1, ge=0, description="Adversarial: weight of the network's own labels where it is believed (Hung et al. 2018: 0.1)"
    )
    discriminator_threshold: float = Field(
        0.2, ge=0, le=1, description="Adversarial: verdict from which own labels are believed (Hung et al. 2018: 0.2)"
    )
    discriminator_lr: float = Field(
        1e-4, gt=0, description="Adversarial: Adam's learning rate, falling polynomially (Hung et al. 2018: 0.0001)"
    )
    weight_size_prior: float = Field(0.1, ge=0, description="Prior-aware: weight of agreement with the usual organ sizes")
    size_decay: float = Field(
        0.99, ge=0, lt=1, description="Prior-aware: share of itself that the average predicted organ size keeps at each iteration"
    )
    mirroring: Literal["auto", "all", "none"] = Field(
        "auto",
        description="Mirrored axes in augmentation and at test time: auto = all, but not left-right where classes come in "
        "left/right pairs",
    )

    @classmethod
    def from_plans(cls, plans: dict[str, Any]) -> "TrainingSettings":
        """The settings of a plans file; without the block, the defaults.

        Raises:
            ValueError: a setting that does not exist, or a value that it does not take; all faults are listed.
        """
        return cls.from_block(plans.get(SETTINGS_KEY, {}), where=f"plans['{SETTINGS_KEY}']")

    @classmethod
    def from_block(cls, block: dict[str, Any], *, where: str) -> "TrainingSettings":
        """Check a block of settings; `where` says in the error whose it is."""
        faults = [
            f"{where}: there is no setting '{name}'{near_miss(name, cls.model_fields)}"
            for name in block
            if name not in cls.model_fields
        ]
        try:
            settings = cls(**{name: value for name, value in block.items() if name in cls.model_fields})
        except ValidationError as error:
            faults += [f"{where}: {fault}" for fault in validation_faults(error)]
        if faults:
            raise ValueError("\n".join(faults))
        return settings


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """`["num_epochs=2", "sampling=sqrt"]` -> `{"num_epochs": 2, "sampling": "sqrt"}`.

    Raises:
        ValueError: something that is not name=value.
    """
    block = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise ValueError(f"--set takes name=value, for example num_epochs=200; got '{assignment}'")
        try:
            block[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            block[name.strip()] = value
    return block


def describe_settings() -> str:
    """One line a setting, for `--help` and the docs."""
    return "\n".join(
        f"  {name:<30} {field.default!s:<9} {field.description}" for name, field in TrainingSettings.model_fields.items()
    )
