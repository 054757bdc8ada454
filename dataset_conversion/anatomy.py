"""What the anatomy must say after conversion, whatever the headers said: a cheap check that catches a flip."""

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.labels import AnnotationProtocol

_RIGHT_OF = (("liver", "spleen"), ("kidney_right", "kidney_left"), ("liver", "kidney_left"), ("kidney_right", "spleen"))
_RIGHT_OF_MIDDLE = {"liver": True, "spleen": False}
_BEHIND = (("aorta", "stomach"),)
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
_SOLID = ("liver", "spleen", "pancreas", "kidney", "kidney_left", "kidney_right", "aorta", "inferior_vena_cava")
_SOLID_HU = (-30, 300)  # neither fat nor air nor bone
_LEAST_SOLID = 0.6  # of the voxels drawn; in 24 scans of BTCV a single organ has 0.77 (pancreas) or more
_BETTER_MIRRORED = 0.1
_STRIDE = 2
_THIN = (slice(None, None, _STRIDE),) * 3


def anatomy_notes(labels: np.ndarray, image: Volume, protocol: AnnotationProtocol, *, is_ct: bool) -> list[str]:
    """Everything about a converted case that contradicts the anatomy; empty where all is well.

    Args:
        labels: Label map in RAS, our ids.
        image: The image on the same grid.
        protocol: What the label ids stand for; only ids that stand for one class (and its tumor) are judged.
        is_ct: Whether intensities are HU.
    """
    notes = position_notes(labels, image, protocol, is_ct=is_ct)
    return notes + (intensity_notes(labels, image, protocol) if is_ct else [])


def position_notes(labels: np.ndarray, image: Volume, protocol: AnnotationProtocol, *, is_ct: bool) -> list[str]:
    """What lies on the wrong side of something else: the scan may be flipped. Arguments as of `anatomy_notes`."""
    labels = labels[_THIN].copy(order="K")
    number_of = _ids(protocol)
    named = {name for pair in (*_RIGHT_OF, *_BEHIND) for name in pair} & set(number_of)
    middles = {name: _middle(labels == number_of[name]) for name in sorted(named)}
    middles = {name: middle for name, middle in middles.items() if middle is not None}
    notes = [
        f"{right} does not lie to the patient's right of {left}: the scan may be flipped"
        for right, left in _RIGHT_OF
        if right in middles and left in middles and middles[right][0] <= middles[left][0]
    ]
    notes += [
        f"{behind} does not lie behind {front}: the scan may be flipped"
        for behind, front in _BEHIND
        if behind in middles and front in middles and middles[behind][1] >= middles[front][1]
    ]
    if is_ct and set(_RIGHT_OF_MIDDLE) & set(middles):
        body = body_middle(image.intensities(_THIN))
        for name, on_right in _RIGHT_OF_MIDDLE.items():
            if name in middles and (middles[name][0] > body) != on_right:
                notes.append(f"{name} lies on the patient's {'left' if on_right else 'right'}: the scan may be flipped")
    return notes


def intensity_notes(labels: np.ndarray, image: Volume, protocol: AnnotationProtocol) -> list[str]:
    """Organs whose median HU is none of theirs. Arguments as of `anatomy_notes`, the image being CT."""
    labels, intensities = (np.ascontiguousarray(array.T) for array in (labels[_THIN], image.intensities(_THIN)))  # as in the file
    notes = []
    for name, (lowest, highest) in _HU_RANGES.items():
        inside = intensities[labels == number] if (number := _ids(protocol).get(name)) else np.empty(0)
        median = np.median(inside) if inside.size else lowest
        if not lowest <= median <= highest:
            notes.append(
                f"median inside {name} is {median:.0f} HU, expected {lowest} to {highest}: image and label may not match"
            )
    return notes


def match_notes(labels: np.ndarray, image: Volume, protocol: AnnotationProtocol) -> list[str]:
    """Whether solid organs are drawn on something else, or would fit the CT better mirrored. Arguments as of `anatomy_notes`."""
    solid_or_tumor = {*_SOLID, *(f"{name}_tumor" for name in _SOLID)}
    ids = [n for n, classes in protocol.labels.items() if classes[0] in _SOLID and solid_or_tumor.issuperset(classes)]
    drawn, intensities = np.isin(labels[_THIN], ids), image.intensities(_THIN)
    if not drawn.any():
        return []
    solid = (intensities >= _SOLID_HU[0]) & (intensities <= _SOLID_HU[1])
    share = np.mean(solid[drawn])
    mirrored = {axis: np.mean(np.flip(solid, number)[drawn]) for number, axis in enumerate("xyz")}
    axis = max(mirrored, key=mirrored.__getitem__)
    if mirrored[axis] > share + _BETTER_MIRRORED:
        return [
            f"{share:.0%} of the labelled solid organs' voxels look like soft tissue, {mirrored[axis]:.0%} if the label map is "
            f"mirrored along {axis}: image or label map is flipped"
        ]
    if share < _LEAST_SOLID:
        return [f"only {share:.0%} of the labelled solid organs' voxels look like soft tissue: image and label do not match"]
    return []


def flip_notes(labels: np.ndarray, image: Volume) -> list[str]:
    """Whether a label map that was flipped in y, as its source is known to need it, would have fitted the CT better as it was."""
    drawn, intensities = labels[_THIN] > 0, image.intensities(_THIN)
    soft = (intensities > _SOFT_TISSUE_HU[0]) & (intensities < _SOFT_TISSUE_HU[1])
    if np.count_nonzero(soft & drawn) < np.count_nonzero(soft & drawn[:, ::-1]):
        return ["the label map would fit the image better without the flip in y that this source needs; look at the case"]
    return []


def body_middle(intensities: np.ndarray) -> float:
    """The index along the left-right axis that has half of the body on either side; the array's middle where there is no body."""
    profile = np.cumsum(np.count_nonzero(intensities > _BODY_HU, axis=(1, 2)))
    return float(np.searchsorted(profile, profile[-1] / 2)) if profile[-1] else (len(profile) - 1) / 2


def _ids(protocol: AnnotationProtocol) -> dict[str, int]:
    """The label id of every class that has one for itself, or for itself and what lies inside it."""
    return {
        classes[0]: number
        for number, classes in protocol.labels.items()
        if all(name.startswith(f"{classes[0]}_") for name in classes[1:])
    }


def _middle(mask: np.ndarray) -> tuple[float, float] | None:
    """Mean left-right and back-front index of a mask, None where it is empty."""
    if not mask.any():
        return None
    profiles = (np.count_nonzero(mask, axis=(1, 2)), np.count_nonzero(mask, axis=(0, 2)))
    return tuple(float(np.average(np.arange(len(profile)), weights=profile)) for profile in profiles)
