"""LiTS: Liver Tumor Segmentation Challenge 2017, 131 labelled abdominal CT scans of seven hospitals.

Licence: CC BY-NC-ND 4.0, as stated by the documentation of kaiko-ai/eva.
From: https://competitions.codalab.org/competitions/17094
Layout: `Training Batch 1/volume-<i>.nii`, `segmentation-<i>.nii` (also `.nii.gz`), in any folders below the path; i = 0..130.
Annotated: liver; liver_tumor inside it. Test volumes have no labels.
Known to be wrong: volumes 28-47 carry identity affines, so their spacing and orientation are lost (noted per case); orientation
differs between scans, and some label headers differ from their volumes', so labels follow the array; intensities reach from
-10522 to 27572. These are the scans of Decathlon Task03, and they contain 3D-IRCADb: two copies in one pool are refused.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import (
    LabelGrid,
    Listing,
    Source,
    SourceCase,
    SourceLabel,
    by_number,
    pair,
    visible_files,
)

SOURCE_LABELS = {1: SourceLabel(("liver",)), 2: SourceLabel(("liver",), inside="liver_tumor")}


def list_cases(root: Path) -> Listing:
    """Pair volumes and segmentations by number."""
    listing = Listing()
    files = visible_files(root, "**/*.nii*")
    images = by_number(files, r"volume-(\d+)\.nii(?:\.gz)?", listing)
    labels = by_number(files, r"segmentation-(\d+)\.nii(?:\.gz)?", listing)
    tests = by_number(files, r"test-volume-(\d+)\.nii(?:\.gz)?", listing)
    listing.unlabelled += [SourceCase(f"test_{number}", path) for number, path in sorted(tests.items())]
    return pair(images, labels, str, listing, root=root)


SOURCE = Source(
    key="lits",
    layout="volume-<i>.nii and segmentation-<i>.nii, in any folders",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY-NC-ND 4.0, as stated by the documentation of kaiko-ai/eva",
    default_name=lambda _: "LiTS",
    label_grid=LabelGrid.ARRAYS,
    scans=lambda _: frozenset({"LiTS"}),
)
