"""Reading a DICOM series: slices in the order of their positions, and all of them."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

from nnunet_partial.dataset_conversion.volume import Volume, from_itk

_TAGS = ["SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient"]
_MAX_SPACING_GAP_MM = 0.05


def series_files(folder: Path) -> list[Path]:
    """The files of the series in a folder, by name."""
    return sorted(path for path in folder.glob("*.dcm") if not path.name.startswith((".", "_")))


def read_series(folder: Path) -> Volume:
    """Read a series as ITK does, rescaled to intensities, slices in ascending position.

    Raises:
        ValueError: more than one series lies in the folder, or slices are missing, doubled or unevenly spaced.
    """
    files = series_files(folder)
    headers = [pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS) for path in files]
    if not headers or any(tag not in header for header in headers for tag in _TAGS):
        raise ValueError(
            f"folder '{folder.name}' holds DICOM files that are no slices of a series ({', '.join(_TAGS)} are needed)"
        )
    series = {header.SeriesInstanceUID for header in headers}
    if len(series) > 1:
        raise ValueError(f"folder '{folder.name}' holds {len(series)} series; keep the one the label was drawn on")
    across, down = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    heights_mm = np.array(
        [np.dot(np.cross(across, down), np.array(header.ImagePositionPatient, dtype=float)) for header in headers]
    )
    order = np.argsort(heights_mm, kind="stable")
    steps_mm = np.diff(heights_mm[order])
    if len(steps_mm) and steps_mm.max() - steps_mm.min() > _MAX_SPACING_GAP_MM:
        raise ValueError(
            f"slices of folder '{folder.name}' lie {steps_mm.min():.3f} to {steps_mm.max():.3f} mm apart: "
            "some are missing or doubled; download the series again"
        )
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(files[i]) for i in order])
    return from_itk(reader.Execute())
