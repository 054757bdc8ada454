"""One label map of a case: from the original files to the image's grid in RAS, with our ids."""

from pathlib import Path

import numpy as np

from nnunet_partial.dataset_conversion.anatomy import flip_notes
from nnunet_partial.dataset_conversion.case_job import CaseJob
from nnunet_partial.dataset_conversion.image_files.volume import AXES, Volume, bounding_box, placed_in, same_grid, to_ras
from nnunet_partial.dataset_conversion.label_plan import LabelPlan
from nnunet_partial.dataset_conversion.listing import LabelGrid
from nnunet_partial.dataset_conversion.sides import split_sides
from nnunet_partial.labels import remap_labels


def our_labels(job: CaseJob, plan: LabelPlan, image: Volume, files: tuple[Path, ...]) -> tuple[np.ndarray, list[str]]:
    """One label map of the case on the image's grid in RAS, with our ids; nothing is drawn where nobody annotated the case."""
    if not files:
        return np.zeros(to_ras(image).array.shape, dtype=np.uint8, order="F"), []
    drawn = job.read_labels(files)
    labels, notes = _labels_in_ras(job, image, drawn)
    notes += drawn.notes
    if job.label_grid is LabelGrid.ARRAYS_FLIPPED_Y and job.is_ct:
        notes += flip_notes(labels, to_ras(image))
    labels, side_notes = _with_our_ids(plan, labels, to_ras(image))
    return labels, [*notes, *side_notes]


def _labels_in_ras(job: CaseJob, image: Volume, labels: Volume) -> tuple[np.ndarray, list[str]]:
    """The label array as it lies on the image, both in RAS."""
    if labels.affine is None:
        labels = Volume(labels.array, image.affine)
    elif job.label_grid is LabelGrid.BOX:
        image, labels = to_ras(image), placed_in(labels, image)
    elif job.label_grid is LabelGrid.HEADERS:
        image, labels = to_ras(image), to_ras(labels)
    if labels.array.shape != image.array.shape:
        raise ValueError(f"the image has shape {image.array.shape}, the label map {labels.array.shape}; they must be the same")
    if job.label_grid is LabelGrid.ARRAYS_FLIPPED_Y:
        return to_ras(Volume(labels.array[:, ::-1], image.affine)).array, []
    if same_grid(image, labels):
        return to_ras(Volume(labels.array, image.affine)).array, []
    if job.label_grid is LabelGrid.ARRAYS:
        return to_ras(Volume(labels.array, image.affine)).array, [
            "the label's header differs from the image's; the arrays were taken to match"
        ]
    raise ValueError(
        f"image and label map lie at different places (in {AXES}, affine {_in_words(image)} against {_in_words(labels)}); "
        "mend the header that is wrong"
    )


def _with_our_ids(plan: LabelPlan, labels: np.ndarray, image: Volume) -> tuple[np.ndarray, list[str]]:
    """The label map with our ids; unknown ids are refused before anything is derived from them."""
    if not plan.right_ids:
        return _remap(labels, plan.mapping), []
    labels, notes = _remap(labels, {number: number for number in plan.source_ids}), []
    for organ, right_ids in plan.right_ids.items():
        labels, organ_notes = split_sides(labels, image, organ, right_ids)
        notes += organ_notes
    return _remap(labels, plan.mapping), notes


def _remap(labels: np.ndarray, mapping: dict[int, int]) -> np.ndarray:
    """`remap_labels`, reading only the box that holds anything: organs fill a tenth of a scan."""
    box = bounding_box(labels)
    part = remap_labels(labels[box].copy(order="K"), mapping)  # in the file's own order of voxels: exchanging axes is slow
    remapped = np.zeros(labels.shape, dtype=part.dtype, order="F")
    remapped[box] = part
    return remapped


def _in_words(volume: Volume) -> str:
    return np.array2string(volume.affine[:3], precision=2, suppress_small=True, separator=",").replace("\n", "")
