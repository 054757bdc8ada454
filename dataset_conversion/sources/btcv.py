"""BTCV: Beyond the Cranial Vault (Synapse multi-atlas abdomen), 30 labelled portal venous CT scans, 13 organs.

Licence: CC BY 4.0, as stated by the CADS dataset table; Synapse asks every user to register.
From: https://www.synapse.org/Synapse:syn3193805
Layout: `RawData/Training/img/img<NNNN>.nii.gz` and `.../label/label<NNNN>.nii.gz`, ids 1-10 and 21-40, in any folders
below the path.
Annotated: all 13 organs, in every case. A missing organ is absent, not unannotated (0023 and 0035 have no gallbladder).
Known to be wrong: some readers exchange anterior and posterior; the anatomy is checked after conversion.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceLabel, by_number, pair, visible_files

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
    "portal_and_splenic_vein",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
)
SOURCE_LABELS = {number: SourceLabel((organ,)) for number, organ in enumerate(ORGANS, 1)}


def list_cases(root: Path) -> Listing:
    """Pair images and labels by number; the test scans have no labels."""
    listing = Listing()
    files = visible_files(root, "**/*.nii*")
    images = by_number(files, r"img(\d+)\.nii(?:\.gz)?", listing)
    labels = by_number(files, r"label(\d+)\.nii(?:\.gz)?", listing)
    return pair(images, labels, "{:04d}".format, listing, root=root)


SOURCE = Source(
    key="btcv",
    layout="img/img<NNNN>.nii.gz and label/label<NNNN>.nii.gz, in any folders",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY 4.0, as stated by the CADS dataset table",
    default_name=lambda _: "BTCV",
    scans=lambda _: frozenset({"BTCV"}),
)
