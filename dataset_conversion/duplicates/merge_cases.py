"""The annotations of several cases that show the same scan, united in one label map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import Volume, same_grid
from nnunet_partial.labels import AnnotationProtocol, LabelSpace


@dataclass(frozen=True)
class MergePlan:
    """Whose drawing of what goes into the merged label map.

    Attributes:
        protocol: What the merged label map means.
        taken: For each case, its label ids that are taken -> the id they get.
        notes: What is given up.
    """

    protocol: AnnotationProtocol
    taken: tuple[dict[int, int], ...]
    notes: tuple[str, ...]


def plan_merge(protocols: Sequence[AnnotationProtocol], space: LabelSpace) -> MergePlan:
    """Decide, for each class, whose drawing counts.

    A class drawn by itself wins over a union that holds it ("kidney" without a side gives way to the two kidneys); among equals
    the case that comes first wins. The classes of a union that gave way and that nobody else drew become unannotated: what the
    others left of it may be nothing but the difference between two hands.

    Args:
        protocols: One for each case, in the order of their priority.
        space: The classes.
    """
    labels: dict[int, tuple[str, ...]] = {}
    taken: tuple[dict[int, int], ...] = tuple({} for _ in protocols)
    for wants_union in (False, True):
        for case, protocol in enumerate(protocols):
            for number, classes in protocol.labels.items():
                known = {name for names in labels.values() for name in names}
                if (len(classes) > 1) == wants_union and known.isdisjoint(classes):
                    ours = number if number not in labels else space.id_of(classes[0])
                    labels[ours] = classes
                    taken[case][number] = ours
    known = {name for names in labels.values() for name in names}
    lost = sorted({name for protocol in protocols for name in protocol.annotated_classes} - known)
    notes = [f"{name} was drawn only together with a class that another case drew by itself: it is unannotated" for name in lost]
    return MergePlan(AnnotationProtocol(labels=labels), taken, tuple(notes))


def merge_labels(
    label_maps: Sequence[np.ndarray], protocols: Sequence[AnnotationProtocol], plan: MergePlan
) -> tuple[np.ndarray, list[str]]:
    """The merged label map, and in words where the cases disagree.

    Where two cases drew the same voxel for different classes, the case that comes first wins.

    Args:
        label_maps: One for each case, on one grid.
        protocols: What they mean.
        plan: What is taken from which.
    """
    merged = np.zeros(label_maps[0].shape, dtype=np.result_type(*label_maps, np.uint8), order="F")
    contested = np.zeros(merged.shape, dtype=bool)
    for labels, taken in reversed(list(zip(label_maps, plan.taken, strict=True))):
        for number, ours in taken.items():
            drawn = labels == number
            contested |= drawn & (merged != 0) & (merged != ours)
            merged[drawn] = ours
    notes = list(plan.notes)
    if contested.any():
        notes.append(f"{np.count_nonzero(contested)} voxels were drawn for different classes; the first case's class was kept")
    for number, classes in plan.protocol.labels.items():
        maps = [
            labels == own
            for labels, protocol in zip(label_maps, protocols, strict=True)
            for own, names in protocol.labels.items()
            if names == classes
        ]
        different = sum(int(np.count_nonzero(other != maps[0])) for other in maps[1:])
        if different:
            notes.append(f"{'/'.join(classes)} (id {number}) was drawn {len(maps)} times, {different} voxels differ; first kept")
    return merged, notes


def merge_fault(volumes: Sequence[Volume], *, same_voxels: bool) -> str:
    """Why cases cannot be merged, or "".

    Args:
        volumes: Their label maps in RAS.
        same_voxels: Whether their images are the same voxel by voxel, so that their headers need not agree.
    """
    shapes = {volume.array.shape for volume in volumes}
    if len(shapes) > 1:
        return f"they have different shapes, {' and '.join(map(str, sorted(shapes)))}: one is a crop or was resampled"
    if not same_voxels and not all(same_grid(volumes[0], volume) for volume in volumes[1:]):
        return "their voxels lie at different places: one was resampled, moved or mirrored"
    return ""
