"""Label maps from DICOM-SEG files, with highdicom (pip install 'nnunet_partial[dicomseg]')."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.dataset_conversion.masks import MaskPainter
from nnunet_partial.dataset_conversion.volume import LPS_TO_RAS, Volume


@dataclass(frozen=True)
class SegmentReader:
    """Reads the segments of one DICOM-SEG file as a label map that covers a box of the image's grid.

    Attributes:
        segments: (segment number, or segment label; label id). A segment that the file lacks is empty.
        inside: (id of a tumor, id of the organ it lies in).
    """

    segments: tuple[tuple[int | str, int], ...]
    inside: tuple[tuple[int, int], ...] = ()

    def __call__(self, files: tuple[Path, ...]) -> Volume:
        """The label map.

        Raises:
            ValueError: highdicom is missing, the file is no binary DICOM-SEG, or it has segments that the table does not know.
        """
        (file,) = files
        try:
            from highdicom.seg import SegmentationTypeValues, segread
        except ImportError:
            raise ValueError("DICOM-SEG files are read with highdicom: pip install 'nnunet_partial[dicomseg]'") from None
        seg = segread(file)
        if seg.segmentation_type == SegmentationTypeValues.FRACTIONAL:
            raise ValueError(f"'{file.name}' holds fractional segments (probabilities); only binary ones are labels")
        ids = self._ids(seg, file.name)
        inside = dict(self.inside)
        painter = MaskPainter(max(number for _, number in self.segments))
        for number in sorted(ids, key=lambda segment: (ids[segment] in inside, segment)):
            name = seg.get_segment_description(number).segment_label
            painter.add(ids[number], _volume(seg, number), name, inside=inside.get(ids[number]))
        return painter.result()

    def _ids(self, seg: Any, name: str) -> dict[int, int]:
        """Segment number -> label id."""
        table = dict(self.segments)
        labels = {int(number): seg.get_segment_description(number).segment_label for number in seg.segment_numbers}
        by_label = any(isinstance(key, str) for key in table)
        ids = {number: table.get(label if by_label else number) for number, label in labels.items()}
        unknown = [f"{number} '{labels[number]}'" for number, found in ids.items() if found is None]
        if unknown:
            known = ", ".join(map(str, table))
            raise ValueError(f"'{name}' has segments that `labels` does not name: {', '.join(unknown)}; it names {known}")
        return ids


def _volume(seg: Any, number: int) -> Volume:
    """One segment as a mask on the file's own grid, which may leave out slices at the ends."""
    box = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
    return Volume(np.asarray(box.array), LPS_TO_RAS @ box.affine)
