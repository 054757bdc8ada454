"""Label maps that a source keeps as one binary file a structure."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunet_partial.dataset_conversion.volume import Volume, read_nifti, same_grid


def paint_masks(layers: Iterable[tuple[int, Path]]) -> Volume:
    """One label map of binary masks, each painted over those before it.

    Args:
        layers: (label id, file of a mask: 0 is outside), in the order of painting; at least one.

    Raises:
        ValueError: a mask has another shape or lies at another place than the first one.
    """
    painted: Volume | None = None
    first = ""
    for number, file in layers:
        mask = read_nifti(file)
        if painted is None:
            painted, first = Volume(np.zeros(mask.array.shape, dtype=np.uint8, order="F"), mask.affine), file.name
        if mask.array.shape != painted.array.shape or not same_grid(mask, painted):
            raise ValueError(f"'{file.name}' does not lie on the grid of '{first}', though both belong to one label map")
        painted.array[mask.array != 0] = number
    assert painted is not None
    return painted
