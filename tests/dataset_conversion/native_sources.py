"""A small abdomen, the five public datasets in their native layouts around it, and what reads a result back."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from nibabel import orientations

SHAPE = (24, 20, 16)
SPACING_MM = (10.0, 10.0, 5.0)
CLASSES = ["liver", "spleen", "pancreas", "kidney_left", "kidney_right"]
BTCV_IDS = {"spleen": 1, "kidney_right": 2, "kidney_left": 3, "liver": 6, "pancreas": 11}

# RAS: a larger first index is further to the patient's right, a larger second one further to the front
ORGANS = {
    "liver": (slice(14, 21), slice(9, 15), slice(8, 14)),
    "spleen": (slice(3, 7), slice(5, 9), slice(9, 13)),
    "pancreas": (slice(9, 13), slice(11, 13), slice(8, 10)),
    "kidney_left": (slice(5, 8), slice(4, 7), slice(3, 8)),
    "kidney_right": (slice(15, 18), slice(4, 7), slice(2, 7)),
}


def abdomen(seed: int = 0) -> np.ndarray:
    """A CT in RAS: air, a body of soft tissue, no two voxels of a neighbourhood alike."""
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[2:22, 2:18] = 60
    return hu + np.random.default_rng(seed).integers(-15, 16, SHAPE).astype(np.int16)


def drawn(ids: dict[str, int]) -> np.ndarray:
    """A label map in RAS of some organs."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for organ, number in ids.items():
        labels[ORGANS[organ]] = number
    return labels


def save(array: np.ndarray, path: Path, axes: str = "RAS", affine: np.ndarray | None = None) -> Path:
    """Write a RAS array with its axes running along `axes`."""
    place = np.diag([*SPACING_MM, 1.0])
    place[:3, 3] = -100, -90, 700
    image = nib.Nifti1Image(array, place if affine is None else affine)
    turn = orientations.ornt_transform(nib.io_orientation(image.affine), orientations.axcodes2ornt(tuple(axes)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn) if affine is None else image, path)
    return path


def write_btcv(root: Path, numbers=(1, 21), axes: str = "LAS") -> Path:
    for number in numbers:
        save(abdomen(number), root / f"RawData/Training/img/img{number:04d}.nii.gz", axes)
        save(drawn(BTCV_IDS), root / f"RawData/Training/label/label{number:04d}.nii.gz", axes)
    return root


def write_lits(root: Path, numbers=(2, 10), axes: str = "LPS", tumor: bool = True) -> Path:
    labels = drawn({"liver": 1})
    if tumor:
        labels[16:18, 10:12, 9:11] = 2
    for number in numbers:
        save(abdomen(100 + number), root / f"Training Batch 1/volume-{number}.nii", axes)
        save(labels, root / f"Training Batch 2/segmentation-{number}.nii", axes)
    return root


def write_msd(root: Path, numbers=(2, 10), axes: str = "RAS", labels=None, ids=None, modality: str = "CT") -> Path:
    for number in numbers:
        save(abdomen(200 + number), root / f"imagesTr/spleen_{number}.nii.gz", axes)
        save(drawn(ids or {"spleen": 1}), root / f"labelsTr/spleen_{number}.nii.gz", axes)
    (root / "imagesTr").mkdir(parents=True, exist_ok=True)
    (root / "imagesTr/._spleen_2.nii.gz").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    content = {"modality": {"0": modality}, "labels": labels or {"0": "background", "1": "spleen"}, "licence": "CC-BY-SA 4.0"}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def write_kits19(root: Path, numbers=(0, 7), axes: str = "IPL") -> Path:
    labels = drawn({"kidney_left": 1, "kidney_right": 1})
    labels[15, 4, 2:4] = 2
    for number in numbers:
        save(abdomen(300 + number), root / f"data/case_{number:05d}/imaging.nii.gz", axes)
        save(labels.astype(np.uint16), root / f"data/case_{number:05d}/segmentation.nii.gz", axes)
    return root


def write_tcia(root: Path, numbers=(1, 2)) -> Path:
    for number in numbers:
        write_series(abdomen(400 + number), root / f"Pancreas-CT/PANCREAS_{number:04d}/study/series", number)
        lps = drawn({"pancreas": 1})[::-1, ::-1]
        save(
            np.ascontiguousarray(lps[:, ::-1]),
            root / f"TCIA_pancreas_labels-02-05-2017/label{number:04d}.nii.gz",
            affine=np.eye(4),
        )
    (root / "Pancreas-CT/PANCREAS_0025").mkdir()
    return root


def write_series(ras: np.ndarray, folder: Path, uid: int) -> None:
    """An axial LPS series of a RAS array, one file a slice, file names not in the order of the slices."""
    folder.mkdir(parents=True)
    volume = SimpleITK.GetImageFromArray(np.ascontiguousarray(ras[::-1, ::-1].transpose(2, 1, 0)))
    volume.SetSpacing(SPACING_MM)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(volume.GetDepth()):
        piece = volume[:, :, k]
        for tag, value in {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0020|000d": f"1.2.826.0.1.{uid}",
            "0020|000e": f"1.2.826.0.1.{uid}.1",
            "0008|0018": f"1.2.826.0.1.{uid}.1.{k + 1}",
            "0020|0013": str(k + 1),
            "0028|1052": "0",
            "0028|1053": "1",
            "0020|0032": f"-100\\-90\\{k * SPACING_MM[2]}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(k * 7) % volume.GetDepth():03d}.dcm"))
        writer.Execute(piece)


def write_pool(path: Path, sources: list[dict], classes=CLASSES, number: int = 500) -> Path:
    """A pool file (JSON is YAML)."""
    path.write_text(json.dumps({"dataset": {"id": number, "name": "Abdomen"}, "classes": list(classes), "sources": sources}))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset that nnU-Net or a user reads."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".conversion" not in path.parts
    }


def voxels(path: Path) -> np.ndarray:
    """The stored array of a NIfTI file."""
    return np.asarray(nib.load(path).dataobj)
