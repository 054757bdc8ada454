"""Arrays as files on the grid of another file."""

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from nnunet_partial.evaluation.label_maps import NIFTI_ENDINGS
from nnunet_partial.labels import replacing


def write_like(values: np.ndarray, like: Path, path: Path) -> None:
    """Write voxels with the header (NIfTI) or the geometry (other formats) of a file that has the same grid.

    Args:
        values: As nnU-Net has them, axes (z, y, x).
        like: The file whose grid it is; both names have the same ending.
        path: Where to write; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if like.name.endswith(NIFTI_ENDINGS):  # ITK would refuse some NIfTI directions, and forget the rest of the header
            image = nibabel.load(like)
            written = type(image)(values.T, image.affine, image.header)
            written.header.set_data_dtype(values.dtype)
            nibabel.save(written, temporary)
        else:
            image = SimpleITK.GetImageFromArray(values)
            image.CopyInformation(SimpleITK.ReadImage(str(like)))
            SimpleITK.WriteImage(image, str(temporary), useCompression=True)
