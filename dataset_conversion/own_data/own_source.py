"""The user's own data as a source: what a source file says, turned into cases and readers."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.dicom_seg import SegmentReader, missing_extra
from nnunet_partial.dataset_conversion.image_files.masks import MaskPainter
from nnunet_partial.dataset_conversion.image_files.volume import VOLUME_ENDINGS, Volume, read_labels
from nnunet_partial.dataset_conversion.listing import (
    LabelGrid,
    Listing,
    Source,
    SourceCase,
    SourceLabel,
    natural_key,
    read_one_label_file,
)
from nnunet_partial.dataset_conversion.own_data.case_pattern import CasePattern
from nnunet_partial.dataset_conversion.own_data.source_file import SourceFile, declared_name, load_source_file
from nnunet_partial.labels import LabelSpace, first_of

_SHOWN = 5
_NEAR = 0.8


@dataclass(frozen=True)
class MaskFiles:
    """Reads the masks of a case as one label map.

    Attributes:
        root: The source's folder.
        masks: (name, pattern, label id), in the order in which they are painted.
        inside: (id of a tumor, id of the organ it lies in).
    """

    root: Path
    masks: tuple[tuple[str, CasePattern, int], ...]
    inside: tuple[tuple[int, int], ...]

    def __call__(self, files: tuple[Path, ...]) -> Volume:
        """Masks painted one after the other."""
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
    if file.masks:
        reader = MaskFiles(root, _in_painting_order(file), tuple(file.inside.items()))
        id_of_file = reader.id_of_file
    elif file.is_dicom_seg:
        reader, grid = SegmentReader(tuple(file.ids.items()), tuple(file.inside.items())), LabelGrid.BOX
    return Source(
        key=path.name,
        layout=", ".join([file.images, *([file.label_maps] if file.label_maps else file.masks.values())]),
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


def list_cases(file: SourceFile, root: Path) -> Listing:
    """The cases that have an image, in natural order; a label without an image, and a name that fits twice, are faults."""
    listing = Listing()
    looked_for = tuple(file.ids[key] for key in file.annotated or file.meanings)
    found = _found_once(CasePattern(file.images), root, listing, "images")
    images = {case: path for case, path in found.items() if path.is_dir() or path.name.endswith(VOLUME_ENDINGS)}
    odd = [path.relative_to(root).as_posix() for case, path in found.items() if case not in images]
    listing.skipped += [(name, f"no image: neither a folder nor a file in {', '.join(VOLUME_ENDINGS)}") for name in odd]
    kinds = [(name, pattern) for name, pattern, _ in _in_painting_order(file)] or [("label_maps", CasePattern(file.label_maps))]
    labels = {name: _found_once(pattern, root, listing, name) for name, pattern in kinds}
    without_image = sorted({case for files in labels.values() for case in files} - set(images), key=natural_key)
    listing.faults += [f"case '{case}' has a label but no image ('{file.images}')" for case in without_image]
    used: dict[Path, str] = {}
    for name, files in labels.items():
        listing.faults += [f"'{path}' is both {used[path]} and {name}" for path in files.values() if path in used]
        used.update(dict.fromkeys(files.values(), name))
    for case, image in images.items():
        identifier = re.sub(r"[^A-Za-z0-9_.\-]+", "_", case)
        has = {name: files[case] for name, files in labels.items() if case in files}
        if not has:
            listing.unlabelled.append(SourceCase(identifier, image))
            continue
        present = {file.ids[name] for name in has} if file.masks and file.missing_mask != "absent" else set(looked_for)
        known = tuple(number for number in looked_for if number in present)
        listing.cases.append(SourceCase(identifier, image, tuple(has.values()), looked_for=known))
    return listing


def missing_faults(source: Source, root: Path) -> list[str]:
    """What a source file wants and is not there: patterns that match nothing, then also what else is wrong; missing software."""
    file: SourceFile = source.list_cases.args[0]
    missing = missing_extra() if file.is_dicom_seg else []
    empty = {key: text for key, text in file.patterns.items() if not CasePattern(text).find(root)}
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


def _in_painting_order(file: SourceFile) -> tuple[tuple[str, CasePattern, int], ...]:
    """The masks as the file lists them, those inside another one last."""
    masks = [(name, CasePattern(text), file.ids[name]) for name, text in file.masks.items()]
    return tuple(sorted(masks, key=lambda mask: mask[2] in file.inside))


def _found_once(pattern: CasePattern, root: Path, listing: Listing, what: str) -> dict[str, Path]:
    """The one path of each case, in natural order."""
    found = pattern.find(root)
    for case, paths in found.items():
        if len(paths) > 1:
            names = ", ".join(path.relative_to(root).as_posix() for path in paths[:_SHOWN])
            listing.faults.append(f"{what}: '{pattern.text}' fits {len(paths)} paths of case '{case}' ({names}); keep one")
    return {case: found[case][0] for case in sorted(found, key=natural_key)}


def _without_side(name: str) -> str:
    return re.sub(r"left|right|\d+", "", name)
