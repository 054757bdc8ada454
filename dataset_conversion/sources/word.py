"""WORD: Whole abdominal ORgan Dataset, 150 CT scans before radiotherapy, 16 organs.

Licence: GNU GPL 3.0, as stated by the README of HiLab-git/WORD, which asks for academic use only.
From: https://github.com/HiLab-git/WORD
Layout: `imagesTr/word_<NNNN>.nii.gz` and `labelsTr/word_<NNNN>.nii.gz`, the same with Val and Ts, in any folders below the path.
Annotated: all 16 organs, in every case. Both adrenal glands share an id; of the femurs only the heads are drawn.
Known to be wrong: label files mix uint8 and uint16. AbdomenAtlas took over the scans.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceLabel, pair_folders

ORGANS = (
    "liver",
    "spleen",
    "kidney_left",
    "kidney_right",
    "stomach",
    "gallbladder",
    "esophagus",
    "pancreas",
    "duodenum",
    "colon",
    "intestine",
    "adrenal_gland",
    "rectum",
    "bladder",
    "femur_head_left",
    "femur_head_right",
)
SOURCE_LABELS = {number: SourceLabel((organ,)) for number, organ in enumerate(ORGANS, 1)}


def list_cases(root: Path) -> Listing:
    """Pair the folders of images and of labels by number."""
    return pair_folders(root, r"word_(\d+)\.nii\.gz", "{:04d}".format, Listing())


SOURCE = Source(
    key="word",
    layout="imagesTr, labelsTr (and Val, Ts) with word_<NNNN>.nii.gz",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "GNU GPL 3.0, as stated by the README of HiLab-git/WORD, which asks for academic use only",
    default_name=lambda _: "WORD",
    scans=lambda _: frozenset({"WORD"}),
)
