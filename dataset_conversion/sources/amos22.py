"""AMOS22: Multi-Modality Abdominal Multi-Organ Segmentation Challenge 2022, 500 CT and 100 MR scans, 15 organs.

Licence: CC BY 4.0, as stated by its Zenodo record; CC BY-NC-SA, as stated by arXiv:2305.09666.
From: https://zenodo.org/records/7262581
Layout: `imagesTr/amos_<NNNN>.nii.gz` and `labelsTr/amos_<NNNN>.nii.gz`, the same with imagesVa and labelsVa, in any folders below
the path; imagesTs has no labels. Numbers up to 500 are CT, those above are MR: two sources, because one dataset has one kind of
image; each leaves the other's scans out and says so.
Annotated: all 15 organs, in every case. Prostate and uterus share an id.
Known to be wrong: the ids are those of BTCV up to 9 and others from 10 on. AbdomenAtlas took over the CT scans.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceCase, SourceLabel, pair_folders

ORGANS = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "duodenum",
    "bladder",
    "prostate_uterus",
)
SOURCE_LABELS = {number: SourceLabel((organ,)) for number, organ in enumerate(ORGANS, 1)}

_LAST_CT = 500


def list_ct_cases(root: Path) -> Listing:
    """The cases with a number up to 500."""
    return _only(_all_cases(root), root, is_ct=True)


def list_mr_cases(root: Path) -> Listing:
    """The cases with a number above 500."""
    return _only(_all_cases(root), root, is_ct=False)


def _all_cases(root: Path) -> Listing:
    return pair_folders(root, r"amos_(\d+)\.nii\.gz", "{:04d}".format, Listing())


def _only(listing: Listing, root: Path, *, is_ct: bool) -> Listing:
    """Leave out the scans of the other modality."""

    def belongs(case: SourceCase) -> bool:
        return (int(case.name) <= _LAST_CT) == is_ct

    reason = "an MR scan, read by source amos22_mr" if is_ct else "a CT scan, read by source amos22_ct"
    others = [case for case in (*listing.cases, *listing.unlabelled) if not belongs(case)]
    listing.skipped += [(str(case.image.relative_to(root)), reason) for case in others]
    listing.cases = [case for case in listing.cases if belongs(case)]
    listing.unlabelled = [case for case in listing.unlabelled if belongs(case)]
    return listing


_LICENCE = "CC BY 4.0, as stated by its Zenodo record; CC BY-NC-SA, as stated by arXiv:2305.09666"

SOURCE_CT = Source(
    key="amos22_ct",
    layout="imagesTr, labelsTr (and Va) with amos_<NNNN>.nii.gz up to 500",
    list_cases=list_ct_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: _LICENCE,
    default_name=lambda _: "AMOS22_CT",
    scans=lambda _: frozenset({"AMOS22 CT"}),
)
SOURCE_MR = Source(
    key="amos22_mr",
    layout="imagesTr, labelsTr (and Va) with amos_<NNNN>.nii.gz above 500",
    list_cases=list_mr_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: _LICENCE,
    default_name=lambda _: "AMOS22_MR",
    channel_names=lambda _: {"0": "MRI"},
    scans=lambda _: frozenset({"AMOS22 MR"}),
)
