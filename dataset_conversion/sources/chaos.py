"""CHAOS: Combined (CT-MR) Healthy Abdominal Organ Segmentation 2019; 20 labelled CT scans (liver), 20 labelled MR patients.

Licence: CC BY-NC-SA 4.0, as stated by the rules of the challenge (chaos.grand-challenge.org).
From: https://doi.org/10.5281/zenodo.3362844
Layout: `CT/<id>/{DICOM_anon,Ground}`, `MR/<id>/T1DUAL/{DICOM_anon/InPhase,DICOM_anon/OutPhase,Ground}`,
`MR/<id>/T2SPIR/{DICOM_anon,Ground}`, at most two folders below the path; labels are pictures, one a slice. Each MR sequence is a
source of its own, because one nnU-Net dataset has one kind of image; in- and out-of-phase images share their label maps.
Annotated: CT liver (255); MR liver, both kidneys, spleen (ranges of greys in `MR_GREYS`). The test sets have no labels.
Known to be wrong: file names hold commas. Pictures follow the *file names* of the slices, which run against their positions in
most scans: they are matched by name and stacked by position (tests/dataset_conversion/test_chaos.py shows it on a real scan: 98 %
of the labelled voxels are soft tissue that way, 88 % in the order of positions).
"""

from collections.abc import Callable
from pathlib import Path

from nnunet_partial.dataset_conversion.image_files.pictures import SlicePictures
from nnunet_partial.dataset_conversion.listing import Listing, Source, SourceCase, SourceLabel, by_number, visible_files

CT_LABELS = {1: SourceLabel(("liver",))}
CT_GREYS = ((255, 255, 1),)
MR_LABELS = {number: SourceLabel((name,)) for number, name in enumerate(("liver", "kidney_right", "kidney_left", "spleen"), 1)}
MR_GREYS = ((55, 70, 1), (110, 135, 2), (175, 200, 3), (240, 255, 4))


def _cases_of(modality: str, sequence: str, series: str) -> Callable[[Path], Listing]:
    """The function that lists the patients of a modality by number; a patient without pictures is unlabelled."""

    def list_cases(root: Path) -> Listing:
        listing = Listing()
        folders = (folder for depth in ("*", "*/*", "*/*/*") for folder in sorted(root.glob(depth)) if folder.is_dir())
        patients = by_number((folder for folder in folders if folder.parent.name == modality), r"(\d+)", listing)
        for number, patient in sorted(patients.items()):
            image, pictures = patient / sequence / series, visible_files(patient / sequence / "Ground", "*.png")
            if not image.is_dir():
                listing.skipped.append((str(patient.relative_to(root)), f"holds no folder '{Path(sequence) / series}'"))
            elif pictures:
                listing.cases.append(SourceCase(str(number), image, tuple(pictures)))
            else:
                listing.unlabelled.append(SourceCase(str(number), image))
        return listing

    return list_cases


def _source(key: str, name: str, modality: str, sequence: str, series: str) -> Source:
    is_ct = modality == "CT"
    return Source(
        key=key,
        layout=f"{(Path(modality) / '<id>' / sequence).as_posix()}/{{{series},Ground}}, at most two folders down",
        list_cases=_cases_of(modality, sequence, series),
        labels=lambda _: CT_LABELS if is_ct else MR_LABELS,
        licence=lambda _: "CC BY-NC-SA 4.0, as stated by chaos.grand-challenge.org/Rules",
        default_name=lambda _: name,
        channel_names=lambda _: {"0": "CT" if is_ct else "MRI"},
        read_labels=SlicePictures(series, CT_GREYS if is_ct else MR_GREYS),
        scans=lambda _: frozenset({"CHAOS" if is_ct else "CHAOS MR"}),
    )


SOURCES = (
    _source("chaos_ct", "CHAOS_CT", "CT", "", "DICOM_anon"),
    _source("chaos_mr_t1in", "CHAOS_T1in", "MR", "T1DUAL", "DICOM_anon/InPhase"),
    _source("chaos_mr_t1out", "CHAOS_T1out", "MR", "T1DUAL", "DICOM_anon/OutPhase"),
    _source("chaos_mr_t2spir", "CHAOS_T2SPIR", "MR", "T2SPIR", "DICOM_anon"),
)
