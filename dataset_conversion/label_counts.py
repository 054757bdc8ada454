"""Voxels of each label id of a whole scan."""

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import bounding_box
from nnunet_partial.labels import count_labels


def count_voxels(labels: np.ndarray) -> dict[int, int]:
    """`count_labels`, reading only the box that holds anything: organs fill a tenth of a scan."""
    part = labels[bounding_box(labels)].copy(order="K")  # in the file's own order of voxels: exchanging axes is slow
    counts = count_labels(part)
    background = counts.pop(0, 0) + labels.size - part.size
    return {**({0: background} if background else {}), **counts}
