"""Label maps that are many binary masks: painted one after the other, so that only one mask is in memory."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import Volume, bounding_box, read_nifti, same_grid

_SHOWN = 5


class MaskPainter:
    """Paints masks into one label map; where two overlap, the later one stays, and the result says so.

    Args:
        max_id: The largest label id that will be painted.
    """

    def __init__(self, max_id: int):
        self._dtype = np.uint8 if max_id < 2**8 else np.uint16
        self._labels: Volume | None = None
        self._first = ""
        self._names: dict[int, str] = {}
        self._overlaps: Counter[tuple[str, str]] = Counter()

    def add(self, number: int, mask: Volume, name: str, *, inside: int | None = None) -> None:
        """Paint a mask.

        Args:
            number: Its label id.
            mask: 0 outside, one other value inside.
            name: What it is called in messages.
            inside: The id of the organ that this mask lies in: painting over that one is no overlap.

        Raises:
            ValueError: it has more than two values, or another grid than the first one.
        """
        if self._labels is None:
            self._labels, self._first = Volume(np.zeros(mask.array.shape, dtype=self._dtype, order="F"), mask.affine), name
        elif mask.array.shape != self._labels.array.shape or not same_grid(self._labels, mask):
            raise ValueError(f"masks '{self._first}' and '{name}' lie on different grids; all masks of a case share one")
        box = bounding_box(mask.array)
        part, below = mask.array[box], self._labels.array[box]
        drawn = part != 0
        if part.size and not np.array_equal(drawn, part == part.max()):
            raise ValueError(f"mask '{name}' has more values than 0 and one other; is it a label map?")
        counts = np.bincount(below[drawn], minlength=1)
        for other in np.flatnonzero(counts):
            if other not in (0, number, inside):
                self._overlaps[self._names[int(other)], name] += int(counts[other])
        below[drawn] = number
        self._names[number] = name

    def result(self) -> Volume:
        """The label map, with a note on masks that overlap."""
        notes = ()
        if self._overlaps:
            said = ", ".join(
                f"'{over}' was kept over '{under}' in {count} voxels"
                for (under, over), count in self._overlaps.most_common(_SHOWN)
            )
            more = f" and {len(self._overlaps) - _SHOWN} other pairs" if len(self._overlaps) > _SHOWN else ""
            notes = (f"masks overlap: {said}{more}",)
        return Volume(self._labels.array, self._labels.affine, notes=notes)


def paint_masks(layers: Iterable[tuple[int, str, Path]], max_id: int) -> Volume:
    """One label map of mask files, each painted over those before it.

    Args:
        layers: (label id, what it is called in messages, file of a mask), in the order of painting; at least one.
        max_id: The largest label id.

    Raises:
        ValueError: see `MaskPainter.add`.
    """
    painter = MaskPainter(max_id)
    for number, name, file in layers:
        painter.add(number, read_nifti(file), name)
    return painter.result()
