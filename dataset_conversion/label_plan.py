"""From a source's label table to ours: which id becomes which, and what that annotates."""

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ValidationError

from nnunet_partial.dataset_conversion.listing import SourceLabel
from nnunet_partial.labels import AnnotationProtocol, LabelSpace
from nnunet_partial.labels.annotation import validation_faults

TumorPolicy = Literal["merge", "separate", "union"]
SidePolicy = Literal["split", "union"]
_UNSIDED = ("kidney",)
_SIDES = ("kidney_left", "kidney_right")


@dataclass(frozen=True)
class LabelPlan:
    """How the label maps of one source are rewritten.

    Attributes:
        source_ids: The ids a label map of the source may hold.
        right_ids: Source id of an organ without a side -> the id its right part gets first; empty where nothing is to be split.
        mapping: Source id (or right id) -> our id; 0 where the class is not in the label space.
        protocol: What a label map means then.
    """

    source_ids: tuple[int, ...]
    right_ids: dict[int, int]
    mapping: dict[int, int]
    protocol: AnnotationProtocol

    def protocol_for(self, looked_for: tuple[int, ...] | None) -> AnnotationProtocol:
        """The protocol of a case in which only some of the source's ids were looked for (None: all of them).

        An id of ours counts as looked for where every source id it is made of was.
        """
        if looked_for is None:
            return self.protocol
        missing = {self.mapping[number] for number in self.source_ids if number not in looked_for}
        missing |= {self.mapping[right] for number, right in self.right_ids.items() if number not in looked_for}
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


def own_classes(table: dict[int, SourceLabel], tumor: TumorPolicy = "merge") -> tuple[str, ...]:
    """The classes a source offers under a tumor policy, in the order of its label ids; kidneys without a side offer both."""
    names: list[str] = []
    for label in table.values():
        names += _SIDES if label.classes == _UNSIDED else label.classes
        if label.tumor and tumor != "merge":
            names.append(label.tumor)
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
        tumor: Tumors as part of their organ ("merge", the default), as classes of their own ("separate"), or organ and tumor
            under one id ("union").
        sides: Kidneys drawn without a side are split by connected component ("split", the default), or stand for both under
            one id ("union").
    """
    source_ids = tuple(table)
    tumors = {label.classes: label.tumor for label in table.values() if label.tumor}
    faults = _policy_faults(table, space, tumor, sides, tuple(tumors.values()))
    if faults:
        return None, faults
    table, right_ids = _with_sides(table, space, sides)
    tumors = {label.classes: label.tumor for label in table.values() if label.tumor}
    mapping, annotated = {}, {}
    for number, label in table.items():
        classes = _stands_for(label, tumors.get(label.classes), tumor or "merge", space)
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


def _policy_faults(
    table: dict[int, SourceLabel], space: LabelSpace, tumor: TumorPolicy | None, sides: SidePolicy | None, tumors: tuple[str, ...]
) -> list[str]:
    """Why the policies do not go with the source's labels, the classes, or each other."""
    faults = []
    is_unsided = any(label.classes == _UNSIDED for label in table.values())
    sided_classes = [name for name in _SIDES if name in space.classes]
    if sides and not is_unsided:
        faults.append(f"sides: {sides}, but this source draws no kidney without a side; leave `sides` out")
    if is_unsided and sided_classes and _UNSIDED[0] in space.classes:
        faults.append(
            f"classes hold both 'kidney' and '{sided_classes[0]}', and a kidney without a side could be either; keep one way"
        )
    if tumor in ("separate", "union") and not tumors:
        faults.append(f"tumor: {tumor}, but this source has no tumor label inside an organ; leave `tumor` out")
    if tumor == "union" and tumors and is_unsided and sided_classes and sides != "union":
        faults.append(
            "tumor: union puts one tumor class under two ids where kidneys are split; use sides: union or tumor: separate"
        )
    for name in tumors:
        if tumor in ("separate", "union") and name not in space.classes:
            faults.append(f"tumor: {tumor}: {space.unknown(name)}; add it to classes")
        if tumor in (None, "merge") and name in space.classes:
            faults.append(
                f"tumor: merge puts '{name}' into its organ, but it is one of the classes; use tumor: separate or tumor: union"
            )
    return list(dict.fromkeys(faults))


def _with_sides(
    table: dict[int, SourceLabel], space: LabelSpace, sides: SidePolicy | None
) -> tuple[dict[int, SourceLabel], dict[int, int]]:
    """The table in terms of the label space's kidneys, and the ids that the right ones get where they are to be split."""
    unsided = [number for number, label in table.items() if label.classes == _UNSIDED]
    if not unsided or not any(name in space.classes for name in _SIDES):
        return table, {}
    if sides == "union":
        return {n: SourceLabel(_SIDES, label.tumor) if n in unsided else label for n, label in table.items()}, {}
    right_ids = {number: number + max(table) for number in unsided}
    sided = {n: SourceLabel(_SIDES[:1], label.tumor) if n in unsided else label for n, label in table.items()}
    sided.update({right: SourceLabel(_SIDES[1:], table[n].tumor) for n, right in right_ids.items()})
    return sided, right_ids


def _stands_for(label: SourceLabel, tumor: str | None, policy: TumorPolicy, space: LabelSpace) -> tuple[str, ...]:
    """The classes an id stands for; `tumor` is what the source calls a tumor of this organ."""
    if tumor is None:
        # Nobody drew tumors apart here: where the pool has them as a class, the organ's voxels may be either.
        hidden = f"{label.classes[0]}_tumor"
        return (*label.classes, hidden) if len(label.classes) == 1 and hidden in space.classes else label.classes
    if policy == "union":
        return (*label.classes, tumor)
    return (tumor,) if policy == "separate" and label.tumor else label.classes
