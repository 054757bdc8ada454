"""What the anatomy must say after conversion, whatever the headers said: a cheap check that catches a flip."""

import numpy as np

from nnunet_partial.dataset_conversion.volume import Volume
from nnunet_partial.labels import AnnotationProtocol

_RIGHT_OF = (("liver", "spleen"), ("kidney_right", "kidney_left"), ("liver", "kidney_left"), ("kidney_right", "spleen"))
_RIGHT_OF_MIDDLE = {"liver": True, "spleen": False}
_KIDNEY_HU = (20, 350)  # BTCV 0006 has 252
_HU_RANGES = {
    "liver": (20, 250),
    "spleen": (20, 250),
    "kidney": _KIDNEY_HU,
    "kidney_left": _KIDNEY_HU,
    "kidney_right": _KIDNEY_HU,
}
_SOFT_TISSUE_HU = (0, 200)
_BODY_HU = -300
_STRIDE = 2


def anatomy_notes(labels: np.ndarray, image: Volume, protocol: AnnotationProtocol, *, is_ct: bool) -> list[str]:
    """Everything about a converted case that contradicts the anatomy; empty where all is well.

    Args:
        labels: Label map in RAS, our ids.
        image: The image on the same grid.
        protocol: What the label ids stand for; only ids that stand for one class (and its tumor) are judged.
        is_ct: Whether intensities are HU.
    """
    thin = (slice(None, None, _STRIDE),) * 3
    labels = np.ascontiguousarray(labels[thin])
    number_of = {
        classes[0]: number
        for number, classes in protocol.labels.items()
        if len(classes) == 1 or classes[1] == f"{classes[0]}_tumor"
    }
    middles = {
        name: _middle(labels == number_of[name]) for name in sorted({n for pair in _RIGHT_OF for n in pair} & set(number_of))
    }
    middles = {name: middle for name, middle in middles.items() if middle is not None}
    notes = [
        f"{right} does not lie to the patient's right of {left}: the scan may be flipped"
        for right, left in _RIGHT_OF
        if right in middles and left in middles and middles[right] <= middles[left]
    ]
    if not is_ct:
        return notes
    intensities = image.intensities(thin)
    body = body_middle(intensities)
    for name, on_right in _RIGHT_OF_MIDDLE.items():
        if name in middles and (middles[name] > body) != on_right:
            notes.append(f"{name} lies on the patient's {'left' if on_right else 'right'}: the scan may be flipped")
    for name, (lowest, highest) in _HU_RANGES.items():
        inside = intensities[labels == number_of[name]] if name in number_of else np.empty(0)
        median = np.median(inside) if inside.size else lowest
        if not lowest <= median <= highest:
            notes.append(
                f"median inside {name} is {median:.0f} HU, expected {lowest} to {highest}: image and label may not match"
            )
    return notes


def flip_notes(labels: np.ndarray, image: Volume) -> list[str]:
    """Whether a label map that was flipped in y, as its source is known to need it, would have fitted the CT better as it was."""
    thin = (slice(None, None, _STRIDE),) * 3
    drawn, intensities = labels[thin] > 0, image.intensities(thin)
    soft = (intensities > _SOFT_TISSUE_HU[0]) & (intensities < _SOFT_TISSUE_HU[1])
    if np.count_nonzero(soft & drawn) < np.count_nonzero(soft & drawn[:, ::-1]):
        return ["the label map would fit the image better without the flip in y that this source needs; look at the case"]
    return []


def body_middle(intensities: np.ndarray) -> float:
    """The index along the left-right axis that has half of the body on either side; the array's middle where there is no body."""
    profile = np.cumsum(np.count_nonzero(intensities > _BODY_HU, axis=(1, 2)))
    return float(np.searchsorted(profile, profile[-1] / 2)) if profile[-1] else (len(profile) - 1) / 2


def _middle(mask: np.ndarray) -> float | None:
    """Mean left-right index of a mask, None where it is empty."""
    profile = np.count_nonzero(mask, axis=(1, 2))
    return float(np.average(np.arange(len(profile)), weights=profile)) if profile.any() else None
