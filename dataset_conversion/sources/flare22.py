"""FLARE22: Fast and Low-resource Abdominal Organ Segmentation 2022, 50 labelled CT scans with pancreas disease, 13 organs.

Licence: CC BY-NC-SA 4.0, as stated by YongchengYAO/FLARE22-Lite; the challenge's rules decide.
From: https://flare22.grand-challenge.org/Dataset
Layout: `images/FLARE22_Tr_<NNNN>_0000.nii.gz` and `labels/FLARE22_Tr_<NNNN>.nii.gz`, in any folders below the path; tuning scans
`FLARETs_<NNNN>_0000.nii.gz` and the 2000 scans `Case_<NNNNN>_0000.nii.gz` without labels where they were downloaded too.
Annotated: all 13 organs, in every labelled case.
Known to be wrong: the labelled scans are those of Decathlon Task07, as stated by the dataset.json of bowang-lab/U-Mamba; the
unlabelled ones come from many collections, which nobody lists.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceLabel, by_name, pair, visible_files

ORGANS = (
    "liver",
    "kidney_right",
    "spleen",
    "pancreas",
    "aorta",
    "inferior_vena_cava",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "gallbladder",
    "esophagus",
    "stomach",
    "duodenum",
    "kidney_left",
)
SOURCE_LABELS = {number: SourceLabel((organ,)) for number, organ in enumerate(ORGANS, 1)}

_NAME = r"(?:FLARE22_|FLARE)?((?:Tr|Ts|Case)_\d+)"


def list_cases(root: Path) -> Listing:
    """Pair images and labels by their names: an image's ends in the channel, `_0000`."""
    listing = Listing()
    files = visible_files(root, "**/*.nii.gz")
    images = by_name(files, _NAME + r"_0000\.nii\.gz", listing)
    labels = by_name(files, _NAME + r"\.nii\.gz", listing)
    return pair(images, labels, str, listing, root=root)


SOURCE = Source(
    key="flare22",
    layout="images/FLARE22_Tr_<NNNN>_0000.nii.gz and labels/FLARE22_Tr_<NNNN>.nii.gz",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY-NC-SA 4.0, as stated by YongchengYAO/FLARE22-Lite; the challenge's rules decide",
    default_name=lambda _: "FLARE22",
    scans=lambda _: frozenset({"Decathlon Pancreas"}),
)
