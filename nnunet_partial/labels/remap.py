"""Source label ids to our label ids, by one look-up."""

from collections.abc import Mapping

import numpy as np

_TABLE_LIMIT = 2**16


def remap_labels(labels: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Replace every id of a label map by the id the mapping gives it.

    Args:
        labels: Label map of any shape; integers, or floats that hold whole numbers.
        mapping: Source id -> our id, complete: 0 stays 0 unless the mapping says otherwise.

    Returns:
        The label map with our ids, in uint8 where they fit, else int16.

    Raises:
        ValueError: fractions, negative ids, or an id that the mapping does not know; the message lists all unknown ids.
    """
    counts = count_labels(labels)
    mapping = {0: 0, **mapping}
    unknown = sorted(set(counts) - set(mapping))
    if unknown:
        found = ", ".join(f"{number} ({counts[number]} voxels)" for number in unknown)
        raise ValueError(f"unknown label ids {found}; known are {', '.join(map(str, sorted(mapping)))}")
    table = np.zeros(max(counts, default=0) + 1, dtype=np.uint8 if max(mapping.values()) < 2**8 else np.int16)
    for source, ours in mapping.items():
        if source < len(table):
            table[source] = ours
    return table[labels.astype(np.uint16 if len(table) <= _TABLE_LIMIT else np.int64, copy=False)]


def count_labels(labels: np.ndarray) -> dict[int, int]:
    """Voxels of each label id that occurs, ids ascending.

    Raises:
        ValueError: the label map holds fractions, NaN or negative ids.
    """
    labels = np.asarray(labels)
    if labels.size == 0:
        return {}
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64, copy=True) if np.isfinite(labels).all() else None
        if whole is None or not np.array_equal(whole, labels):
            raise ValueError("the label map holds fractions or NaN; label ids are whole numbers")
        labels = whole
    elif labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    elif labels.dtype.kind not in "iu":
        raise ValueError(f"the label map has type {labels.dtype}; label ids are whole numbers")
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0:
        raise ValueError(f"the label map holds negative ids (down to {smallest})")
    if largest >= _TABLE_LIMIT:
        raise ValueError(f"the label map holds ids up to {largest}, which cannot be label ids (is it an image?)")
    counts = np.bincount(labels.ravel(order="K"))  # np.unique takes 7 times as long, and so does a copy into another order
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
