"""Three public datasets around two real scans, one of which all of them hold: as it is, with one organ, and resampled and cut."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from native_sources import write_pool
from scipy import ndimage

from nnunet_partial.dataset_conversion.image_files.volume import read_labels, read_nifti, to_ras

CLASSES = ["liver", "spleen", "pancreas", "kidney_left", "kidney_right"]


def write(array: np.ndarray, spacing_mm, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing_mm, 1.0])), path)


def write_repeated_scans(real_data: Path, root: Path) -> Path:
    """A pool: btcv_0001 and msd_spleen_1 have the same voxels, lits_1 is a resampled part of them, btcv_0002 someone else."""
    for number in (1, 2):
        for kind in ("img", "label"):
            path = root / f"btcv/{kind}/{kind}{number:04d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to((real_data / f"btcv/{kind}/{kind}{number:04d}.nii.gz").resolve())
    image = to_ras(read_nifti(real_data / "btcv/img/img0001.nii.gz"))
    labels = to_ras(read_labels(real_data / "btcv/label/label0001.nii.gz")).array
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    spleen = np.roll((labels == 1).astype(np.uint8), 1, axis=1)  # another hand
    write(image.array.astype(np.float32), spacing_mm, root / "Task09_Spleen/imagesTr/spleen_1.nii.gz")
    write(spleen, spacing_mm, root / "Task09_Spleen/labelsTr/spleen_1.nii.gz")
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}}
    (root / "Task09_Spleen/dataset.json").write_text(json.dumps(content))
    part = (slice(None), slice(None), slice(15, 80))
    coarser = (0.8, 0.8, 1)
    cut = ndimage.zoom(image.array[part].astype(np.float32).clip(-100, 240), coarser, order=1)
    liver = ndimage.zoom((labels[part] == 6).astype(np.uint8), coarser, order=0)
    write(np.rint(cut).astype(np.int16), spacing_mm / coarser, root / "lits/volume-1.nii")
    write(liver, spacing_mm / coarser, root / "lits/segmentation-1.nii")
    sources = [
        {"source": "btcv", "path": "btcv"},
        {"source": "lits", "path": "lits"},
        {"source": "msd", "path": "Task09_Spleen"},
    ]
    return write_pool(root / "pool.yaml", sources, CLASSES)
