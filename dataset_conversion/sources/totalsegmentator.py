"""TotalSegmentator v2: 1228 CT scans of a whole hospital at 1.5 mm, 117 classes, each in a file of its own.

Licence: CC BY 4.0, as reported by others; see the record on Zenodo.
From: https://doi.org/10.5281/zenodo.10047292
Layout: `s<NNNN>/ct.nii.gz` and `s<NNNN>/segmentations/<class>.nii.gz`; the path is the folder of the `s<NNNN>`. `meta.csv` (age,
scanner, split) is not read.
Annotated: in each case, the classes that have a mask. An empty mask says that the class is *absent*; a mask that is missing, that
it is *unannotated*. Classes go by their names there in lower case, but for those in `OUR_NAMES`.
Known to be wrong: over 100 scans have axes that are not perpendicular, which ITK refuses: they are written with the nearest
rotation, and noted. Masks may overlap: they are painted in the order of the table, the later one stays, and it is noted.
Labels were drawn by models and corrected by hand.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.masks import paint_masks
from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceCase, SourceLabel, by_number, visible_files

OUR_NAMES = {"portal_vein_and_splenic_vein": "portal_and_splenic_vein", "urinary_bladder": "bladder"}
CLASSES = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "liver",
    "stomach",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "esophagus",
    "trachea",
    "thyroid_gland",
    "small_bowel",
    "duodenum",
    "colon",
    "urinary_bladder",
    "prostate",
    "kidney_cyst_left",
    "kidney_cyst_right",
    "sacrum",
    "vertebrae_S1",
    *(f"vertebrae_L{n}" for n in range(5, 0, -1)),
    *(f"vertebrae_T{n}" for n in range(12, 0, -1)),
    *(f"vertebrae_C{n}" for n in range(7, 0, -1)),
    "heart",
    "aorta",
    "pulmonary_vein",
    "brachiocephalic_trunk",
    "subclavian_artery_right",
    "subclavian_artery_left",
    "common_carotid_artery_right",
    "common_carotid_artery_left",
    "brachiocephalic_vein_left",
    "brachiocephalic_vein_right",
    "atrial_appendage_left",
    "superior_vena_cava",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "iliac_artery_left",
    "iliac_artery_right",
    "iliac_vena_left",
    "iliac_vena_right",
    "humerus_left",
    "humerus_right",
    "scapula_left",
    "scapula_right",
    "clavicula_left",
    "clavicula_right",
    "femur_left",
    "femur_right",
    "hip_left",
    "hip_right",
    "spinal_cord",
    "gluteus_maximus_left",
    "gluteus_maximus_right",
    "gluteus_medius_left",
    "gluteus_medius_right",
    "gluteus_minimus_left",
    "gluteus_minimus_right",
    "autochthon_left",
    "autochthon_right",
    "iliopsoas_left",
    "iliopsoas_right",
    "brain",
    "skull",
    *(f"rib_left_{n}" for n in range(1, 13)),
    *(f"rib_right_{n}" for n in range(1, 13)),
    "sternum",
    "costal_cartilages",
)
"""File names of the masks, in the order of the ids that TotalSegmentator itself gives them."""

SOURCE_LABELS = {number: SourceLabel((OUR_NAMES.get(name, name.lower()),)) for number, name in enumerate(CLASSES, 1)}
_ENDING = ".nii.gz"
_IDS = {name: number for number, name in enumerate(CLASSES, 1)}


def list_cases(root: Path) -> Listing:
    """The case folders by number, each with the masks it has; a mask of another name is skipped."""
    listing = Listing()
    folders = by_number((folder for folder in sorted(root.glob("s*")) if folder.is_dir()), r"s(\d+)", listing)
    for _, folder in sorted(folders.items()):
        image = folder / "ct.nii.gz"
        if not image.is_file():
            listing.skipped.append((folder.name, "holds no ct.nii.gz"))
            continue
        masks = {path.name.removesuffix(_ENDING): path for path in visible_files(folder, f"segmentations/*{_ENDING}")}
        listing.skipped += [
            (str(masks[name].relative_to(root)), "no class of TotalSegmentator v2 has this name")
            for name in sorted(set(masks) - set(_IDS))
        ]
        ids = tuple(_IDS[name] for name in CLASSES if name in masks)
        files = tuple(masks[name] for name in CLASSES if name in masks)
        if files:
            listing.cases.append(SourceCase(folder.name, image, files, looked_for=ids))
        else:
            listing.unlabelled.append(SourceCase(folder.name, image))
    return listing


def id_of_file(path: Path) -> int:
    """The label id of a mask, by its name."""
    return _IDS[path.name.removesuffix(_ENDING)]


def read_masks(files: tuple[Path, ...]) -> Volume:
    """The masks of a case as one label map."""
    return paint_masks(((id_of_file(path), path.name.removesuffix(_ENDING), path) for path in files), max(_IDS.values()))


SOURCE = Source(
    key="totalsegmentator",
    layout="s<NNNN>/ct.nii.gz and s<NNNN>/segmentations/<class>.nii.gz",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY 4.0, as reported by others; check doi:10.5281/zenodo.10047292",
    default_name=lambda _: "TotalSegmentator",
    read_labels=read_masks,
    id_of_file=id_of_file,
)
