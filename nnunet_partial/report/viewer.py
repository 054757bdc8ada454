"""A page a case in which image, reference, prediction and difference can be scrolled; opens from a file, without a network.

A page opened as a file may not fetch other files, so the volumes stand in it, as gzipped NIfTI in base64.
"""

import base64
import gzip
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_partial.labels import replacing, write_text
from nnunet_partial.report.overlays import DIFFERENCES
from nnunet_partial.report.slices import ShownCase, View, class_colour
from nnunet_partial.report.templates import render

VENDOR = Path(__file__).parent / "vendor" / "niivue"
SCRIPT = "niivue-0.69.0.umd.js"
LICENCES = {"LICENSE": "niivue-LICENSE.txt", "THIRD_PARTY_LICENSES.txt": "niivue-THIRD-PARTY-LICENSES.txt"}
MAX_VOXELS = 2**23  # a page of some 10 MB; larger scans are shown at every second voxel along an axis, or fewer


def install_script(folder: Path) -> None:
    """Put NiiVue and its licences beside the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in {SCRIPT: SCRIPT, **LICENCES}.items():
        with replacing(folder / target) as temporary:
            shutil.copyfile(VENDOR / name, temporary)


def write_viewer(
    case: ShownCase,
    difference: np.ndarray,
    views: Sequence[View],
    class_names: Mapping[int, str],
    path: Path,
    *,
    title: str,
    back: str,
) -> None:
    """Write the page of one case beside the script.

    Args:
        case: With the reference and the prediction as label maps.
        difference: `difference_map` of the two.
        views: Slices at which the page opens.
        class_names: Label id -> name; a union that has an id of its own included.
        path: The HTML file.
        title: The case's name and what is to be known of it.
        back: Address of the report, relative to the page.
    """
    steps = strides(case.image.shape, case.spacing_mm)
    volumes = {"image": _compact(case.image), "reference": case.label_maps[0], "prediction": case.label_maps[1]}
    packed = {
        name: _nifti_base64(array, steps, case.spacing_mm) for name, array in (*volumes.items(), ("difference", difference))
    }
    classes = {number: (name, class_colour(number)) for number, name in class_names.items()}
    content = render(
        "viewer.html",
        title=title,
        back=back,
        script=SCRIPT,
        volumes=packed,
        window=case.window,
        classes=[(number, name, colour) for number, (name, colour) in classes.items()],
        differences=[(number, name, colour) for number, (name, colour) in DIFFERENCES.items()],
        shape=case.image.shape,
        start=[next(view.index for view in views if view.axis == axis) // steps[axis] for axis in range(3)],
        steps=steps if max(steps) > 1 else None,
    )
    write_text(content, path)


def strides(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[int, ...]:
    """Every how manieth voxel is shown along each axis so that `MAX_VOXELS` are kept to; the finest axis is thinned first."""
    steps = [1, 1, 1]
    while np.prod([-(-size // step) for size, step in zip(shape, steps, strict=True)]) > MAX_VOXELS:
        finest = min(range(3), key=lambda axis: steps[axis] * spacing_mm[axis])
        steps[finest] += 1
    return tuple(steps)


def _compact(image: np.ndarray) -> np.ndarray:
    """Intensities as int16 where they are whole numbers that fit, otherwise as float32."""
    if image.min() >= -32768 and image.max() <= 32767 and (image.dtype.kind in "iu" or not np.any(image % 1)):
        return image.astype(np.int16)
    return image.astype(np.float32)


def _nifti_base64(array: np.ndarray, steps: tuple[int, ...], spacing_mm: tuple[float, ...]) -> str:
    thinned = array[tuple(slice(None, None, step) for step in steps)]
    affine = np.diag([*(step * size for step, size in zip(steps, spacing_mm, strict=True)), 1.0])
    file = nib.Nifti1Image(np.ascontiguousarray(thinned), affine).to_bytes()
    return base64.b64encode(gzip.compress(file, 6, mtime=0)).decode("ascii")
