"""What most annotators say of each voxel, where they need not have looked for the same classes."""

from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError
from scipy import ndimage

from nnunet_partial.dataset_conversion.image_files.volume import bounding_box
from nnunet_partial.labels import AnnotationProtocol


def majority_protocol(protocols: Sequence[AnnotationProtocol]) -> AnnotationProtocol:
    """What any of the annotators looked for.

    Raises:
        ValueError: they mean different things by one label id, or mean one class by different ids (a kidney without a side
            against one with a side): such votes cannot be counted against each other.
    """
    labels: dict[int, tuple[str, ...]] = {}
    for protocol in protocols:
        for number, classes in protocol.labels.items():
            if labels.setdefault(number, classes) != classes:
                raise ValueError(
                    f"label id {number} stands for {' or '.join(labels[number])} with one annotator and for "
                    f"{' or '.join(classes)} with another; their votes cannot be counted together"
                )
    try:
        return AnnotationProtocol(labels=labels)
    except ValidationError:
        named = [name for classes in labels.values() for name in classes]
        twice = ", ".join(sorted({name for name in named if named.count(name) > 1}))
        raise ValueError(
            f"the annotators drew {twice} under different label ids, alone and together with other classes; "
            "their votes cannot be counted together"
        ) from None


def majority_labels(label_maps: Sequence[np.ndarray], protocols: Sequence[AnnotationProtocol]) -> np.ndarray:
    """The label map that holds, in each voxel, the id for which more than half of those voted who looked for it.

    The share of an id is the number of annotators who drew it there over the number of those whose protocol lists it. An id
    needs a share above one half; half of them is not enough, and the voxel is background, as it is where no id has enough. Two
    ids can both have more than half only where different annotators looked for them: the larger share wins, then the lower id.
    An id that stands for several classes is voted for like any other. What somebody drew without having looked for it
    everywhere is no vote. So two annotators of one protocol make what both drew; an id that one alone looked for is as drawn.

    Args:
        label_maps: One for each annotator, on one grid.
        protocols: What each of them looked for.
    Shape:
        label_maps (*S) each, three axes; returns (*S) in their type.
    Raises:
        ValueError: see `majority_protocol`; or shapes that differ.
    """
    numbers = majority_protocol(protocols).labels
    shapes = {labels.shape for labels in label_maps}
    if len(shapes) > 1 or len(label_maps) != len(protocols):
        raise ValueError(f"expected label maps of one shape and a protocol for each, got {shapes} and {len(protocols)} protocols")
    majority = np.zeros(label_maps[0].shape, dtype=np.result_type(*label_maps), order="F")
    box = _box_of_all(label_maps)
    parts, winner = [labels[box] for labels in label_maps], majority[box]
    boxes = [ndimage.find_objects(part, max_label=max(numbers, default=1)) for part in parts]
    largest_share = np.full(winner.shape, 0.5, dtype=np.float32)  # the same fraction is the same float, however it is written
    for number in numbers:
        voters = [index for index, protocol in enumerate(protocols) if number in protocol.labels]
        drawn_in = [boxes[index][number - 1] for index in voters if boxes[index][number - 1] is not None]
        if not drawn_in:
            continue
        near = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*drawn_in, strict=True))
        votes = np.zeros(winner[near].shape, dtype=np.uint8)
        for index in voters:
            votes += parts[index][near] == number
        share = votes / np.float32(len(voters))
        wins = share > largest_share[near]
        winner[near][wins] = number
        largest_share[near][wins] = share[wins]
    return majority


def _box_of_all(label_maps: Sequence[np.ndarray]) -> tuple[slice, slice, slice]:
    """The smallest box outside of which nobody drew anything."""
    boxes = [box for labels in label_maps if (box := bounding_box(labels))[0].stop]
    if not boxes:
        return (slice(0, 0),) * 3
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
