"""KiTS21 and KiTS23: Kidney Tumor Segmentation Challenges 2021 and 2023, 300 and 489 labelled CT scans, up to three readers.

Licence: CC BY-NC-SA, as stated by the README of neheller/kits23 (KiTS21: 4.0, as stated by arXiv:2305.09666).
From: https://github.com/neheller/kits21 and https://github.com/neheller/kits23
Layout: `case_<NNNNN>/imaging.nii.gz` with `segmentation.nii.gz` (KiTS23) or `aggregated_MAJ_seg.nii.gz` (KiTS21), the path being
the repository or its folder of cases. Beside them, in `instances` (KiTS23) or `segmentations` (KiTS21), the masks of single
readers: `<kidney|tumor|cyst>_instance-<k>_annotation-<reader>.nii.gz`. KiTS23 has the numbers 0-299 and 400-588.
Annotated: kidney (1) without a side, kidney tumor (2) and kidney cyst (3) inside it. Where several readers drew, each one's label
map is kept: the masks painted in the order kidney, cyst, tumor. A reader without a mask of a kind drew none.
Known to be wrong: arrays are (slice, row, column), axes IPL. The scans 0-299 are those of KiTS19, which draws no cysts apart.
"""

import re
from dataclasses import replace
from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.masks import paint_masks
from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels
from nnunet_partial.dataset_conversion.listing import CaseAnnotator, Listing, Source, SourceLabel, by_number, pair

AXES = "IPL"
SOURCE_LABELS = {
    1: SourceLabel(("kidney",)),
    2: SourceLabel(("kidney",), inside="kidney_tumor"),
    3: SourceLabel(("kidney",), inside="kidney_cyst"),
}

_LABEL_FILES = ("segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz")
_MASK_FOLDERS = ("instances", "segmentations")
_MASK = re.compile(r"(kidney|tumor|cyst)_instance-(\d+)_annotation-(\d+)\.nii\.gz")
_NUMBERS = {"kidney": 1, "tumor": 2, "cyst": 3}
_PAINTING_ORDER = ("kidney", "cyst", "tumor")


def list_case_folders(root: Path, label_names: tuple[str, ...] = _LABEL_FILES) -> Listing:
    """The case folders with an image and the first label file they have of `label_names`, and with several readers' masks."""
    listing = Listing()
    depths = ("", "data/", "dataset/", "kits21/data/")
    folders = (folder for depth in depths for folder in sorted(root.glob(f"{depth}case_*")) if folder.is_dir())
    cases = by_number(folders, r"case_(\d+)", listing)
    images = {n: file for n, case in cases.items() if (file := case / "imaging.nii.gz").is_file()}
    labels = {
        n: next(case / name for name in label_names if (case / name).is_file())
        for n, case in cases.items()
        if any((case / name).is_file() for name in label_names)
    }
    empty = sorted(set(cases) - set(images) - set(labels))
    reason = f"holds neither imaging.nii.gz nor {' or '.join(label_names)}"
    listing.skipped += [(str(cases[n].relative_to(root)), reason) for n in empty]
    return pair(images, labels, "{:05d}".format, listing, root=root)


def list_cases(root: Path) -> Listing:
    """The case folders, with the masks of each reader where there are several."""
    listing = list_case_folders(root)
    listing.cases = [replace(case, annotators=_readers(case.image.parent)) for case in listing.cases]
    return listing


def read_label_map(files: tuple[Path, ...]) -> Volume:
    """The map that the organisers aggregated, or one painted from the masks of one reader."""
    if _MASK.fullmatch(files[0].name) is None:
        (file,) = files
        return read_labels(file)
    painted = paint_masks(((_NUMBERS[_MASK.fullmatch(file.name)[1]], file.name, file) for file in files), max(SOURCE_LABELS))
    return replace(painted, notes=())  # tumors and cysts are meant to lie over the kidney


def _readers(case: Path) -> tuple[CaseAnnotator, ...]:
    """The readers with their masks in painting order, each looking for all kinds; nobody where one reader drew alone."""
    masks: dict[int, list[tuple[int, int, Path]]] = {}
    for folder in _MASK_FOLDERS:
        for file in (case / folder).glob("*_instance-*_annotation-*.nii.gz"):
            if match := _MASK.fullmatch(file.name):
                place = _PAINTING_ORDER.index(match[1])
                masks.setdefault(int(match[3]), []).append((place, int(match[2]), file))
    if len(masks) < 2:
        return ()
    return tuple(CaseAnnotator(str(reader), tuple(file for *_, file in sorted(masks[reader]))) for reader in sorted(masks))


SOURCE_2021 = Source(
    key="kits21",
    layout="case_<NNNNN>/imaging.nii.gz, aggregated_MAJ_seg.nii.gz and segmentations/",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY-NC-SA 4.0, as stated by arXiv:2305.09666",
    default_name=lambda _: "KiTS21",
    read_labels=read_label_map,
    axes=AXES,
    scans=lambda _: frozenset({"KiTS19"}),
)
SOURCE_2023 = Source(
    key="kits23",
    layout="case_<NNNNN>/imaging.nii.gz, segmentation.nii.gz and instances/",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY-NC-SA, as stated by the README of neheller/kits23",
    default_name=lambda _: "KiTS23",
    read_labels=read_label_map,
    axes=AXES,
    scans=lambda _: frozenset({"KiTS19"}),
)
