"""What is asked of a run of rounds."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Criterion = Literal["confidence", "mcp", "dropout", "augmentation", "aleatoric", "branches", "all", "none"]
LEARNED = ("confidence", "aleatoric")
TAKEN_BY = {  # options of some criteria alone
    "passes": ("dropout", "augmentation", "aleatoric"),
    "dropout_rate": ("dropout",),
    "noise": ("augmentation",),
}


class RoundsRequest(BaseModel):
    """The arguments of a run that decide its result; a rerun must give the same.

    Attributes:
        dataset: DatasetXXX_Name.
        criterion: confidence = learned confidence (INERRANT); mcp = maximum class probability (SMILE); dropout = mean probability
            over passes with dropout; augmentation = over mirrored and noisy copies; aleatoric = probability under the noise that
            a network predicts; branches = the more careful of two branches (CoraNet); all = every prediction becomes a label, in
            one round; none = train on without pseudo-labels, the control of an experiment.
        max_fraction: gamma_max, the share of predicted voxels that is labelled after the last round; in round t, t / T of it.
        max_changed: Cases whose predictions changed by more than this since the round before get no new labels.
        soft: Pseudo-labels keep their confidence, for trainers that take soft labels.
        mirroring: Average predictions over mirrored copies, as nnU-Net does.
        passes: T, passes with dropout, copies of the image, or draws of noise in the loss of `aleatoric`.
        dropout_rate: Share of the channels that a pass drops.
        noise: Standard deviation of the copies' noise, in units of normalised intensity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    configuration: str
    fold: int | Literal["all"]
    trainer: str
    plans: str
    name: str
    criterion: Criterion = "confidence"
    rounds: int = Field(3, ge=1, le=99)
    max_fraction: float = Field(1.0, gt=0, le=1)
    max_changed: float | None = Field(None, gt=0, lt=1)
    soft: bool = False
    epochs: int = Field(ge=1)
    initial_lr: float = Field(gt=0)
    mirroring: bool = True
    step_size: float = Field(0.5, gt=0, le=1)
    confidence_epochs: int = Field(ge=1)
    confidence_lr: float = Field(gt=0)
    confidence_widths: tuple[int, ...] | None = None
    confidence_frozen: bool = False
    passes: int = Field(10, ge=1)
    dropout_rate: float = Field(0.2, gt=0, lt=1)
    noise: float = Field(0.1, ge=0)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_\-]*", name):
            raise ValueError(f"'{name}' becomes a folder and a file name: letters, digits, '_' and '-'")
        return name

    @field_validator("confidence_widths")
    @classmethod
    def _check_widths(cls, widths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if any(width < 1 for width in widths or ()):
            raise ValueError("the widths of the confidence network are numbers of channels, 1 or more")
        return widths

    @model_validator(mode="after")
    def _check_single_round(self) -> "RoundsRequest":
        if self.criterion == "all" and self.rounds != 1:
            raise ValueError("criterion 'all' is one round; leave --rounds out")
        if self.criterion == "all" and self.max_fraction != 1:
            raise ValueError("criterion 'all' labels every prediction; leave --max-fraction out, or take --criterion mcp")
        if self.soft and self.criterion == "none":
            raise ValueError("criterion 'none' makes no pseudo-labels; leave --soft out")
        if self.max_changed is not None and self.rounds == 1:
            raise ValueError("--max-changed compares a round with the one before; with a single round there is none")
        return self

    @model_validator(mode="after")
    def _check_options_of_criteria(self) -> "RoundsRequest":
        for name, criteria in TAKEN_BY.items():
            if self.criterion not in criteria and getattr(self, name) != type(self).model_fields[name].default:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"criterion '{self.criterion}' takes no {option}, only {', '.join(criteria)}; leave it out")
        return self

    @property
    def learns(self) -> bool:
        """Whether a network is trained that ranks."""
        return self.criterion in LEARNED

    @property
    def relabels(self) -> bool:
        """Whether predictions become labels at all."""
        return self.criterion != "none"

    def fraction(self, number: int) -> float:
        """gamma_t = t / T * gamma_max."""
        return number / self.rounds * self.max_fraction

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What other arguments say otherwise, in words; what an older release did not know had its default."""
        fields = type(self).model_fields
        known = {name: field.default for name, field in fields.items() if not field.is_required()} | other
        own = self.model_dump(mode="json")
        return [f"{key} {known.get(key)} -> {value}" for key, value in own.items() if known.get(key) != value]
