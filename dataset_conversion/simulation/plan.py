"""What a simulated dataset is to hold, decided from names and counts alone before anything is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import AnnotatedDataset
from nnunet_partial.dataset_conversion.simulation.annotators import SimulatedAnnotators
from nnunet_partial.dataset_conversion.simulation.draw import kept_cases, seeded_order
from nnunet_partial.dataset_conversion.simulation.mix import MixSource, deal
from nnunet_partial.labels import AnnotationProtocol, DatasetRecord, LabelSpace, SourceRecord
from nnunet_partial.labels.space import near_miss

Group = tuple[str, ...]
"""The classes that stand under one label id: one, or several that nobody told apart."""


@dataclass(frozen=True)
class SimulatedCase:
    """One training case: its source and protocol in the new dataset, and what becomes of its label ids (0 = dropped)."""

    identifier: str
    source: str
    protocol: str
    mapping: dict[int, int]

    @property
    def is_unchanged(self) -> bool:
        """Whether the label map stays as it is."""
        return all(old == new for old, new in self.mapping.items())


@dataclass(frozen=True)
class SimulationPlan:
    """A simulated dataset.

    Attributes:
        dataset: Its id and name.
        arguments: What was asked for, as simulation.json says it.
        protocols: Its annotation protocols by name.
        sources: Its sources.
        cases: Its training cases.
        held_out: Cases for testing.
        unused: Cases that are in neither.
        notes: What was done so that every class can be learnt, and what of the source was left behind.
        annotators: Who draws every case anew; None where the source's labels stay.
    """

    dataset: DatasetRecord
    arguments: dict[str, Any]
    protocols: dict[str, AnnotationProtocol]
    sources: tuple[SourceRecord, ...]
    cases: tuple[SimulatedCase, ...]
    held_out: tuple[str, ...]
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    annotators: SimulatedAnnotators | None = None


def choose_test_cases(source: AnnotatedDataset, *, number: int = 0, named: Sequence[str] = (), seed: int = 0) -> tuple[str, ...]:
    """The cases that are kept out of training: those named, or a number of them drawn.

    Raises:
        ConversionError: cases that do not exist, or none left to train on.
    """
    unknown = [name for name in named if name not in source.cases]
    if unknown:
        raise ConversionError(
            [f"there is no case '{name}' to hold out{near_miss(name, source.cases)}" for name in unknown],
            where=source.folder.name,
        )
    number = len(set(named)) or number
    if not 0 <= number < len(source.cases):
        raise ConversionError(
            f"{number} of {len(source.cases)} cases cannot be held out; some must be left to train on", where=source.folder.name
        )
    return tuple(sorted(set(named) or seeded_order(source.cases, seed, "hold-out")[:number]))


def plan_missing(
    source: AnnotatedDataset, dataset: DatasetRecord, missing_percent: int, *, seed: int, held_out: Sequence[str] = ()
) -> SimulationPlan:
    """Drop a percentage of the annotations of every class.

    An annotation is one label id of one case, whether the organ is there or was looked for in vain. Of the n training cases
    that have it, the nearest whole number to missing_percent of n lose it, drawn for every class on its own.

    Raises:
        ConversionError: a percentage outside 0..99, or a class that no training case annotates.
    """
    if not 0 <= missing_percent < 100:
        raise ConversionError(f"--missing {missing_percent}: give percentages from 0 to 99")
    training = [identifier for identifier in source.cases if identifier not in held_out]
    kept: dict[Group, frozenset[str]] = {}
    notes = []
    for group in _groups(source, training):
        annotated = [name for name in training if group in source.protocol_of(name).labels.values()]
        present = {name for name in annotated if _voxels(source, name, group)}
        kept[group], note = kept_cases(annotated, present, missing_percent, seed, group_name(group))
        notes += [note] if note else []
        notes += [] if present else [f"{group_name(group)}: no training case has it; nothing can be learnt about where it is"]
    cases, protocols = [], {}
    for identifier in training:
        labels = source.protocol_of(identifier).labels
        protocol = AnnotationProtocol(labels={n: group for n, group in labels.items() if identifier in kept[group]})
        name = protocol_name(protocol, source.manifest.space)
        protocols[name] = protocol
        mapping = {number: number if number in protocol.labels else 0 for number in labels}
        cases.append(SimulatedCase(identifier, source.cases[identifier].source, name, mapping))
    _check_classes(source, cases, protocols)
    arguments = {"missing_percent": missing_percent, "alpha_percent": 100 - missing_percent, "seed": seed}
    return SimulationPlan(
        dataset=dataset,
        arguments=arguments,
        protocols=dict(sorted(protocols.items())),
        sources=source.manifest.sources,
        cases=tuple(cases),
        held_out=tuple(held_out),
        notes=(*notes, *_left_behind(source)),
    )


def plan_annotators(
    source: AnnotatedDataset, dataset: DatasetRecord, annotators: SimulatedAnnotators, *, held_out: Sequence[str] = ()
) -> SimulationPlan:
    """Let annotators draw all that is annotated, in every case; what was looked for stays what it is.

    Raises:
        ConversionError: a class that no training case annotates.
    """
    plan = plan_missing(source, dataset, 0, seed=annotators.seed, held_out=held_out)
    return replace(plan, arguments=annotators.arguments, annotators=annotators)


def plan_like(
    source: AnnotatedDataset, dataset: DatasetRecord, mix: dict[str, MixSource], *, seed: int, held_out: Sequence[str] = ()
) -> SimulationPlan:
    """Deal the cases to the sources of a mix, each of which annotates only its own classes.

    Raises:
        ConversionError: too few cases, cases that are only partly annotated, or a class of which the draw leaves no voxel.
    """
    if source.partly_annotated():
        raise ConversionError("--like deals out cases in which every class was looked for", where=source.folder.name)
    space = source.manifest.space
    dealt = deal([name for name in source.cases if name not in held_out], mix, seed)
    protocols = {name: entry.protocol(space) for name, entry in mix.items()}
    source_of = {identifier: name for name, identifiers in dealt.items() for identifier in identifiers if name}
    cases = [
        SimulatedCase(identifier, source_of[identifier], source_of[identifier], _mapping(protocols[source_of[identifier]], space))
        for identifier in source.cases
        if identifier in source_of
    ]
    _check_classes(source, cases, protocols)
    licences = {record.name: record.licence for record in source.manifest.sources}
    sources = tuple(
        SourceRecord(
            name=name,
            source=f"simulated from {source.folder.name}",
            path=source.folder.name,
            licence=" / ".join(dict.fromkeys(licences[source.cases[identifier].source] for identifier in dealt[name])),
            options={"classes": entry.model_dump(mode="json")["classes"]},
        )
        for name, entry in mix.items()
    )
    arguments = {"like": {name: entry.model_dump(mode="json") for name, entry in mix.items()}, "seed": seed}
    return SimulationPlan(
        dataset, arguments, protocols, sources, tuple(cases), tuple(held_out), tuple(dealt[""]), _left_behind(source)
    )


def protocol_name(protocol: AnnotationProtocol, space: LabelSpace) -> str:
    """The name by which cases that are annotated alike share a protocol: what they have, or what they lack if that is shorter."""
    lacking = [name for name in space.classes if name not in protocol.annotated_classes]
    groups = [_group_name(number, group, space) for number, group in protocol.labels.items()]
    singles = all(len(group) == 1 for group in protocol.labels.values())
    if not groups:
        return "none"
    if singles and len(lacking) < len(groups):
        return f"without_{'+'.join(lacking)}" if lacking else "full"
    return f"only_{'+'.join(groups)}"


def group_name(classes: Group) -> str:
    """What a label id stands for, in a word."""
    return "|".join(classes)


def _left_behind(source: AnnotatedDataset) -> tuple[str, ...]:
    """What of the source no simulated dataset has: the label maps of its annotators show what is dropped or drawn anew."""
    several = [name for name, case in source.cases.items() if case.annotators]
    return (f"the label maps of single annotators ({len(several)} cases of the source) are left behind",) if several else ()


def _group_name(number: int, group: Group, space: LabelSpace) -> str:
    own = "" if number == space.id_of(group[0]) else f"@{number}"
    return group_name(group) + own


def _groups(source: AnnotatedDataset, identifiers: Iterable[str]) -> list[Group]:
    """Whatever is annotated in any of the cases, in the order of the label ids."""
    found = {(number, group) for name in identifiers for number, group in source.protocol_of(name).labels.items()}
    return list(dict.fromkeys(group for _, group in sorted(found)))


def _mapping(protocol: AnnotationProtocol, space: LabelSpace) -> dict[int, int]:
    """Label ids of a fully annotated case -> ids under a protocol that knows less."""
    number_of = {name: number for number, group in protocol.labels.items() for name in group}
    return {number: number_of.get(name, 0) for number, name in enumerate(space.classes, 1)}


def _voxels(source: AnnotatedDataset, identifier: str, group: Group) -> int:
    case = source.cases[identifier]
    return sum(case.label_counts.get(n, 0) for n, g in source.manifest.protocols[case.protocol].labels.items() if g == group)


def _check_classes(source: AnnotatedDataset, cases: Sequence[SimulatedCase], protocols: dict[str, AnnotationProtocol]) -> None:
    """Every class must be annotated in a training case, and be there in one if it is there in any case of the source."""
    faults = []
    for name in source.manifest.classes:
        annotated = [case.identifier for case in cases if name in protocols[case.protocol].annotated_classes]
        has_it = [identifier for identifier, case in source.cases.items() if _shows(source, case.identifier, name)]
        if not annotated:
            faults.append(f"class '{name}' is annotated in no training case; hold fewer cases out")
        elif has_it and not set(annotated) & set(has_it):
            faults.append(
                f"class '{name}' is there in none of the {len(annotated)} cases that would be annotated for it; "
                "take another --seed, other test cases, or more cases"
            )
    if faults:
        raise ConversionError(faults, where=source.folder.name)


def _shows(source: AnnotatedDataset, identifier: str, name: str) -> bool:
    return any(_voxels(source, identifier, group) for group in source.protocol_of(identifier).labels.values() if name in group)
