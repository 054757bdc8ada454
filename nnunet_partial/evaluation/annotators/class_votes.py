"""Who drew what of which class: the annotators' label maps of a case, class by class."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from nnunet_partial.evaluation.case import ClassKey, judged_keys
from nnunet_partial.evaluation.label_maps import LabelMap, read_label_map
from nnunet_partial.evaluation.regions import Box, joint_box
from nnunet_partial.labels import AnnotationProtocol, LabelSpace, first_of


@dataclass(frozen=True)
class Patch:
    """A mask where it is not empty; None stands for one that is.

    Attributes:
        mask: Bool, in the box.
        box: Where it lies in the volume.
    """

    mask: np.ndarray
    box: Box

    def within(self, box: Box) -> np.ndarray:
        """The mask as it is seen in another box."""
        seen = np.zeros([part.stop - part.start for part in box], dtype=bool)
        both = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True)]
        if all(part.start < part.stop for part in both):
            seen[_moved(both, box)] = self.mask[_moved(both, self.box)]
        return seen


@dataclass(frozen=True)
class ClassVotes:
    """What the annotators who looked for a class drew of it, within a box.

    Attributes:
        annotators: Those who looked for it.
        masks: What each of them drew; nowhere a voxel that is not known.
        known: The voxels that none of them marked with the ignore label.
    Shape:
        masks (A, *S) bool, known (*S) bool.
    """

    annotators: tuple[str, ...]
    masks: np.ndarray
    known: np.ndarray

    @property
    def votes(self) -> np.ndarray:
        """(*S) how many annotators drew the class."""
        return self.masks.sum(axis=0, dtype=np.int16)

    @property
    def share(self) -> np.ndarray:
        """(*S) float32: the averaged annotation."""
        return self.votes / np.float32(len(self.annotators))


@dataclass(frozen=True)
class CaseVotes:
    """What the annotators drew of a case.

    Attributes:
        drawn: Class or union -> annotator who looked for it -> what he or she drew; None for nothing.
        ignored: Annotator -> voxels that he or she marked with the ignore label; None for none.
        grid: The label map of the first annotator, for its shape and spacing.
    """

    drawn: Mapping[ClassKey, Mapping[str, Patch | None]]
    ignored: Mapping[str, Patch | None]
    grid: LabelMap

    def box_of(self, key: ClassKey) -> Box | None:
        """The smallest box around what anybody drew of a class; None where nobody did."""
        return joint_box([patch.box for patch in self.drawn[key].values() if patch is not None])

    def of_class(self, key: ClassKey, box: Box) -> ClassVotes:
        """The votes on a class within a box."""
        known = np.ones([part.stop - part.start for part in box], dtype=bool)
        for annotator in self.drawn[key]:
            if self.ignored[annotator] is not None:
                known &= ~self.ignored[annotator].within(box)
        nothing = np.zeros_like(known)
        masks = [nothing if patch is None else patch.within(box) & known for patch in self.drawn[key].values()]
        return ClassVotes(annotators=tuple(self.drawn[key]), masks=np.stack(masks), known=known)


def read_votes(files: Mapping[str, Path], protocols: Mapping[str, AnnotationProtocol], space: LabelSpace) -> CaseVotes:
    """Read the annotators' label maps one after another, and keep of each class only the box around it.

    Raises:
        ValueError: a file cannot be read, or holds a label id that neither protocol nor label space knows.
    """
    keys = case_keys(protocols.values(), space)
    drawn: dict[ClassKey, dict[str, Patch | None]] = {key: {} for key in keys}
    ignored = {}
    for annotator, file in files.items():
        label_map = read_label_map(file)
        protocol = protocols[annotator]
        boxes = ndimage.find_objects(label_map.labels)
        _check_ids(label_map.labels, boxes, protocol.candidate_table(space).any(axis=1), file)
        for key in keys:
            shows = showing_ids(key, protocol, space)
            if shows is not None:
                drawn[key][annotator] = _patch(label_map.labels, shows, boxes)
        marks_ignore = np.arange(protocol.num_label_ids(space)) == space.ignore_id  # None is no id
        ignored[annotator] = _patch(label_map.labels, marks_ignore, boxes)
    return CaseVotes(drawn=drawn, ignored=ignored, grid=label_map)


def case_keys(protocols: Iterable[AnnotationProtocol], space: LabelSpace) -> list[ClassKey]:
    """The classes, then the unions, that any annotator of a case looked for under an id of its own."""
    keys = {key for protocol in protocols for key in judged_keys(protocol, space)}
    return [*sorted(key for key in keys if isinstance(key, int)), *sorted(key for key in keys if isinstance(key, tuple))]


def showing_ids(key: ClassKey, protocol: AnnotationProtocol, space: LabelSpace) -> np.ndarray | None:
    """Which label ids of an annotator's label map show a class or union.

    None where the protocol cannot tell: a class that was not looked for, or only together with others. Of a union that another
    annotator drew under one id, an annotator who drew each class on its own can tell.

    Shape:
        returns (L,) bool.
    """
    numbers = set(key) if isinstance(key, tuple) else {key}
    groups = ({space.id_of(name) for name in classes} for classes in protocol.labels.values())
    if numbers != {number for group in groups if group <= numbers for number in group}:
        return None
    members = np.isin(np.arange(space.num_classes), key)
    table = protocol.candidate_table(space)
    return table.any(axis=1) & ~table[:, ~members].any(axis=1)


def _check_ids(labels: np.ndarray, boxes: Sequence[Box | None], known: np.ndarray, file: Path) -> None:
    """Refuse ids that stand for nothing; ids that the map holds have a box."""
    held = [number for number, box in enumerate(boxes, 1) if box is not None]
    unknown = [number for number in held if number >= len(known) or not known[number]]
    if labels.size and labels.min() < 0:
        unknown.insert(0, int(labels.min()))
    if unknown:
        listed = first_of([str(number) for number in unknown])
        raise ValueError(f"{file} holds label ids that neither dataset.json nor the annotator's protocol knows: {listed}")


def _patch(labels: np.ndarray, shows: np.ndarray, boxes: Sequence[Box | None]) -> Patch | None:
    """The voxels with the flagged ids, from the boxes of all ids; ndimage counts ids from 1."""
    found = [boxes[number - 1] for number in np.flatnonzero(shows) if 0 < number <= len(boxes) and boxes[number - 1] is not None]
    box = joint_box(found)
    return None if box is None else Patch(mask=shows[labels[box]], box=box)


def _moved(box: Sequence[slice], origin: Box) -> Box:
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, origin, strict=True))
