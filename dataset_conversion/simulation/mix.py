"""A mix of sources to imitate: which classes each annotates, and how many cases it has."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.simulation.draw import seeded_order
from nnunet_partial.labels import AnnotationProtocol, LabelSpace
from nnunet_partial.labels.annotation import validation_faults

EXAMPLE = "{lits: {classes: [liver], cases: 5}, btcv: {classes: all, cases: 3}}"


class MixSource(BaseModel):
    """One source of a mix.

    Attributes:
        classes: What it annotates: class names, lists of class names that it draws under one label, "all", or "none": images
            that nobody annotated.
        cases: How many cases it has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Literal["all", "none"] | tuple[str | tuple[str, ...], ...] = Field(min_length=1)
    cases: int = Field(ge=1)

    def protocol(self, space: LabelSpace) -> AnnotationProtocol:
        """The label ids of what it annotates; classes under one label take the id of the one named first.

        Raises:
            ValueError: a class that the label space does not have, or that is named twice.
        """
        entries = {"all": space.classes, "none": ()}.get(self.classes, self.classes)
        groups = [(entry,) if isinstance(entry, str) else entry for entry in entries]
        unknown = [name for group in groups for name in group if name not in space.classes]
        if unknown or not all(groups):
            raise ValueError("; ".join(map(space.unknown, unknown)) or "a list of classes under one label is empty")
        named = [name for group in groups for name in group]
        repeated = sorted({name for name in named if named.count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} named twice; a class stands under one label")
        return AnnotationProtocol(labels={space.id_of(group[0]): group for group in groups})


def read_mix(path: Path, space: LabelSpace) -> dict[str, MixSource]:
    """Read a mix file, source name -> what it annotates and how many cases it has.

    Raises:
        ConversionError: not YAML, not a mix, unknown classes, or a class that no source annotates; all faults are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no mix file '{path}'")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConversionError(f"not a YAML file: {error}", where=str(path)) from None
    if not isinstance(content, dict) or not content:
        raise ConversionError(f"a mix file names sources, such as {EXAMPLE}", where=str(path))
    mix, faults = {}, []
    for name, entry in content.items():
        try:
            mix[str(name)] = MixSource.model_validate(entry)
            mix[str(name)].protocol(space)
        except ValidationError as error:
            faults += [f"source '{name}': {fault}" for fault in _readable(error, entry)]
        except ValueError as error:
            faults.append(f"source '{name}': {error}")
    if not faults:
        annotated = {name for source in mix.values() for name in source.protocol(space).annotated_classes}
        faults += [
            f"class '{name}' is annotated by no source of the mix; add one, or start from a dataset without this class"
            for name in space.classes
            if name not in annotated
        ]
    if faults:
        raise ConversionError(faults, where=str(path))
    return mix


def deal(identifiers: list[str], mix: dict[str, MixSource], seed: int) -> dict[str, list[str]]:
    """Deal cases to the sources of a mix, in the order of the mix; what is left over is under ''.

    Raises:
        ConversionError: the mix wants more cases than there are.
    """
    wanted = sum(source.cases for source in mix.values())
    if wanted > len(identifiers):
        raise ConversionError(f"the mix has {wanted} cases, there are {len(identifiers)} to deal; ask for fewer")
    order = iter(seeded_order(identifiers, seed, "like"))
    dealt = {name: sorted(next(order) for _ in range(source.cases)) for name, source in mix.items()}
    return {**dealt, "": sorted(order)}


def _readable(error: ValidationError, entry: Any) -> list[str]:
    """What is wrong with an entry, in one sentence for `classes`, of which pydantic tries every kind."""
    if not isinstance(entry, dict):
        return [f"needs classes and cases, got {entry!r}"]
    faults = [fault for fault in validation_faults(error) if not fault.startswith("classes")]
    if len(faults) < len(validation_faults(error)):
        faults.append(
            f"classes: expected 'all', 'none' or a list such as [liver, [kidney_left, kidney_right]], "
            f"got {entry.get('classes')!r}"
        )
    return faults
