"""Pools of published experiments, and what else it takes to repeat them: sizes of the split, the commands that follow."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.simulation.draw import seeded_order
from nnunet_partial.labels import Annotation, write_text
from nnunet_partial.labels.space import near_miss

PRESET_FOLDER = Path(__file__).parent / "presets"
DOWNLOADS = "NNUNET_PARTIAL_DOWNLOADS"
_SEED = 0


class SplitSizes(BaseModel):
    """How one source is split.

    Attributes:
        cases: Labelled cases in the public download.
        train: Cases the paper trained on.
        test: Cases the paper tested on; the rest of the download is in neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int = Field(ge=1)
    train: int = Field(ge=1)
    test: int = Field(ge=1)


class Preset(BaseModel):
    """A published experiment, as its two files in `presets/` describe it.

    Attributes:
        name: Of its files.
        about: One line.
        commands: What to type, `{pool}` being the pool file; comments begin with '#'.
        differences: Where this differs from what the paper did.
        splits: Source -> sizes of its split; empty where the paper cross-validates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    commands: tuple[str, ...]
    differences: tuple[str, ...] = ()
    splits: dict[str, SplitSizes] = {}

    def pool_text(self, downloads: Path | None = None) -> str:
        """The pool file, with the folder of the downloads filled in where it is given."""
        text = pool_file(self.name).read_text(encoding="utf-8")
        if downloads is None:
            return text
        quoted = json.dumps(str(downloads), ensure_ascii=False)[1:-1]  # the paths stand in double quotes
        return text.replace(f'"${DOWNLOADS}/', f'"{quoted}/').replace(f"below ${DOWNLOADS}", f"below {downloads}")

    def command_lines(self, pool: str, downloads: Path | None = None) -> list[str]:
        """The commands for a pool file of this name."""
        folder = f"${DOWNLOADS}" if downloads is None else shlex.quote(str(downloads))
        return [command.replace("{pool}", shlex.quote(pool)).replace(f"${DOWNLOADS}", folder) for command in self.commands]


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(path.name.removesuffix(".protocol.yaml") for path in PRESET_FOLDER.glob("*.protocol.yaml"))


def pool_file(name: str) -> Path:
    """The pool file of a preset, whose paths begin with $NNUNET_PARTIAL_DOWNLOADS."""
    return PRESET_FOLDER / f"{name}.yaml"


def read_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in preset_names():
        raise ValueError(f"there is no preset '{name}'{near_miss(name, preset_names())}; there are {', '.join(preset_names())}")
    protocol = yaml.safe_load((PRESET_FOLDER / f"{name}.protocol.yaml").read_text(encoding="utf-8"))
    return Preset(name=name, **protocol)


def write_pool(preset: Preset, path: Path, *, downloads: Path | None = None) -> None:
    """Write a preset's pool file.

    Raises:
        ValueError: there is another file of this name.
    """
    text = preset.pool_text(downloads)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"'{path}' exists and is another file; choose another name, or remove it")
    write_text(text, path)


def preset_splits(preset: Preset, annotation: Annotation) -> list[dict[str, list[str]]]:
    """The preset's split in the form of nnU-Net's splits_final.json: fold 0 trains on `train` and validates on `val`.

    Which cases are which is drawn with a fixed seed, source by source.

    Raises:
        ConversionError: the preset has no fixed split, or a source has another number of cases than the paper's or than its
            public download; both numbers are said, all sources together.
    """
    if not preset.splits:
        raise ConversionError(
            f"preset '{preset.name}' has no split of fixed sizes: the paper cross-validates, which nnUNetv2_train does by itself"
        )
    found: dict[str, list[str]] = {name: [] for name in preset.splits}
    for identifier, case in annotation.cases.items():
        found.setdefault(case.source, []).append(identifier)
    faults = [_fault(name, len(identifiers), preset) for name, identifiers in found.items()]
    if any(faults):
        raise ConversionError([fault for fault in faults if fault], where=f"preset '{preset.name}'")
    train, test = [], []
    for name, sizes in preset.splits.items():
        order = seeded_order(found[name], _SEED, preset.name, name)
        train += order[: sizes.train]
        test += order[sizes.train : sizes.train + sizes.test]
    return [{"train": sorted(train), "val": sorted(test)}]


def _fault(name: str, number: int, preset: Preset) -> str:
    if name not in preset.splits:
        return f"source '{name}' ({number} cases) is not one of the preset's ({', '.join(preset.splits)})"
    sizes = preset.splits[name]
    used = sizes.train + sizes.test
    if number in (used, sizes.cases):
        return ""
    download = f", of {sizes.cases} in the download" if sizes.cases != used else ""
    return f"source '{name}' has {number} cases, the paper {used} ({sizes.train} training, {sizes.test} test{download})"


def unused_cases(splits: Sequence[dict[str, list[str]]], annotation: Annotation) -> list[str]:
    """The cases that are in no fold at all."""
    return sorted(set(annotation.cases) - {identifier for fold in splits for part in fold.values() for identifier in part})
