"""Phantoms as five public datasets, each in its native form and annotated for some organs, and a held-out set with the truth.

source  layout                                                        annotated, and what is native about it
btcv    RawData/Training/{img,label}/{img,label}<NNNN>.nii.gz         everything (13 ids); axes LAS
lits    Training Batch 1/{volume,segmentation}-<i>.nii                liver; ids do not sort as strings, orientation differs
tcia    Pancreas-CT/PANCREAS_<NNNN>/<study>/<series>/*.dcm,           pancreas; DICOM, label arrays flipped in y
        TCIA_pancreas_labels-02-05-2017/label<NNNN>.nii.gz
msd     Task09_Spleen/{imagesTr,labelsTr,dataset.json}                spleen; an AppleDouble file among the images
kits19  data/case_<NNNNN>/{imaging,segmentation}.nii.gz               kidney without a side; axes (slice, row, column)
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_partial.demo.phantom import ORGANS, Phantom

BTCV_IDS = {
    "spleen": 1,
    "kidney_right": 2,
    "kidney_left": 3,
    "gallbladder": 4,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "pancreas": 11,
}
LITS_NUMBERS = (2, 10, 9, 101, 33, 7, 64, 120, 0, 27)  # string order differs from numeric order
SPLEEN_NUMBERS = (2, 10, 3, 41, 19, 8, 29, 6, 56, 12)
LITS_AXES = ("RAS", "LPS", "LAS")

POOL = """\
# What `nnunet_partial convert` pools: five partly labelled sources into one nnU-Net dataset.
dataset: {{id: {dataset_id}, name: {name}}}
classes: [{classes}]          # their order gives the label ids
sources:                      # paths are relative to this file
  - {{source: btcv, path: sources/btcv}}                   # all organs, few cases
  - {{source: lits, path: sources/lits, tumor: merge}}     # liver only
  - {{source: tcia_pancreas, path: sources/tcia}}          # pancreas only
  - {{source: msd, path: sources/Task09_Spleen}}           # spleen only
  - {{source: kits19, path: sources/kits19}}               # kidneys only, drawn without a side
"""


def label_map(phantom: Phantom, ids: Mapping[str, int]) -> np.ndarray:
    """What an annotator draws who knows only these structures."""
    labels = np.zeros(phantom.truth.shape, dtype=np.uint8)
    for name, number in ids.items():
        labels[phantom.mask(name)] = number
    return labels


def oriented(array: np.ndarray, affine: np.ndarray, axes: str) -> nib.Nifti1Image:
    """The same anatomy with the array axes running towards these directions, such as LPS."""
    image = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axes)))
    return image.as_reoriented(turn)


def save(array: np.ndarray, phantom: Phantom, axes: str, path: Path) -> None:
    """Write an array of a phantom as NIfTI in the given orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(oriented(array, phantom.affine, axes), path)


def write_btcv(phantom: Phantom, root: Path, n: int) -> None:
    """One case of BTCV."""
    training = root / "btcv" / "RawData" / "Training"
    save(phantom.image, phantom, "LAS", training / "img" / f"img{n + 1:04d}.nii.gz")
    save(label_map(phantom, BTCV_IDS), phantom, "LAS", training / "label" / f"label{n + 1:04d}.nii.gz")


def write_lits(phantom: Phantom, root: Path, n: int) -> None:
    """One case of LiTS."""
    batch, number, axes = root / "lits" / "Training Batch 1", LITS_NUMBERS[n], LITS_AXES[n % len(LITS_AXES)]
    save(phantom.image, phantom, axes, batch / f"volume-{number}.nii")
    save(label_map(phantom, {"liver": 1}), phantom, axes, batch / f"segmentation-{number}.nii")


def write_tcia(phantom: Phantom, root: Path, n: int) -> None:
    """One case of TCIA Pancreas-CT; the label's header does not say that its array is flipped."""
    series = root / "tcia" / "Pancreas-CT" / f"PANCREAS_{n + 1:04d}" / "study" / "series"
    write_dicom_series(phantom, series, n + 1)
    label = oriented(label_map(phantom, {"pancreas": 1}), phantom.affine, "LPS")
    flipped = nib.Nifti1Image(np.ascontiguousarray(np.asarray(label.dataobj)[:, ::-1]), label.affine)
    folder = root / "tcia" / "TCIA_pancreas_labels-02-05-2017"
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(flipped, folder / f"label{n + 1:04d}.nii.gz")


def write_spleen(phantom: Phantom, root: Path, n: int) -> None:
    """One case of the Decathlon's Task09; dataset.json lists what is there so far."""
    task, name = root / "Task09_Spleen", f"spleen_{SPLEEN_NUMBERS[n]}.nii.gz"
    save(phantom.image, phantom, "RAS", task / "imagesTr" / name)
    save(label_map(phantom, {"spleen": 1}), phantom, "RAS", task / "labelsTr" / name)
    (task / "imagesTr" / f"._spleen_{SPLEEN_NUMBERS[0]}.nii.gz").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    cases = [f"spleen_{number}.nii.gz" for number in SPLEEN_NUMBERS[: n + 1]]
    content = {
        "name": "Spleen",
        "tensorImageSize": "3D",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "numTraining": len(cases),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{case}", "label": f"./labelsTr/{case}"} for case in cases],
        "test": [],
    }
    (task / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_kits19(phantom: Phantom, root: Path, n: int) -> None:
    """One case of KiTS19: slice first, both kidneys under one id, one label map in uint16."""
    case = root / "kits19" / "data" / f"case_{n:05d}"
    kidneys = label_map(phantom, {"kidney_left": 1, "kidney_right": 1}).astype(np.uint16 if n == 1 else np.uint8)
    save(phantom.image, phantom, "IPL", case / "imaging.nii.gz")
    save(kidneys, phantom, "IPL", case / "segmentation.nii.gz")
    meta = [{"case_id": f"case_{k:05d}", "captured_slice_thickness": phantom.spacing_mm[2]} for k in range(n + 1)]
    (case.parent / "kits.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def write_dicom_series(phantom: Phantom, folder: Path, patient: int) -> None:
    """An axial CT series as scanners write it: LPS, unsigned values with an intercept, one file a slice."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    scan = oriented(phantom.image, phantom.affine, "LPS")
    to_lps = np.diag([-1, -1, 1, 1]) @ scan.affine  # NIfTI counts right and anterior positive, DICOM left and posterior
    uid = f"1.2.826.0.1.3680043.10.1.{patient}"
    for k in range(scan.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.1.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        piece = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        piece.SOPClassUID, piece.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        piece.StudyInstanceUID, piece.SeriesInstanceUID, piece.FrameOfReferenceUID = uid, f"{uid}.1", f"{uid}.2"
        piece.Modality, piece.PatientID, piece.PatientName = "CT", f"PANCREAS_{patient:04d}", f"PANCREAS_{patient:04d}"
        piece.PatientPosition, piece.InstanceNumber = "HFS", k + 1
        piece.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        piece.ImagePositionPatient = [f"{value:.4f}" for value in (to_lps @ [0, 0, k, 1])[:3]]
        piece.PixelSpacing = [f"{phantom.spacing_mm[axis]:.6f}" for axis in (1, 0)]  # row spacing first
        piece.SliceThickness = f"{phantom.spacing_mm[2]:.6f}"
        piece.RescaleSlope, piece.RescaleIntercept, piece.RescaleType = 1, -1024, "HU"
        piece.SamplesPerPixel, piece.PhotometricInterpretation = 1, "MONOCHROME2"
        piece.BitsAllocated, piece.BitsStored, piece.HighBit, piece.PixelRepresentation = 16, 16, 15, 0
        pixels = (np.asarray(scan.dataobj)[:, :, k].T.astype(np.int32) + 1024).astype("<u2")  # rows run to posterior
        piece.Rows, piece.Columns = pixels.shape
        piece.PixelData = np.ascontiguousarray(pixels).tobytes()
        piece.save_as(folder / f"1-{k + 1:03d}.dcm", enforce_file_format=True)


WRITERS: dict[str, Callable[[Phantom, Path, int], None]] = {
    "btcv": write_btcv,
    "lits": write_lits,
    "tcia_pancreas": write_tcia,
    "msd": write_spleen,
    "kits19": write_kits19,
}


def write_held_out(phantom: Phantom, folder: Path, n: int, axes: str) -> None:
    """One case with the whole truth, named as nnU-Net wants it and kept apart from everything that is trained on."""
    ids = {name: number for number, name in enumerate(ORGANS, 1)}
    save(phantom.image, phantom, axes, folder / "imagesTs" / f"phantom_{n:02d}_0000.nii.gz")
    save(label_map(phantom, ids), phantom, axes, folder / "labelsTs" / f"phantom_{n:02d}.nii.gz")


def pool_text(dataset_id: int, name: str) -> str:
    """The pool file that `nnunet_partial convert` reads."""
    return POOL.format(dataset_id=dataset_id, name=name, classes=", ".join(ORGANS))
