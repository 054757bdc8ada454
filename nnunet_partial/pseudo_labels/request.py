"""What is asked of a run of rounds."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Criterion = Literal["confidence", "mcp", "all", "none"]


class RoundsRequest(BaseModel):
    """The arguments of a run that decide its result; a rerun must give the same.

    Attributes:
        dataset: DatasetXXX_Name.
        criterion: confidence = learned confidence (INERRANT); mcp = maximum class probability (SMILE); all = every prediction
            becomes a label, in one round; none = train on without pseudo-labels, the control of an experiment.
        max_fraction: gamma_max, the share of predicted voxels that is labelled after the last round; in round t, t / T of it.
        max_changed: Cases whose predictions changed by more than this since the round before get no new labels.
        soft: Pseudo-labels keep their confidence, for trainers that take soft labels.
        mirroring: Average predictions over mirrored copies, as nnU-Net does.
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

    @property
    def relabels(self) -> bool:
        """Whether predictions become labels at all."""
        return self.criterion != "none"

    def fraction(self, number: int) -> float:
        """gamma_t = t / T * gamma_max."""
        return number / self.rounds * self.max_fraction

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What other arguments say otherwise, in words."""
        own = self.model_dump(mode="json")
        return [f"{key} {other.get(key)} -> {value}" for key, value in own.items() if other.get(key) != value]
