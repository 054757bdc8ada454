"""The user's own data as a source: what a source file says, turned into readers."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.dicom_seg import SegmentReader, missing_extra
from nnunet_partial.dataset_conversion.image_files.masks import MaskPainter
from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels
from nnunet_partial.dataset_conversion.listing import LabelGrid, Source, SourceLabel, read_one_label_file
from nnunet_partial.dataset_conversion.own_data.case_pattern import CasePattern
from nnunet_partial.dataset_conversion.own_data.own_cases import list_cases
from nnunet_partial.dataset_conversion.own_data.read_source_file import load_source_file
from nnunet_partial.dataset_conversion.own_data.source_file import SourceFile, declared_name
from nnunet_partial.labels import LabelSpace, first_of

_NEAR = 0.8


@dataclass(frozen=True)
class MaskFiles:
    """Reads the masks of a case as one label map.

    Attributes:
        root: The source's folder.
        masks: (name, pattern, label id) of everybody's masks.
        inside: (id of a tumor, id of the organ it lies in).
    """

    root: Path
    masks: tuple[tuple[str, CasePattern, int], ...]
    inside: tuple[tuple[int, int], ...]

    def __call__(self, files: tuple[Path, ...]) -> Volume:
        """Masks painted one after the other, in the order in which they come."""
        painter = MaskPainter(max(number for _, _, number in self.masks))
        for file in files:
            name, _, number = self._mask_of(file)
            painter.add(number, read_labels(file), name, inside=dict(self.inside).get(number))
        return painter.result()

    def id_of_file(self, file: Path) -> int:
        """The label id of a mask."""
        return self._mask_of(file)[2]

    def _mask_of(self, file: Path) -> tuple[str, CasePattern, int]:
        return next(mask for mask in self.masks if mask[1].case_of(file, self.root) is not None)


def own_source(path: Path, root: Path) -> Source:
    """The source that a source file describes, its cases lying below `root`.

    Raises:
        ConversionError: faults of the file; all are listed.
    """
    file = load_source_file(path)
    reader, id_of_file, grid = read_one_label_file, None, LabelGrid[(file.label_grid or "headers").upper()]
    if file.mask_names:
        masks = tuple(mask for files in file.drawn.values() for mask in file.to_paint(files))
        reader = MaskFiles(root, masks, tuple(file.inside.items()))
        id_of_file = reader.id_of_file
    elif file.is_dicom_seg:
        reader, grid = SegmentReader(tuple(file.ids.items()), tuple(file.inside.items())), LabelGrid.BOX
    return Source(
        key=path.name,
        layout=", ".join(file.all_patterns.values()),
        list_cases=partial(list_cases, file),
        labels=lambda _: file.table,
        licence=lambda _: f"{file.licence}, as stated by {path.name}",
        default_name=lambda _: declared_name(path),
        channel_names=lambda _: {"0": file.modality},
        read_labels=reader,
        id_of_file=id_of_file,
        label_grid=grid,
        scans=lambda folder: frozenset({f"{folder}/{file.images}"}),  # groups of cases in one folder may have a file each
    )


def missing_faults(source: Source, root: Path) -> list[str]:
    """What a source file wants and is not there: patterns that match nothing, then also what else is wrong; missing software."""
    file: SourceFile = source.list_cases.args[0]
    missing = missing_extra() if file.is_dicom_seg else []
    empty = {key: text for key, text in file.all_patterns.items() if not CasePattern(text).find(root)}
    if not empty:
        return missing
    lies_there = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    seen = first_of(lies_there)
    return [
        *missing,
        *(f"{key}: '{text}' matches nothing below '{root}', which holds {seen or 'nothing'}" for key, text in empty.items()),
        *source.list_cases(root).faults,
    ]


def name_faults(labels: Iterable[SourceLabel], space: LabelSpace) -> list[str]:
    """Classes that look like a slip of the pen: not among the pool's, but almost; another side or number is another class."""
    names = dict.fromkeys(name for label in labels for name in (*label.classes, *([label.inside] if label.inside else ())))
    faults = []
    for name in names:
        others = [other for other in space.classes if other not in names and _without_side(other) != _without_side(name)]
        near = [] if name in space.classes else difflib.get_close_matches(name, others, n=1, cutoff=_NEAR)
        faults += [f"class '{name}' is not among the pool's classes (did you mean '{near[0]}'?)"] if near else []
    return faults


def _without_side(name: str) -> str:
    return re.sub(r"left|right|\d+", "", name)
