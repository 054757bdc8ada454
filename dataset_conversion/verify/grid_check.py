"""Where the voxels lie: do image and label map agree, and is their place in space a sane one?"""

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from nnunet_partial.dataset_conversion.image_files.volume import (
    AXES,
    Volume,
    has_identity_affine,
    itk_affine,
    same_grid,
    with_square_axes,
)
from nnunet_partial.dataset_conversion.verify.finding import Finding, fault, remark

_SPACING_MM = (0.1, 12.0)
_IN_PLANE_RATIO = 1.05
_SKEW_DEGREES = 0.1


def affine_findings(path: Path) -> list[Finding]:
    """Whether the header names a place in space at all; what is said here makes every other check pointless."""
    affine = nib.load(path).affine
    if not np.isfinite(affine).all():
        return [fault("affine", f"'{path.name}' has NaN or infinite values in its affine")]
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return [
            fault("affine", f"'{path.name}' has an affine without volume (determinant 0): an axis has no length or no direction")
        ]
    return []


def place_findings(volume: Volume, path: Path) -> list[Finding]:
    """Right angles, orientation, and whether ITK, with which nnU-Net reads, sees the same place."""
    findings = []
    skew_degrees = with_square_axes(volume)[1]
    if skew_degrees > _SKEW_DEGREES:
        findings.append(
            fault(
                "affine", f"'{path.name}' has axes {skew_degrees:.2f} degrees off a right angle, which nnU-Net's reader refuses"
            )
        )
    if volume.axcodes != AXES:
        findings.append(
            fault("orientation", f"'{path.name}' has its axes along {volume.axcodes}; a converted dataset has {AXES} throughout")
        )
    seen = _itk_place(path, volume)
    return findings + ([fault("affine", seen)] if seen and not findings else [])


def _itk_place(path: Path, volume: Volume) -> str | None:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        return f"'{path.name}' is refused by ITK, with which nnU-Net reads: {reason}"
    if reader.GetDimension() == 3 and same_grid(Volume(volume.array, itk_affine(reader)), volume):
        return None
    return f"'{path.name}' lies elsewhere for ITK than for nibabel: its sform, qform or units contradict each other"


def spacing_findings(image: Volume, path: Path, *, is_ct: bool) -> list[Finding]:
    """Whether the voxel size can be a scanner's."""
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    said = " x ".join(f"{step:.3g}" for step in spacing_mm)
    findings = []
    if is_ct and has_identity_affine(image):
        findings.append(
            remark(
                "unknown spacing",
                f"'{path.name}' says 1 mm along every axis, like headers that lost the spacing (LiTS 28-47); no volume is judged",
            )
        )
    if spacing_mm.min() < _SPACING_MM[0]:
        findings.append(fault("spacing", f"'{path.name}' has voxels of {said} mm; below {_SPACING_MM[0]} mm the unit is wrong"))
    if spacing_mm.max() > _SPACING_MM[1]:
        findings.append(remark("spacing", f"'{path.name}' has voxels of {said} mm; thicker than {_SPACING_MM[1]:g} mm"))
    ratio = min(max(a, b) / min(a, b) for a, b in zip(spacing_mm, np.roll(spacing_mm, 1), strict=True))
    if ratio > _IN_PLANE_RATIO:
        findings.append(remark("spacing", f"'{path.name}' has voxels of {said} mm: in no plane are they square"))
    return findings


def geometry_findings(image: Volume, other: Volume, image_name: str, other_name: str) -> list[Finding]:
    """Whether two files of a case have the same grid."""
    if image.array.shape != other.array.shape:
        return [fault("geometry", f"'{image_name}' has shape {image.array.shape}, '{other_name}' {other.array.shape}")]
    if not same_grid(image, other):
        gap_mm = _gap_mm(image, other)
        return [fault("geometry", f"'{image_name}' and '{other_name}' lie at different places, up to {gap_mm:.1f} mm apart")]
    return []


def _gap_mm(first: Volume, second: Volume) -> float:
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in first.array.shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.linalg.norm(((first.affine - second.affine) @ corners)[:3], axis=0).max())
