"""TCIA Pancreas-CT (NIH): portal venous CT scans of 82 people without pancreatic lesions, as DICOM series.

Licence: CC BY 3.0, as reported by others; the collection's page decides.
From: https://www.cancerimagingarchive.net/collection/pancreas-ct
Layout: `Pancreas-CT/PANCREAS_<NNNN>/<study>/<series>/*.dcm` (at most three folders down) and
`TCIA_pancreas_labels-02-05-2017/label<NNNN>.nii.gz`, both below the path.
Annotated: pancreas.
Known to be wrong: folders 0025 and 0070 are empty or withdrawn, so 80 pairs are usable of 82 labels; the label arrays are
flipped in y against the series, and their headers do not say so (noted where the pancreas fits better without the flip); padding
is -2048. Shapes are checked case by case, no list of bad cases is trusted.
"""

from pathlib import Path

from nnunet_partial.dataset_conversion.listing import LabelGrid, Listing, Source, SourceLabel, by_number, pair, visible_files

SOURCE_LABELS = {1: SourceLabel(("pancreas",))}


def list_cases(root: Path) -> Listing:
    """Pair series folders and label files by number; a patient's folder without slices is skipped."""
    listing = Listing()
    patients = by_number(
        (folder for depth in ("", "*/", "*/*/") for folder in sorted(root.glob(f"{depth}PANCREAS_*")) if folder.is_dir()),
        r"PANCREAS_(\d+)",
        listing,
    )
    labels = by_number(
        (file for depth in ("", "*/", "*/*/") for file in visible_files(root, f"{depth}label*.nii*")),
        r"label(\d+)\.nii(?:\.gz)?",
        listing,
    )
    series = {}
    for number, patient in patients.items():
        folders = sorted({slice_file.parent for slice_file in visible_files(patient, "**/*.dcm")})
        if len(folders) > 1:
            listing.faults.append(
                f"'{patient}' holds {len(folders)} folders with DICOM files; keep the one the label was drawn on"
            )
        elif folders:
            series[number] = folders[0]
        else:
            listing.skipped.append((str(patient.relative_to(root)), "the folder holds no DICOM files"))
            labels.pop(number, None)
    return pair(series, labels, "{:04d}".format, listing, root=root)


SOURCE = Source(
    key="tcia_pancreas",
    layout="PANCREAS_<NNNN>/<study>/<series>/*.dcm and label<NNNN>.nii.gz",
    list_cases=list_cases,
    labels=lambda _: SOURCE_LABELS,
    licence=lambda _: "CC BY 3.0, as reported by others; check the collection's page",
    default_name=lambda _: "PancreasCT",
    label_grid=LabelGrid.ARRAYS_FLIPPED_Y,
    scans=lambda _: frozenset({"Pancreas-CT"}),
)
