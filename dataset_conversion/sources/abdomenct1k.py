"""AbdomenCT-1K: liver, kidney, spleen and pancreas in 1000 labelled CT scans, which were taken from five older datasets.

Licence: CC BY-NC-SA, as stated by arXiv:2305.09666.
From: https://github.com/JunMa11/AbdomenCT-1K
Layout: images `Case_<NNNNN>_0000.nii.gz` (AbdomenCT-1K-ImagePart1 to 3) and labels `Case_<NNNNN>.nii.gz` (Mask), in any folders
below the path.
Annotated: liver, kidney without a side, spleen, pancreas, in every case; tumors belong to their organ.
Known to be wrong: the label ids are known from other converters only (all of them say 1 liver, 2 kidney, 3 spleen, 4 pancreas),
so they are held against the data: a dataset.json that says otherwise is refused, and so is a label map whose id 4 does not lie
between ids 1 and 3 from left to right. The scans are those of LiTS, KiTS19, Decathlon Task07 and Task09 and Pancreas-CT, and some
of Nanjing University.
"""

import json
from pathlib import Path

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels, to_ras
from nnunet_partial.dataset_conversion.listing import (
    ConversionError,
    Listing,
    Source,
    SourceLabel,
    by_number,
    pair,
    visible_files,
)

ORGANS = ("liver", "kidney", "spleen", "pancreas")
SOURCE_LABELS = {number: SourceLabel((organ,)) for number, organ in enumerate(ORGANS, 1)}

_LIVER, _SPLEEN, _PANCREAS = 1, 3, 4


def labels(root: Path) -> dict[int, SourceLabel]:
    """The label table, unless a dataset.json beside the data says otherwise."""
    file = root / "dataset.json"
    if file.is_file():
        try:
            said = json.loads(file.read_text(encoding="utf-8"))["labels"]
            names = {int(number): str(name).lower() for number, name in said.items() if int(number) != 0}
        except (KeyError, ValueError, AttributeError) as error:
            raise ConversionError(f"'{file}' has no 'labels' (id: name): {error!r}; remove it or mend it") from None
        if names != dict(enumerate(ORGANS, 1)):
            raise ConversionError(
                f"'{file}' says {names}; this source reads {dict(enumerate(ORGANS, 1))}: is it another dataset?"
            )
    return SOURCE_LABELS


def list_cases(root: Path) -> Listing:
    """Pair images and labels by number."""
    listing = Listing()
    files = visible_files(root, "**/*.nii.gz")
    images = by_number(files, r"Case_(\d+)_0000\.nii\.gz", listing)
    drawn = by_number(files, r"Case_(\d+)\.nii\.gz", listing)
    return pair(images, drawn, "{:05d}".format, listing, root=root)


def read_checked_labels(files: tuple[Path, ...]) -> Volume:
    """Read one label map whose ids lie as they must: the pancreas reaches from the spleen to the liver's side.

    Raises:
        ValueError: id 4 does not lie between ids 1 and 3 from left to right.
    """
    (file,) = files
    volume = read_labels(file)
    array = to_ras(volume).array
    counts = {number: np.count_nonzero(array == number, axis=(1, 2)) for number in (_LIVER, _PANCREAS, _SPLEEN)}
    if all(profile.any() for profile in counts.values()):
        liver, pancreas, spleen = (np.average(np.arange(len(profile)), weights=profile) for profile in counts.values())
        if not min(liver, spleen) < pancreas < max(liver, spleen):
            raise ValueError(
                f"id {_PANCREAS} of '{file.name}' does not lie between id {_LIVER} and id {_SPLEEN} from left to right, as a "
                "pancreas lies between liver and spleen; look which organ each id is"
            )
    return volume


SOURCE = Source(
    key="abdomenct1k",
    layout="Case_<NNNNN>_0000.nii.gz and Case_<NNNNN>.nii.gz, in any folders",
    list_cases=list_cases,
    labels=labels,
    licence=lambda _: "CC BY-NC-SA, as stated by arXiv:2305.09666",
    default_name=lambda _: "AbdomenCT1K",
    read_labels=read_checked_labels,
    scans=lambda _: frozenset({"LiTS", "KiTS19", "Decathlon Pancreas", "Decathlon Spleen", "Pancreas-CT"}),
)
