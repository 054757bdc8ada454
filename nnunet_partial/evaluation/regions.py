"""Where each judged class lies in reference and prediction, within one small box."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nnunet_partial.evaluation.case import ClassKey, check_ids, judged_keys
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Region:
    """A judged class in both label maps; outside the box neither shows it.

    Attributes:
        reference: Mask of the voxels that can only be this class, in the box.
        prediction: Mask of the voxels predicted as this class, in the box.
        box: Where the masks lie in the whole volume.
    """

    reference: np.ndarray
    prediction: np.ndarray
    box: Box


def judged_regions(
    reference: np.ndarray, prediction: np.ndarray, protocol: AnnotationProtocol, space: LabelSpace
) -> Iterator[tuple[ClassKey, Region | None]]:
    """Every key that a protocol's cases are judged under, with its masks; None where neither label map shows it.

    Voxels with the ignore label are background in both masks.

    Shape:
        reference and prediction *S, integers.

    Raises:
        ValueError: a label id that neither protocol nor label space knows.
    """
    table = protocol.candidate_table(space)
    boxes = ndimage.find_objects(reference), ndimage.find_objects(prediction)
    check_ids("reference", _held(reference, boxes[0]), table.any(axis=1))
    check_ids("prediction", _held(prediction, boxes[1]), np.ones(space.num_classes, dtype=bool))
    for key in judged_keys(protocol, space):
        members = np.isin(np.arange(space.num_classes), key)
        positive = ~table[:, ~members].any(axis=1)
        found = [_boxes_of(ids, given) for ids, given in zip((positive, members), boxes, strict=True)]
        box = joint_box([*found[0], *found[1]])
        if box is None:
            yield key, None
            continue
        inside = reference[box]
        masks = positive[inside], members[prediction[box]]
        if space.ignore_id is not None:
            masks[1][inside == space.ignore_id] = False
        yield key, Region(reference=masks[0], prediction=masks[1], box=box)


def joint_box(boxes: Sequence[Box]) -> Box | None:
    """The smallest box around all of them; None for none."""
    if not boxes:
        return None
    return tuple(slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*boxes, strict=True))


def grown_box(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    """The box with `margin` more voxels on each side, as far as the volume goes."""
    return tuple(
        slice(max(part.start - more, 0), min(part.stop + more, size)) for part, more, size in zip(box, margin, shape, strict=True)
    )


def _held(labels: np.ndarray, boxes: Sequence[Box | None]) -> list[int]:
    """The lowest id, which has no box where it is negative, and those that have one; ndimage counts ids from 1."""
    return [int(labels.min(initial=0)), *(number for number, box in enumerate(boxes, 1) if box is not None)]


def _boxes_of(flags: np.ndarray, boxes: Sequence[Box | None]) -> list[Box]:
    """The boxes of the flagged ids; ndimage counts ids from 1."""
    return [boxes[number - 1] for number in np.flatnonzero(flags) if 0 < number <= len(boxes) and boxes[number - 1] is not None]
