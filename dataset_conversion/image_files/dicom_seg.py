"""Label maps from DICOM-SEG files, with highdicom (pip install 'nnunet_partial[dicomseg]')."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.dataset_conversion.image_files.masks import MaskPainter
from nnunet_partial.dataset_conversion.image_files.volume import LPS_TO_RAS, Volume

_TOLERANCE = 1e-3
_MAX_SPACING_GAP_MM = 0.05
_MAX_PARTS = 20


def missing_extra() -> list[str]:
    """The sentence that says how to install what reads DICOM-SEG files, where it is missing."""
    if importlib.util.find_spec("highdicom"):
        return []
    return ["DICOM-SEG files are read with highdicom, which is not installed: pip install 'nnunet_partial[dicomseg]'"]


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
            ValueError: the file is no binary DICOM-SEG, or it has segments that the table does not know.
        """
        (file,) = files
        from highdicom.seg import SegmentationTypeValues, segread

        seg = segread(file)
        if seg.segmentation_type == SegmentationTypeValues.FRACTIONAL:
            raise ValueError(f"'{file.name}' holds fractional segments (probabilities); only binary ones are labels")
        ids, inside = self._ids(seg, file.name), dict(self.inside)
        planes = _planes(seg, file.name)
        painter = MaskPainter(max(number for _, number in self.segments))
        for segment in sorted(ids, key=lambda segment: (ids[segment] in inside, segment)):
            name = seg.get_segment_description(segment).segment_label
            painter.add(ids[segment], _mask(seg, segment, planes), name, inside=inside.get(ids[segment]))
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


@dataclass(frozen=True)
class _Planes:
    """Where the frames of a file lie: `index` of each along the third axis of a stack with this affine (RAS+)."""

    affine: np.ndarray
    index: np.ndarray

    @property
    def depth(self) -> int:
        return int(self.index.max()) + 1


def _planes(seg: Any, name: str) -> _Planes:
    """The stack that the frames belong to, from their own positions: the file's SpacingBetweenSlices is often wrong."""
    frames = range(int(seg.NumberOfFrames))
    places_mm = np.array([_group(seg, i, "PlanePosition").ImagePositionPatient for i in frames], dtype=float)
    directions = np.array([_group(seg, i, "PlaneOrientation").ImageOrientationPatient for i in frames], dtype=float)
    spacings_mm = np.array([_group(seg, i, "PixelMeasures").PixelSpacing for i in frames], dtype=float)
    if np.ptp(directions, axis=0).max() > _TOLERANCE or np.ptp(spacings_mm, axis=0).max() > _TOLERANCE:
        raise ValueError(f"the frames of '{name}' differ in orientation or spacing; they are no stack")
    across, down = directions[0].reshape(2, 3)
    normal = np.cross(across, down)
    heights_mm = (places_mm - places_mm[0]) @ normal
    first = int(np.argmin(heights_mm))
    step_mm = _common_step(np.unique(np.round(heights_mm - heights_mm[first], 3)), name)
    index = np.rint((heights_mm - heights_mm[first]) / step_mm).astype(int)
    affine = np.eye(4)
    row_mm, column_mm = spacings_mm[0]
    far = places_mm[int(np.argmax(index))] - places_mm[first]
    affine[:3, :3] = np.column_stack([across * column_mm, down * row_mm, far / index.max() if index.max() else normal * step_mm])
    affine[:3, 3] = places_mm[first]
    return _Planes(LPS_TO_RAS @ affine, index)


def _common_step(heights_mm: np.ndarray, name: str) -> float:
    """The largest step of which all heights are multiples; frames without anything drawn may have been left out."""
    if len(heights_mm) == 1:
        return 1.0
    nearest_mm = np.diff(heights_mm).min()
    for parts in range(1, _MAX_PARTS + 1):
        steps = heights_mm * parts / nearest_mm
        if np.abs(steps - np.rint(steps)).max() * nearest_mm / parts <= _MAX_SPACING_GAP_MM:
            return float(nearest_mm / parts)
    raise ValueError(f"the frames of '{name}' lie at uneven distances; they are no stack")


def _mask(seg: Any, segment: int, planes: _Planes) -> Volume:
    """One segment as a mask."""
    mask = np.zeros((seg.Columns, seg.Rows, planes.depth), dtype=bool, order="F")
    for i, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        if "SegmentIdentificationSequence" not in frame:  # a label map: its values are segment numbers
            mask[:, :, planes.index[i]] = (seg.get_stored_frame(i + 1) == segment).T
        elif frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment:
            mask[:, :, planes.index[i]] = (seg.get_stored_frame(i + 1) != 0).T
    return Volume(mask, planes.affine)


def _group(seg: Any, frame: int, name: str) -> Any:
    """A functional group of a frame, its own or the one that all frames share."""
    own, shared = seg.PerFrameFunctionalGroupsSequence[frame], seg.SharedFunctionalGroupsSequence[0]
    return getattr(own if f"{name}Sequence" in own else shared, f"{name}Sequence")[0]
