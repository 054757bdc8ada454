"""Reading a DICOM series: which files of a folder are its slices, in the order of their positions, and all of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.errors import InvalidDicomError

from nnunet_partial.dataset_conversion.image_files.volume import LPS_TO_RAS, Volume, from_itk
from nnunet_partial.labels import first_of

MODALITIES = ("CT", "MR")
_TAGS = [
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
]
_GEOMETRY = {"ImageOrientationPatient": "orientations", "PixelSpacing": "pixel spacings", "Rows": "sizes", "Columns": "sizes"}
_PREAMBLE, _MAGIC = 128, b"DICM"
_MAX_SPACING_GAP_MM = 0.05
_TOLERANCE = 1e-3

Slice = tuple[Path, pydicom.Dataset]


def series_files(folder: Path) -> list[Path]:
    """Every visible file in a folder and below, by name; DICOM files often have no ending."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )


def read_series(folder: Path) -> Volume:
    """Read the one series of a folder, rescaled to intensities, slices in ascending position.

    Of several series, the one with the most CT or MR slices is taken; localizers and objects that are no slices
    (segmentations, structure sets, reports) are left aside. Both stand in the notes.

    Raises:
        ValueError: the folder holds no such series, or two of equal length; slices differ in orientation or spacing, or are
            missing, doubled or unevenly spaced.
    """
    slices, notes = _choose_series(folder)
    _check_geometry(slices, folder)
    slices, steps_mm = _in_order(slices, folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path, _ in slices])
    if len({(header.get("RescaleSlope"), header.get("RescaleIntercept")) for _, header in slices}) > 1:
        reader.SetOutputPixelType(SimpleITK.sitkFloat32)  # else the first slice decides for an integer type, and cuts off
    volume = from_itk(reader.Execute())
    if len(steps_mm):
        affine = volume.affine.copy()
        affine[:3, 2] = LPS_TO_RAS[:3, :3] @ steps_mm.mean(axis=0)  # ITK takes slices of a tilted gantry for a straight stack
        volume = replace(volume, affine=affine)
    return replace(volume, notes=tuple(notes))


def slices_of(folder: Path) -> list[Path]:
    """The slices of a folder's series in ascending position: the order in which `read_series` stacks them."""
    slices, _ = _choose_series(folder)
    return [path for path, _ in _in_order(slices, folder)[0]]


def _read_headers(folder: Path) -> list[Slice]:
    headers = []
    for path in series_files(folder):
        with path.open("rb") as file:
            is_dicom = file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
        if is_dicom or path.suffix.lower() in (".dcm", ".ima"):
            try:
                headers.append((path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=not is_dicom)))
            except (InvalidDicomError, EOFError) as error:
                raise ValueError(f"'{path.name}' is a broken DICOM file: {error}") from None
    if not headers:
        raise ValueError(f"folder '{folder.name}' holds no DICOM files")
    return headers


def _choose_series(folder: Path) -> tuple[list[Slice], list[str]]:
    """The slices to read, and what was taken and what was left."""
    headers = _read_headers(folder)
    slices = [item for item in headers if _is_slice(item[1])]
    series: dict[str, list[Slice]] = {}
    for item in slices:
        series.setdefault(str(item[1].get("SeriesInstanceUID", "")), []).append(item)
    if not series:
        found = ", ".join(f"{count} {name}" for name, count in Counter(_kind(header) for _, header in headers).items())
        raise ValueError(
            f"folder '{folder.name}' holds DICOM files that are no slices of a {' or '.join(MODALITIES)} series ({found})"
        )
    notes = [f"left aside in the DICOM folder: {line}" for line in _left_aside(headers, slices)]
    if len(series) > 2 and len(series) == len(slices) and _looks_like_one(slices):
        notes.append("every slice has a series UID of its own (an anonymiser does that); they were taken as one series")
        return slices, notes
    longest, *others = sorted(series.values(), key=len, reverse=True)
    if others and len(others[0]) == len(longest):
        raise ValueError(
            f"folder '{folder.name}' holds {len(series)} series, two of them with {len(longest)} slices "
            f"({_name(longest)} and {_name(others[0])}); keep the one the label was drawn on"
        )
    if others:
        left = ", ".join(f"{_name(other)} ({len(other)} slices)" for other in others)
        notes.append(f"{len(series)} DICOM series in the folder: took {_name(longest)} ({len(longest)} slices), left {left}")
    return longest, notes


def _is_slice(header: pydicom.Dataset) -> bool:
    return header.get("Modality") in MODALITIES and "Rows" in header and not _is_localizer(header)


def _is_localizer(header: pydicom.Dataset) -> bool:
    return "LOCALIZER" in (header.get("ImageType") or [])


def _kind(header: pydicom.Dataset) -> str:
    return "localizer" if _is_localizer(header) else str(header.get("Modality") or "without a modality")


def _left_aside(headers: list[Slice], slices: list[Slice]) -> list[str]:
    """What of a folder is no slice, a line for each kind."""
    taken = {path for path, _ in slices}
    names: dict[str, list[str]] = {}
    for path, header in headers:
        if path not in taken:
            names.setdefault(_kind(header), []).append(path.name)
    return [f"{len(files)} {kind} ({first_of(files)})" for kind, files in names.items()]


def _name(series: list[Slice]) -> str:
    header = series[0][1]
    return f"'{header.get('SeriesDescription') or header.get('SeriesInstanceUID') or series[0][0].name}'"


def _looks_like_one(slices: list[Slice]) -> bool:
    return not any(_different(slices, tag) for tag in _GEOMETRY)


def _different(slices: list[Slice], tag: str) -> bool:
    values = [np.atleast_1d(np.array(header.get(tag, ()), dtype=float)) for _, header in slices]
    return any(value.shape != values[0].shape or not np.allclose(value, values[0], atol=_TOLERANCE) for value in values)


def _check_geometry(slices: list[Slice], folder: Path) -> None:
    for path, header in slices:
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise ValueError(f"'{path.name}' holds a whole volume (multi-frame DICOM), which is not read; export single slices")
        missing = [tag for tag in ("ImagePositionPatient", *_GEOMETRY) if not header.get(tag)]
        if missing:
            raise ValueError(f"'{path.name}' lacks {', '.join(missing)}: nobody can tell where this slice lies")
    for tag, words in _GEOMETRY.items():
        if _different(slices, tag):
            raise ValueError(f"slices of folder '{folder.name}' have different {words} ({tag}); split the series")


def _in_order(slices: list[Slice], folder: Path) -> tuple[list[Slice], np.ndarray]:
    """The slices in ascending position, and the steps between them in mm (LPS); an uneven stack is refused."""
    across, down = np.array(slices[0][1].ImageOrientationPatient, dtype=float).reshape(2, 3)
    places_mm = np.array([header.ImagePositionPatient for _, header in slices], dtype=float)
    order = np.argsort(places_mm @ np.cross(across, down), kind="stable")
    steps_mm = np.diff(places_mm[order], axis=0)
    if len(steps_mm) and np.ptp(steps_mm, axis=0).max() > _MAX_SPACING_GAP_MM:
        lengths_mm = np.linalg.norm(steps_mm, axis=1)
        raise ValueError(
            f"slices of folder '{folder.name}' lie {lengths_mm.min():.3f} to {lengths_mm.max():.3f} mm apart: "
            "some are missing or doubled; download the series again"
        )
    if len(steps_mm) and np.linalg.norm(steps_mm[0]) < _MAX_SPACING_GAP_MM:
        raise ValueError(f"all slices of folder '{folder.name}' lie at one place; they are no volume")
    return [slices[i] for i in order], steps_mm
