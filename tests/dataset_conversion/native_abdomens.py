"""One abdominal CT with its organs, laid out as the multi-organ datasets are: same voxels, their ids, files and folders."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from native_sources import BTCV_IDS, ORGANS, SPACING_MM, abdomen, drawn

ADRENAL_IDS = {"adrenal_gland_right": 12, "adrenal_gland_left": 13}
_ADRENALS = {
    "adrenal_gland_left": (slice(9, 10), slice(5, 7), slice(11, 13)),
    "adrenal_gland_right": (slice(13, 14), slice(5, 7), slice(11, 13)),
}

# as the datasets' own pages have them, not as the converter does
AMOS_IDS = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "esophagus": 5, "liver": 6, "stomach": 7, "aorta": 8,
    "inferior_vena_cava": 9, "pancreas": 10, "adrenal_gland_right": 11, "adrenal_gland_left": 12,
}  # fmt: skip
FLARE_IDS = {
    "liver": 1, "kidney_right": 2, "spleen": 3, "pancreas": 4, "aorta": 5, "inferior_vena_cava": 6, "adrenal_gland_right": 7,
    "adrenal_gland_left": 8, "gallbladder": 9, "esophagus": 10, "stomach": 11, "kidney_left": 13,
}  # fmt: skip
ABDOMENCT1K_IDS = {"liver": 1, "kidney_left": 2, "kidney_right": 2, "spleen": 3, "pancreas": 4}
WORD_IDS = {
    "liver": 1, "spleen": 2, "kidney_left": 3, "kidney_right": 4, "stomach": 5, "gallbladder": 6, "esophagus": 7, "pancreas": 8,
    "adrenal_gland_left": 12, "adrenal_gland_right": 12,
}  # fmt: skip
ATLAS_IDS = {
    "aorta": 1, "gallbladder": 2, "kidney_left": 3, "kidney_right": 4, "liver": 5, "pancreas": 6, "inferior_vena_cava": 7,
    "spleen": 8, "stomach": 9,
}  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """A CT and what was drawn in it, on one grid.

    Attributes:
        image: The CT.
        organs: Label map of ids of its own.
        ids: Name of an organ -> its id in `organs`.
    """

    image: nib.Nifti1Image
    organs: np.ndarray
    ids: dict[str, int]

    def labels(self, native_ids: dict[str, int], dtype=np.uint8) -> nib.Nifti1Image:
        """The label map of a dataset that draws these organs under these ids."""
        table = np.zeros(max(self.ids.values()) + 1, dtype=dtype)
        for name, number in self.ids.items():
            table[number] = native_ids.get(name, 0)
        return nib.Nifti1Image(table[self.organs], self.image.affine)


def phantom_scan(seed: int = 7) -> Scan:
    """The small abdomen of the other tests, with adrenal glands."""
    organs = drawn(BTCV_IDS)
    for name, box in _ADRENALS.items():
        organs[box] = ADRENAL_IDS[name]
    assert not set(_ADRENALS) & set(ORGANS)
    return Scan(nib.Nifti1Image(abdomen(seed), np.diag([*SPACING_MM, 1.0])), organs, {**BTCV_IDS, **ADRENAL_IDS})


def btcv_scan(folder: Path, number: int) -> Scan:
    """A real scan with its 13 organs."""
    names = (
        "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver", "stomach", "aorta", "inferior_vena_cava",
        "portal_and_splenic_vein", "pancreas", "adrenal_gland_right", "adrenal_gland_left",
    )  # fmt: skip
    organs = np.asarray(nib.load(folder / f"label/label{number:04d}.nii.gz").dataobj).astype(np.uint8)
    return Scan(nib.load(folder / f"img/img{number:04d}.nii.gz"), organs, {name: n for n, name in enumerate(names, 1)})


def write_amos22(root: Path, scan: Scan, numbers=(4, 507), part: str = "Tr") -> Path:
    for number in numbers:
        _save(scan.image, root / f"amos22/images{part}/amos_{number:04d}.nii.gz")
        _save(scan.labels(AMOS_IDS), root / f"amos22/labels{part}/amos_{number:04d}.nii.gz")
    return root


def write_flare22(root: Path, scan: Scan, numbers=(1,)) -> Path:
    for number in numbers:
        _save(scan.image, root / f"FLARE22Train/images/FLARE22_Tr_{number:04d}_0000.nii.gz")
        _save(scan.labels(FLARE_IDS), root / f"FLARE22Train/labels/FLARE22_Tr_{number:04d}.nii.gz")
    return root


def write_abdomenct1k(root: Path, scan: Scan, numbers=(1,), ids=None) -> Path:
    for number in numbers:
        _save(scan.image, root / f"AbdomenCT-1K-ImagePart{1 + number // 400}/Case_{number:05d}_0000.nii.gz")
        _save(scan.labels(ids or ABDOMENCT1K_IDS), root / f"Mask/Case_{number:05d}.nii.gz")
    return root


def write_word(root: Path, scan: Scan, numbers=(2,), part: str = "Tr", dtype=np.uint16) -> Path:
    for number in numbers:
        _save(scan.image, root / f"WORD-V0.1.0/images{part}/word_{number:04d}.nii.gz")
        _save(scan.labels(WORD_IDS, dtype), root / f"WORD-V0.1.0/labels{part}/word_{number:04d}.nii.gz")
    return root


def write_abdomenatlas(root: Path, scan: Scan, number: int = 1, *, masks: bool = False, without=()) -> Path:
    folder = root / f"BDMAP_{number:08d}"
    _save(scan.image, folder / "ct.nii.gz")
    if not masks:
        _save(scan.labels(ATLAS_IDS), folder / "combined_labels.nii.gz")
        return root
    files = {"gallbladder": "gall_bladder", "inferior_vena_cava": "postcava"}
    for name in ATLAS_IDS:
        if name not in without:
            _save(scan.labels({name: 1}), folder / f"segmentations/{files.get(name, name)}.nii.gz")
    return root


def write_dataset_json(root: Path, names: list[str]) -> None:
    content = {"labels": {"0": "background", **{str(n): name for n, name in enumerate(names, 1)}}}
    (root / "dataset.json").write_text(json.dumps(content))


def _save(image: nib.Nifti1Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
