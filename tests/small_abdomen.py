"""A converted dataset of four small abdomens in which nothing is wrong, and what spoils it."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from phantom_dataset import write_descriptions

from nnunet_partial.dataset_conversion.verify import Report, verify_dataset
from nnunet_partial.labels import (
    CaseRecord,
    count_labels,
    read_manifest,
    write_manifest,
)

CLASSES = ("liver", "spleen", "kidney_left", "kidney_right", "gallbladder", "stomach", "aorta")
PROTOCOLS = {
    "full": {number: (name,) for number, name in enumerate(CLASSES, 1)},
    "kits": {3: ("kidney_left", "kidney_right")},
}
ORGANS = {  # RAS, voxels of 5 mm; fat lies around them, so that a mirrored label map fits nothing
    "liver": (slice(34, 54), slice(18, 40), slice(16, 32)),
    "spleen": (slice(6, 14), slice(12, 22), slice(20, 30)),
    "kidney_left": (slice(16, 22), slice(8, 16), slice(6, 18)),
    "kidney_right": (slice(38, 44), slice(8, 16), slice(3, 15)),
    "gallbladder": (slice(36, 39), slice(38, 43), slice(10, 15)),
    "stomach": (slice(12, 24), slice(26, 38), slice(24, 34)),
    "aorta": (slice(27, 31), slice(12, 16), slice(0, 38)),
}
CASES = {
    "full_1": CLASSES,
    "full_2": tuple(name for name in CLASSES if name != "gallbladder"),
    "kits_1": CLASSES,
    "kits_2": CLASSES,
}
SHAPE = (60, 50, 38)
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])


def write_dataset(folder: Path) -> Path:
    """Two cases annotated for everything, one of them without a gallbladder; two for kidneys without a side."""
    cases = []
    for key, organs in CASES.items():
        source = key.split("_")[0]
        image = np.full(SHAPE, -1000, dtype=np.int16)
        image[3:57, 3:47] = -100
        labels = np.zeros(SHAPE, dtype=np.uint8)
        for name in organs:
            image[ORGANS[name]] = 60 + len(name)
            for number, classes in PROTOCOLS[source].items():
                if name in classes:
                    labels[ORGANS[name]] = number
        save(folder / "imagesTr" / f"{key}_0000.nii.gz", image)
        save(folder / "labelsTr" / f"{key}.nii.gz", labels)
        cases.append(
            CaseRecord(
                identifier=key,
                source=source,
                protocol=source,
                image_files=(f"{key}.nii",),
                label_files=(),
                label_counts=count_labels(labels),
                absent=tuple(name for name in CLASSES if name not in organs),
            )
        )
    write_descriptions(folder, CLASSES, PROTOCOLS, cases)
    return folder


def verify(folder: Path, num_processes: int = 1, **options: object) -> Report:
    """`verify_dataset` without a progress bar."""
    return verify_dataset(folder, num_processes, progress=False, **options)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a NIfTI file under which every reader sees one place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def edit_image(folder: Path, change: Callable[[np.ndarray], np.ndarray], key: str = "full_1") -> None:
    """Replace the voxels of a case's image."""
    _edit(folder / "imagesTr" / f"{key}_0000.nii.gz", change)


def edit_labels(folder: Path, change: Callable[[np.ndarray], np.ndarray], key: str = "full_1", *, recount: bool = True) -> None:
    """Replace the voxels of a case's label map, and what the manifest counted of it."""
    labels = _edit(folder / "labelsTr" / f"{key}.nii.gz", change)
    if recount:
        edit_record(folder, key, label_counts=count_labels(labels))


def edit_affine(folder: Path, affine: np.ndarray, key: str = "full_1", parts: tuple[str, ...] = ("imagesTr", "labelsTr")) -> None:
    """Give image and label map of a case another affine."""
    for part in parts:
        path = folder / part / (f"{key}_0000.nii.gz" if part == "imagesTr" else f"{key}.nii.gz")
        save(path, np.asarray(nib.load(path).dataobj), affine)


def edit_record(folder: Path, key: str, **changes: object) -> None:
    """Change what the manifest says of a case."""
    manifest = read_manifest(folder / "label_manifest.json")
    cases = tuple(case.model_copy(update=changes) if case.identifier == key else case for case in manifest.cases)
    write_manifest(manifest.model_copy(update={"cases": cases}), folder / "label_manifest.json")


def edit_json(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    """Change a JSON file of the dataset in place."""
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content))


def at(place: object, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Set one place of an array."""

    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


def swapped(labels: np.ndarray, one: int, other: int) -> np.ndarray:
    """A label map with two ids exchanged."""
    table = np.arange(256, dtype=labels.dtype)
    table[[one, other]] = other, one
    return table[labels]


def _edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    image = nib.load(path)
    array = change(np.asarray(image.dataobj).copy())
    save(path, array, image.affine)
    return array
