"""A small dataset that can be trained on in seconds, written without the converters."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from nnunet_partial.labels import CaseRecord, DatasetRecord, LabelManifest, SourceRecord, write_json, write_manifest
from nnunet_partial.paths import offer_trainers

CLASSES = ("liver", "kidney_left", "kidney_right")
PROTOCOLS = {
    "full": {1: ("liver",), 2: ("kidney_left",), 3: ("kidney_right",)},
    "liver": {1: ("liver",)},
    "kidney": {2: ("kidney_left", "kidney_right")},
}


def set_nnunet_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point nnU-Net at folders below `root`, with settings that suit two cores."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / variable).mkdir(exist_ok=True)
        monkeypatch.setenv(variable, str(root / variable))
    for variable, value in {
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    return root


def offered_copy(planned: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a planned dataset's root that trainings may write to, with our trainers offered to nnU-Net."""
    shutil.copytree(planned, folder / "nnunet")
    monkeypatch.setenv("nnUNet_extTrainer", "")
    offer_trainers()
    torch.set_num_threads(1)
    return set_nnunet_folders(folder / "nnunet", monkeypatch)


def write_small_dataset(folder: Path, *, num_cases: int = 9) -> LabelManifest:
    """Boxes for organs: a third of the cases fully annotated, a third for the liver, a third for "kidney" without a side."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    generator = np.random.default_rng(0)
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    cases = []
    for number in range(num_cases):
        protocol = list(PROTOCOLS)[number % 3]
        truth = np.zeros((24, 24, 24), dtype=np.uint8)
        x, y, z = 2 + generator.integers(0, 3, 3)
        truth[14 + x : 19 + x, y + 8 : y + 16, z + 6 : z + 16] = 1
        truth[x : x + 4, y : y + 4, z : z + 6] = 2
        truth[14 + x : 18 + x, y : y + 4, z : z + 6] = 3
        image = np.array([-50, 100, 160, 150], dtype=np.int16)[truth] + generator.normal(0, 15, truth.shape).astype(np.int16)
        known = {"full": {1: 1, 2: 2, 3: 3}, "liver": {1: 1}, "kidney": {2: 2, 3: 2}}[protocol]
        labels = np.zeros_like(truth)
        for source, ours in known.items():
            labels[truth == source] = ours
        key = f"{protocol}_{number:02d}"
        nib.save(nib.Nifti1Image(image.astype(np.int16), affine), folder / "imagesTr" / f"{key}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / "labelsTr" / f"{key}.nii.gz")
        cases.append(
            CaseRecord(identifier=key, source=protocol, protocol=protocol, image_files=(f"{key}.nii.gz",), label_files=())
        )
    return write_descriptions(folder, CLASSES, PROTOCOLS, cases)


def write_descriptions(
    folder: Path, classes: tuple[str, ...], protocols: dict[str, dict[int, tuple[str, ...]]], cases: list[CaseRecord]
) -> LabelManifest:
    """label_manifest.json and dataset.json of a CT dataset in which each protocol is a source."""
    manifest = LabelManifest(
        dataset=DatasetRecord(id=int(folder.name[7:10]), name=folder.name[11:]),
        classes=classes,
        protocols={name: {"labels": labels} for name, labels in protocols.items()},
        sources=tuple(SourceRecord(name=name, source="made up", path=".", licence="none") for name in protocols),
        cases=tuple(cases),
    )
    write_manifest(manifest, folder / "label_manifest.json")
    content = {
        "channel_names": {"0": "CT"},
        "labels": manifest.space.nnunet_labels(),
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "annotation": manifest.annotation().as_json(),
    }
    write_json(content, folder / "dataset.json")
    return manifest
