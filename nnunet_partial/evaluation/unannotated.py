"""Predictions of classes that nobody looked for: never errors, but are they anatomically plausible?"""

from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np
from scipy import ndimage

from nnunet_partial.evaluation.regions import grown_box
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

RANGE_FACTOR = 2.0  # a volume may be half the smallest annotated one and twice the largest
RANGE_CASES = 3  # a range from fewer annotated references says little
LARGEST_SHARE = 0.9
OVERLAP_SHARE = 0.1


def unannotated_predictions(
    reference: np.ndarray, prediction: np.ndarray, voxel_ml: float, protocol: AnnotationProtocol, space: LabelSpace
) -> dict[int, dict[str, Any]]:
    """Figures of every class that is predicted and that the case's annotator did not look for.

    Args:
        reference: Label map whose ids the protocol explains.
        prediction: Label map with the label space's own ids.
        voxel_ml: Volume of a voxel.
        protocol: How the reference was annotated.
        space: The classes and their label ids.

    Returns:
        Label id -> `volume_ml`, `components` (voxels that touch by a corner belong together), `largest_component_share`,
        `touches` (annotated classes whose reference shares a face with it or overlaps it; 'kidney_left+kidney_right' for a
        union) and `overlap_share` (of its voxels, those on an annotated reference). Voxels with the ignore label are left out.
    """
    annotated = {number: "+".join(classes) for number, classes in protocol.labels.items()}
    found = {}
    for number, box in enumerate(ndimage.find_objects(prediction, max_label=space.num_classes - 1), 1):
        if box is None or space.classes[number - 1] in protocol.annotated_classes:
            continue
        box = grown_box(box, [1] * prediction.ndim, prediction.shape)
        inside = reference[box]
        mask = prediction[box] == number
        if space.ignore_id is not None:
            mask &= inside != space.ignore_id
        voxels = int(mask.sum())
        if voxels:
            overlap = np.isin(inside[mask], list(annotated)).sum()
            found[number] = {
                "volume_ml": voxels * voxel_ml,
                **_components(mask),
                "touches": sorted(annotated[label] for label in _neighbours(mask, inside) & set(annotated)),
                "overlap_share": float(overlap / voxels),
            }
    return found


def volume_ranges_ml(volumes_ml: Mapping[int, Sequence[float]]) -> dict[int, tuple[float, float]]:
    """Label id -> the volumes one may expect, from those of annotated references; none from too few of them."""
    return {
        number: (min(values) / RANGE_FACTOR, max(values) * RANGE_FACTOR)
        for number, values in volumes_ml.items()
        if len(values) >= RANGE_CASES
    }


def implausible(figures: Mapping[str, Any], range_ml: tuple[float, float] | None) -> list[str]:
    """What speaks against a prediction of an unannotated class, each as a phrase; nothing where all is well."""
    faults = []
    if range_ml is not None and not range_ml[0] <= figures["volume_ml"] <= range_ml[1]:
        faults.append(f"volume {figures['volume_ml']:.3g} ml outside {range_ml[0]:.3g}..{range_ml[1]:.3g}")
    if figures["largest_component_share"] < LARGEST_SHARE:
        faults.append(f"largest of {figures['components']} components holds {figures['largest_component_share']:.0%}")
    if figures["overlap_share"] > OVERLAP_SHARE:
        faults.append(f"{figures['overlap_share']:.0%} lies on {', '.join(figures['touches'])}")
    return faults


def _components(mask: np.ndarray) -> dict[str, Any]:
    labels = cc3d.connected_components(mask, connectivity=26 if mask.ndim == 3 else 8)
    sizes = np.bincount(labels.ravel())[1:]
    return {"components": len(sizes), "largest_component_share": float(sizes.max() / sizes.sum())}


def _neighbours(mask: np.ndarray, labels: np.ndarray) -> set[int]:
    """Label ids in the mask or across a face of it."""
    found = set(np.unique(labels[mask]).tolist())
    for axis in range(mask.ndim):
        masks, ids = np.moveaxis(mask, axis, 0), np.moveaxis(labels, axis, 0)
        found |= set(np.unique(ids[1:][masks[:-1]]).tolist()) | set(np.unique(ids[:-1][masks[1:]]).tolist())
    return found
