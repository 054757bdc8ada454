"""The label space: the classes one network predicts, and the ids nnU-Net knows them by."""

import re
from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, field_validator

from nnunet_partial.labels.vocabulary import canonical, other_side_among, side, suggest

BACKGROUND = "background"
IGNORE = "ignore"
MAX_LABEL_ID = 2**15 - 1  # nnU-Net's loader hands label maps over as int16
_NAME = re.compile(r"[a-z0-9][a-z0-9_\-]*")


class LabelSpace(BaseModel):
    """An ordered set of classes; class number n has label id n + 1, background has 0.

    Attributes:
        classes: Names of the foreground classes, in the order of their label ids.
        has_ignore: Whether the id after the last class marks voxels that are to be ignored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    has_ignore: bool = False

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        faults = []
        if not classes:
            faults.append("a label space needs at least one class")
        for name in classes:
            if name in (BACKGROUND, IGNORE):
                faults.append(f"class '{name}' is reserved by nnU-Net; leave it out of the list")
            elif not _NAME.fullmatch(name):
                example = f"did you mean '{canonical(name)}'?" if canonical(name) else "for example 'kidney_left'"
                faults.append(f"class '{name}': use lower-case letters, digits, '_' and '-' ({example})")
        faults += [f"class '{name}' is listed twice" for name, count in sorted(Counter(classes).items()) if count > 1]
        if len(classes) + 1 > MAX_LABEL_ID:
            faults.append(f"{len(classes)} classes do not fit into int16, in which nnU-Net's loader keeps label maps")
        if faults:
            raise ValueError("; ".join(faults))
        return classes

    @property
    def num_classes(self) -> int:
        """C, the number of channels of the network: the foreground classes and background."""
        return len(self.classes) + 1

    @property
    def ignore_id(self) -> int | None:
        """The label id that marks voxels without supervision, or None."""
        return self.num_classes if self.has_ignore else None

    def id_of(self, name: str) -> int:
        """Label id of a class; a name that is not in the label space raises with the nearest one that is."""
        if name == BACKGROUND:
            return 0
        if name not in self.classes:
            raise ValueError(self.unknown(name))
        return self.classes.index(name) + 1

    def unknown(self, name: str) -> str:
        """The sentence that says a class is not in the label space, and which one was probably meant."""
        near = suggest(name, self.classes)
        hint = f"did you mean '{near}'?" if near else f"it has {', '.join(self.classes)}"
        return f"class '{name}' is not in the label space ({hint})"

    def left_right_pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of classes that differ only in the side, as (left, right)."""
        pairs = ((name, other_side_among(name, self.classes)) for name in self.classes if side(name) == "left")
        return tuple((left, right) for left, right in pairs if right is not None)

    def nnunet_labels(self) -> dict[str, int]:
        """The `labels` entry of nnU-Net's dataset.json."""
        labels = {BACKGROUND: 0, **{name: number for number, name in enumerate(self.classes, 1)}}
        return {**labels, IGNORE: self.num_classes} if self.has_ignore else labels

    @classmethod
    def from_nnunet_labels(cls, labels: dict[str, int]) -> "LabelSpace":
        """The label space that a dataset.json describes.

        Raises:
            ValueError: ids are not consecutive from 0, or the dataset uses nnU-Net's regions.
        """
        regions = [name for name, number in labels.items() if isinstance(number, (list, tuple)) and len(number) > 1]
        if regions:
            raise ValueError(
                f"labels {', '.join(regions)} are regions (lists of ids); partly annotated training needs one id a class"
            )
        number_of = {name: int(number[0] if isinstance(number, (list, tuple)) else number) for name, number in labels.items()}
        ordered = sorted((n for n in number_of if n not in (BACKGROUND, IGNORE)), key=number_of.__getitem__)
        space = cls(classes=tuple(ordered), has_ignore=IGNORE in labels)
        if number_of != space.nnunet_labels():
            raise ValueError(f"label ids must run 0 (background), 1, 2, ... with 'ignore' last; dataset.json has {number_of}")
        return space


def near_miss(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' for the nearest of the known names, or nothing."""
    near = suggest(name, known)
    return f" (did you mean '{near}'?)" if near else ""
