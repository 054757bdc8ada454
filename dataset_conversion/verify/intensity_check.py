"""What the voxels of an image hold."""

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.dataset_conversion.verify.finding import Finding, fault, remark

_CT_HU = (-2048, 32767)
_AIR_HU = -500
_UNIT_RANGE = (-1.5, 1.5)
_GREY_RANGE = (0, 255)


def intensity_findings(image: Volume, file_name: str, *, is_ct: bool) -> list[Finding]:
    """NaN, nothing at all, and in CT: values that are no Hounsfield units."""
    if image.array.dtype.kind == "f" and not np.isfinite(image.array).all():
        return [fault("NaN", f"'{file_name}' holds NaN or infinite values, which nnU-Net refuses")]
    stored = np.array([image.array.min(), image.array.max()], dtype=np.float64)
    low, high = sorted(stored * image.slope + image.inter)
    if low == high:
        return [fault("constant image", f"'{file_name}' holds {low:g} everywhere")]
    return _ct_findings(image, low, high, file_name) if is_ct else []


def _ct_findings(image: Volume, low: float, high: float, file_name: str) -> list[Finding]:
    said = f"'{file_name}' holds values from {low:g} to {high:g}"
    if _UNIT_RANGE[0] <= low and high <= _UNIT_RANGE[1]:
        return [fault("rescaled", f"{said}: rescaled to a unit range; a CT holds Hounsfield units")]
    if _GREY_RANGE[0] <= low and high <= _GREY_RANGE[1]:
        return [fault("rescaled", f"{said}: grey values of a picture; a CT holds Hounsfield units")]
    findings = []
    if low < _CT_HU[0] or high > _CT_HU[1]:
        intensities = image.intensities()
        outside = np.count_nonzero((intensities < _CT_HU[0]) | (intensities > _CT_HU[1]))
        findings.append(remark("intensity range", f"{said}; {outside} voxels are outside {_CT_HU[0]} to {_CT_HU[1]} HU"))
    if low > _AIR_HU:
        findings.append(remark("no air", f"{said}: no air, so it was clipped to a window or cut to a part of the body"))
    return findings
