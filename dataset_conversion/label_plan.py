"""From a source's label table to ours: which id becomes which, and what that annotates."""

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ValidationError

from nnunet_partial.dataset_conversion.listing import SourceLabel
from nnunet_partial.labels import AnnotationProtocol, LabelSpace
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.labels.vocabulary import members

TumorPolicy = Literal["merge", "separate", "union"]
SidePolicy = Literal["split", "union"]

_INSIDE_KINDS = ("tumor", "cyst")


@dataclass(frozen=True)
class LabelPlan:
    """How the label maps of one source are rewritten.

    Attributes:
        source_ids: The ids a label map of the source may hold.
        right_ids: Organ without a side -> its source ids -> the ids their right parts get first; empty where nothing is split.
        mapping: Source id (or right id) -> our id; 0 where the class is not in the label space.
        protocol: What a label map means then.
    """

    source_ids: tuple[int, ...]
    right_ids: dict[str, dict[int, int]]
    mapping: dict[int, int]
    protocol: AnnotationProtocol

    def protocol_for(self, looked_for: tuple[int, ...] | None) -> AnnotationProtocol:
        """The protocol of a case in which only some of the source's ids were looked for (None: all of them).

        An id of ours counts as looked for where every source id it is made of was.
        """
        if looked_for is None:
            return self.protocol
        missing = {self.mapping[number] for number in self.source_ids if number not in looked_for}
        for right_ids in self.right_ids.values():
            missing |= {self.mapping[right] for number, right in right_ids.items() if number not in looked_for}
        labels = {number: classes for number, classes in self.protocol.labels.items() if number not in missing}
        return AnnotationProtocol(labels=labels)

    def restricted_to(self, looked_for: tuple[int, ...] | None) -> "LabelPlan":
        """The plan of a case in which only some of the source's ids were looked for (None: all of them).

        An id of one class that was drawn all the same stays: there, somebody saw that class. One that stands for several is
        rewritten to 0, where all of them remain possible: an id that no protocol lists would stand for the first of them only.
        """
        if looked_for is None:
            return self
        protocol = self.protocol_for(looked_for)
        lost = {ours for ours, classes in self.protocol.labels.items() if len(classes) > 1 and ours not in protocol.labels}
        mapping = {number: 0 if ours in lost else ours for number, ours in self.mapping.items()}
        return replace(self, mapping=mapping, protocol=protocol)

    def holding_only(self, looked_for: tuple[int, ...] | None) -> "LabelPlan":
        """The plan of one annotator of several: what he or she did not look for becomes 0, also where it was drawn.

        Whoever counts votes asks of each id only those who looked for it everywhere.
        """
        protocol = self.protocol_for(looked_for)
        mapping = {number: ours if ours in protocol.labels else 0 for number, ours in self.mapping.items()}
        return replace(self, mapping=mapping, protocol=protocol)


def own_classes(table: dict[int, SourceLabel], tumor: TumorPolicy = "merge") -> tuple[str, ...]:
    """The classes a source offers under a tumor policy, in the order of its label ids; organs without a side offer both."""
    names: list[str] = []
    for label in table.values():
        names += sides_of(label) or label.classes
        if label.inside and tumor != "merge":
            names.append(label.inside)
    return tuple(dict.fromkeys(names))


def all_classes(table: dict[int, SourceLabel]) -> set[str]:
    """Every class a source can annotate under some policy."""
    return {name for label in table.values() for name in label.classes} | set(own_classes(table, "separate"))


def plan_labels(
    table: dict[int, SourceLabel], space: LabelSpace, tumor: TumorPolicy | None = None, sides: SidePolicy | None = None
) -> tuple[LabelPlan | None, list[str]]:
    """The plan for one source, or None and the reasons why there is none.

    Args:
        table: The source's label table.
        space: The classes of the pool.
        tumor: Tumors and cysts as part of their organ ("merge", the default), as classes of their own ("separate"), or organ
            and tumor under one id ("union"). One that the space has no class for stays part of its organ.
        sides: Organs drawn without a side are split by connected component ("split", the default), or stand for both under
            one id ("union").
    """
    source_ids = tuple(table)
    faults = _policy_faults(table, space, tumor, sides)
    if faults:
        return None, faults
    table, right_ids = _with_sides(table, space, sides)
    insides = _insides(table)
    undrawn = tuple(name for name in space.classes if name not in all_classes(table))
    mapping, annotated = {}, {}
    for number, label in table.items():
        classes = _stands_for(label, insides[label.classes], undrawn, tumor or "merge", space)
        known = [name for name in classes if name in space.classes]
        mapping[number] = space.id_of(known[0]) if known else 0
        if known:
            annotated[mapping[number]] = classes
            faults += [
                f"label {number} stands for {' or '.join(classes)}: {space.unknown(name)}"
                for name in classes
                if name not in known
            ]
    if not annotated:
        faults.append(f"annotates none of the classes {', '.join(space.classes)}; it has {', '.join(sorted(all_classes(table)))}")
    try:
        protocol = AnnotationProtocol(labels=annotated)
    except ValidationError as error:
        faults += [f"{fault.split(': ', 1)[1]}: its labels mean overlapping things" for fault in validation_faults(error)]
    return (None if faults else LabelPlan(source_ids, right_ids, mapping, protocol)), faults


def sides_of(label: SourceLabel) -> tuple[str, ...]:
    """Left and right of what a label drew without a side; nothing for other labels."""
    (organ, *others) = label.classes
    sides = (f"{organ}_left", f"{organ}_right")
    return sides if not others and members(organ) == sides else ()


def _is_divided(label: SourceLabel, space: LabelSpace) -> bool:
    """Whether a label has no side where the label space asks for one."""
    return any(name in space.classes for name in sides_of(label))


def _insides(table: dict[int, SourceLabel]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What the source draws apart inside each organ."""
    return {
        organ: tuple(label.inside for label in table.values() if label.inside and label.classes == organ)
        for organ in dict.fromkeys(label.classes for label in table.values())
    }


def _policy_faults(
    table: dict[int, SourceLabel], space: LabelSpace, tumor: TumorPolicy | None, sides: SidePolicy | None
) -> list[str]:
    """Why the policies do not go with the source's labels, the classes, or each other."""
    faults = []
    if sides and not any(sides_of(label) for label in table.values()):
        faults.append(f"sides: {sides}, but this source draws no organ without a side; leave `sides` out")
    for label in table.values():
        if _is_divided(label, space) and label.classes[0] in space.classes:
            organ, sided = label.classes[0], next(name for name in sides_of(label) if name in space.classes)
            faults.append(
                f"classes hold both '{organ}' and '{sided}', and a {organ} without a side could be either; keep one way"
            )
        if _is_divided(label, space) and tumor == "union" and label.inside in space.classes and sides != "union":
            faults.append(
                f"tumor: union puts '{label.inside}' under two ids where the {label.classes[0]} is split; "
                "use sides: union or tumor: separate"
            )
    inside = [label.inside for label in table.values() if label.inside]
    if tumor in ("separate", "union") and not inside:
        faults.append(f"tumor: {tumor}, but this source has no tumor label inside an organ; leave `tumor` out")
    if tumor in ("separate", "union") and not any(name in space.classes for name in inside):
        faults += [f"tumor: {tumor}: {space.unknown(name)}; add it to classes" for name in inside]
    if tumor in (None, "merge"):
        faults += [
            f"tumor: merge puts '{name}' into its organ, but it is one of the classes; use tumor: separate or tumor: union"
            for name in inside
            if name in space.classes
        ]
    return list(dict.fromkeys(faults))


def _with_sides(
    table: dict[int, SourceLabel], space: LabelSpace, sides: SidePolicy | None
) -> tuple[dict[int, SourceLabel], dict[str, dict[int, int]]]:
    """The table in terms of the label space's sides, and the ids that right parts get where they are to be split."""
    divided = {number: label for number, label in table.items() if _is_divided(label, space)}
    if sides == "union":
        return {**table, **{number: replace(label, classes=sides_of(label)) for number, label in divided.items()}}, {}
    sided, right_ids = dict(table), {}
    for number, label in divided.items():
        left, right = sides_of(label)
        sided[number] = replace(label, classes=(left,))
        sided[number + max(table)] = replace(label, classes=(right,))
        right_ids.setdefault(label.classes[0], {})[number] = number + max(table)
    return sided, right_ids


def _stands_for(
    label: SourceLabel, drawn_inside: tuple[str, ...], undrawn: tuple[str, ...], policy: TumorPolicy, space: LabelSpace
) -> tuple[str, ...]:
    """The classes an id stands for.

    Args:
        label: What the source says of the id.
        drawn_inside: What the source tells apart inside this organ.
        undrawn: The classes of the space that the source never draws.
        policy: See `plan_labels`.
        space: The classes of the pool.
    """
    if policy == "separate" and label.inside in space.classes:
        return (label.inside,)
    together = [name for name in drawn_inside if name in space.classes] if policy == "union" else []
    # What nobody drew apart here but the pool has as a class may be anywhere in the organ.
    organ = label.classes[0] if len(label.classes) == 1 else label.classes[0].removesuffix("_left")
    hidden = [name for kind in _INSIDE_KINDS if (name := f"{organ}_{kind}") in undrawn]
    return (*label.classes, *together, *hidden)
