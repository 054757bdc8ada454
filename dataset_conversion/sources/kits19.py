"""KiTS19: Kidney Tumor Segmentation Challenge 2019, 210 labelled late arterial CT scans of kidney cancer patients.

Licence: CC BY-NC-SA 4.0, as stated by the challenge's data paper (arXiv:1904.00445).
From: https://github.com/neheller/kits19 (label maps there; `get_imaging.py` fetches the images)
Layout: `data/case_<NNNNN>/{imaging,segmentation}.nii.gz`, the path being the repository or its `data` folder.
Annotated: kidney (1) without a side, kidney tumor (2) inside it. Cases 210-299 have no labels.
Known to be wrong: arrays are (slice, row, column), axes IPL, which the affines say (those of the first release in
2019 did not: refused); nine label maps are uint16; case_00160 is 512 x 796; cases 15, 25, 61, 117 once had a second phase
appended, which the check of shapes finds. KiTS21, KiTS23 and AbdomenCT-1K hold the same scans.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceLabel
from nnunet_partial.dataset_conversion.sources.kits import AXES, list_case_folders

SOURCE_LABELS = {1: SourceLabel(("kidney",)), 2: SourceLabel(("kidney",), inside="kidney_tumor")}


def list_cases(root: Path) -> Listing:
    """The case folders that have both files."""
    return list_case_folders(root, ("segmentation.nii.gz",))


SOURCE = Source(
    key="kits19",
    layout="data/case_<NNNNN>/imaging.nii.gz and segmentation.nii.gz",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY-NC-SA 4.0, as stated by arXiv:1904.00445",
    default_name=lambda _: "KiTS19",
    axes=AXES,
    scans=lambda _: frozenset({"KiTS19"}),
)
