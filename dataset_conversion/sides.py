"""Which side is which, where a source drew an organ without a side: by connected component, in the patient's axes."""

from collections.abc import Mapping
from dataclasses import dataclass

import cc3d
import numpy as np

from nnunet_partial.dataset_conversion.anatomy import body_middle
from nnunet_partial.dataset_conversion.image_files.volume import Volume, bounding_box

_STRIDE = 4
_MAIN_PART = 0.1  # of the largest component's volume: smaller ones are specks and follow their neighbour
_BOTH_SIDES_PART = 0.15  # a component with this part of itself on either side of the middle is two organs in one
_APART_MM = 60


@dataclass(frozen=True)
class _Component:
    number: int
    voxels: int
    center_mm: np.ndarray  # along the array axes, from the first voxel; the first axis runs to the patient's right


def split_sides(labels: np.ndarray, image: Volume, organ: str, right_ids: Mapping[int, int]) -> tuple[np.ndarray, list[str]]:
    """Give the right one of a paired organ ids of its own.

    Args:
        labels: Label map in RAS, source ids.
        image: The CT on the same grid; the body in it says where the middle is.
        organ: What is split, for the notes.
        right_ids: Ids of what belongs to the organ (its tumor too) -> the ids of the same on the right side.

    Returns:
        The label map in which the right side has its own ids, and notes on what was not plain.
    """
    drawn = np.isin(labels, list(right_ids))
    if not drawn.any():
        return labels, [f"no {organ} in the label map"]
    box = bounding_box(drawn)
    components = cc3d.connected_components(drawn[box], connectivity=26)
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    parts = _components(components, np.array([axis.start for axis in box]), spacing_mm)
    middle = body_middle(image.intensities((slice(None), slice(None, None, _STRIDE), box[2])))
    right, notes = _right_side(components, parts, box[0].start, middle, spacing_mm[0])
    largest = max(int(labels.max()), *right_ids.values())
    table = np.arange(largest + 1, dtype=np.min_scalar_type(largest))
    table[list(right_ids)] = list(right_ids.values())
    sided = labels.astype(table.dtype)
    sided[box] = np.where(right, table[sided[box]], sided[box])
    return sided, [f"{organ}: {note}" for note in notes]


def _right_side(
    components: np.ndarray, parts: list[_Component], first_x: int, middle: float, spacing_mm: float
) -> tuple[np.ndarray, list[str]]:
    """Which voxels of the box belong to the right side."""
    main = [part for part in parts if part.voxels >= _MAIN_PART * parts[0].voxels]
    middle_mm = middle * spacing_mm
    x_mm = (first_x + np.arange(components.shape[0])) * spacing_mm
    for part in main:
        profile = np.count_nonzero(components == part.number, axis=(1, 2))
        on_right = profile[x_mm > middle_mm].sum() / part.voxels
        if _BOTH_SIDES_PART <= on_right <= 1 - _BOTH_SIDES_PART:
            right = (components > 0) & (x_mm > middle_mm)[:, None, None]
            return right, ["both sides are joined over the midline; split at the middle of the body"]
    notes = []
    centers = [part.center_mm[0] for part in main]
    if len({center > middle_mm for center in centers}) == 1:
        if max(centers) - min(centers) > _APART_MM:
            middle_mm = (max(centers) + min(centers)) / 2
            notes.append("both lie on one side of the body's middle; sides taken from each other's position")
        else:
            side = "right" if centers[0] > middle_mm else "left"
            notes.append(f"only a {side} one, by its position in the body")
    is_right = np.zeros(len(parts) + 1, dtype=bool)
    for part in parts:
        nearest = (
            part if part in main else min(main, key=lambda other, part=part: np.linalg.norm(other.center_mm - part.center_mm))
        )
        is_right[part.number] = nearest.center_mm[0] > middle_mm
    return is_right[components], notes


def _components(components: np.ndarray, first_voxel: np.ndarray, spacing_mm: np.ndarray) -> list[_Component]:
    """The components, largest first."""
    statistics = cc3d.statistics(components)
    parts = [
        _Component(number, int(voxels), (center + first_voxel) * spacing_mm)
        for number, (voxels, center) in enumerate(zip(statistics["voxel_counts"], statistics["centroids"], strict=True))
        if number > 0
    ]
    return sorted(parts, key=lambda part: (-part.voxels, part.number))
