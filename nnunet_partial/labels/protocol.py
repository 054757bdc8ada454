"""An annotation protocol: which classes a label id stands for, and what was looked for at all."""

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

from nnunet_partial.labels.space import MAX_LABEL_ID, LabelSpace


class AnnotationProtocol(BaseModel):
    """One way of annotating, shared by every case that was annotated that way.

    A label id that is listed was looked for: where a label map does not have it, the annotator found none. A class that
    no listed id stands for is unannotated: where the label map says 0, it may still be there.
    A union ("kidney" without a side) is an id with several classes; it may borrow the id of one of them, so that label maps
    hold no id that nnU-Net does not know.

    Attributes:
        labels: Label id -> the classes it stands for; empty where nobody annotated anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[int, tuple[str, ...]]

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: dict[int, tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
        faults = []
        for number, classes in labels.items():
            if number == 0:
                faults.append("id 0 is background and what was not looked for: it is never listed")
            elif not 0 < number <= MAX_LABEL_ID:
                faults.append(f"label id {number} is outside 1..{MAX_LABEL_ID} (nnU-Net's loader keeps label maps in int16)")
            if not classes:
                faults.append(f"label id {number} stands for no class")
        named = [name for classes in labels.values() for name in classes]
        faults += [f"class '{name}' stands under two label ids" for name in sorted({n for n in named if named.count(n) > 1})]
        if faults:
            raise ValueError("; ".join(faults))
        return dict(sorted((number, tuple(classes)) for number, classes in labels.items()))

    @property
    def annotated_classes(self) -> frozenset[str]:
        """The classes that were looked for, alone or within a union."""
        return frozenset(name for classes in self.labels.values() for name in classes)

    def faults(self, space: LabelSpace) -> list[str]:
        """What of this protocol does not fit a label space."""
        found = [space.unknown(name) for name in sorted(self.annotated_classes - set(space.classes))]
        for number, classes in self.labels.items():
            own = space.classes[number - 1] if number < space.num_classes else None
            if own is not None and own not in classes:
                found.append(
                    f"label id {number} is class '{own}' in the label space, but here it stands for {', '.join(classes)}"
                )
            if number == space.ignore_id:
                found.append(f"label id {number} is the ignore label and cannot stand for {', '.join(classes)}")
        return found

    def candidate_table(self, space: LabelSpace) -> np.ndarray:
        """Row l holds the candidate classes of a voxel whose label id is l.

        Background's row also holds every unannotated class. An id that the protocol does not list stands for its own class:
        that is how a pseudo-label enters. The ignore label's row holds every class.

        Shape:
            returns (L, C) bool, with L = `num_label_ids` and C = `space.num_classes`.
        """
        table = np.zeros((self.num_label_ids(space), space.num_classes), dtype=bool)
        np.fill_diagonal(table, True)
        table[0, [space.id_of(name) for name in space.classes if name not in self.annotated_classes]] = True
        if space.ignore_id is not None:
            table[space.ignore_id] = True
        for number, classes in self.labels.items():
            table[number] = False
            table[number, [space.id_of(name) for name in classes]] = True
        return table

    def annotated_ids(self, space: LabelSpace) -> np.ndarray:
        """(L,) bool: the label ids that were looked for."""
        flags = np.zeros(self.num_label_ids(space), dtype=bool)
        flags[list(self.labels)] = True
        return flags

    def num_label_ids(self, space: LabelSpace) -> int:
        """L: one more than the largest label id a label map may hold under this protocol."""
        return max([space.num_classes + space.has_ignore, *(number + 1 for number in self.labels)])
