"""AbdomenAtlas 1.0 Mini: 5195 CT scans of 16 public datasets, 9 organs, annotated by radiologists with the help of networks.

Licence: CC BY-NC-SA 4.0, as stated by its dataset card.
From: https://huggingface.co/datasets/AbdomenAtlas/AbdomenAtlas1.0Mini
Layout: `BDMAP_<NNNNNNNN>/ct.nii.gz` and `combined_labels.nii.gz`, or, where that is missing, `segmentations/<organ>.nii.gz`; the
path holds the case folders, or a folder that does.
Annotated: all 9 organs where there is a `combined_labels.nii.gz`, else those that have a file.
Known to be wrong: axes of some scans are not perpendicular, as stated by ChrisXzz/CCVL (noted per case). The scans are those of
LiTS, KiTS, BTCV, Pancreas-CT, CHAOS, CT-ORG, WORD, AMOS22, AbdomenCT-1K, FLARE'23 and the CT tasks of the Decathlon.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.masks import paint_masks
from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels
from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceCase, SourceLabel, by_number

ORGANS = (
    "aorta",
    "gallbladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "inferior_vena_cava",
    "spleen",
    "stomach",
)
SOURCE_LABELS = {number: SourceLabel((organ,)) for number, organ in enumerate(ORGANS, 1)}

_FILE_NAMES = {"gallbladder": "gall_bladder", "inferior_vena_cava": "postcava"}
_NUMBERS = {f"{_FILE_NAMES.get(organ, organ)}.nii.gz": number for number, organ in enumerate(ORGANS, 1)}
_COMBINED = "combined_labels.nii.gz"


def list_cases(root: Path) -> Listing:
    """The case folders, each with its combined label map or with the masks of single organs."""
    listing = Listing()
    folders = (folder for depth in ("", "*/") for folder in sorted(root.glob(f"{depth}BDMAP_*")) if folder.is_dir())
    for number, folder in sorted(by_number(folders, r"BDMAP_(\d+)", listing).items()):
        name, image = f"{number:08d}", folder / "ct.nii.gz"
        masks = tuple(file for mask in _NUMBERS if (file := folder / "segmentations" / mask).is_file())
        if not image.is_file():
            listing.skipped.append((str(folder.relative_to(root)), "holds no ct.nii.gz"))
        elif (folder / _COMBINED).is_file():
            listing.cases.append(SourceCase(name, image, (folder / _COMBINED,)))
        elif masks:
            listing.cases.append(SourceCase(name, image, masks, looked_for=tuple(_NUMBERS[file.name] for file in masks)))
        else:
            listing.unlabelled.append(SourceCase(name, image))
    return listing


def read_label_map(files: tuple[Path, ...]) -> Volume:
    """The combined label map, or one painted from the masks of single organs in the order of their ids."""
    if files[0].name == _COMBINED:
        return read_labels(files[0])
    return paint_masks(((_NUMBERS[file.name], file.name, file) for file in files), max(SOURCE_LABELS))


SOURCE = Source(
    key="abdomenatlas",
    layout="BDMAP_<N>/ct.nii.gz and combined_labels.nii.gz or segmentations/<organ>.nii.gz",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY-NC-SA 4.0, as stated by its dataset card",
    default_name=lambda _: "AbdomenAtlas",
    read_labels=read_label_map,
    scans=lambda _: frozenset(
        {
            "AMOS22 CT",
            "BTCV",
            "CHAOS",
            "Decathlon Colon",
            "Decathlon HepaticVessel",
            "Decathlon Lung",
            "Decathlon Pancreas",
            "Decathlon Spleen",
            "KiTS19",
            "LiTS",
            "Pancreas-CT",
            "WORD",
        }
    ),
)
