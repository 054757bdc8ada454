"""The dataset of `benchmarks.round`: CT-like images of K organs, of which each case annotates a fifth; planned, preprocessed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

from nnunet_partial.labels import Annotation, write_json

DATASET = "Dataset900_Round"
SPACING_MM = (0.8, 0.8, 1.5)  # x, y, z
TARGET_SPACING_MM = {"paper": ("3", "1.5", "1.5"), "native": ()}
ORGANS_SHARE = 0.12  # of the volume


class RoundDataset:
    """A dataset that `make_dataset` made.

    Attributes:
        raw: nnUNet_raw/<dataset>.
        human: Folder of the preprocessed cases.
        cases: Identifiers.
    """

    def __init__(self, folder: Path):
        self.raw = folder / "nnUNet_raw" / DATASET
        preprocessed = folder / "nnUNet_preprocessed" / DATASET
        self.dataset_json = json.loads((preprocessed / "dataset.json").read_text(encoding="utf-8"))
        self.annotation = Annotation.from_dataset_json(self.dataset_json)
        self.plans = PlansManager(str(preprocessed / "nnUNetPlans.json"))
        self.configuration = self.plans.get_configuration("3d_fullres")
        self.human = preprocessed / self.configuration.data_identifier
        self.cases = sorted(self.annotation.cases)

    def image(self, case: str) -> str:
        """The raw image."""
        return str(self.raw / "imagesTr" / f"{case}_0000.nii.gz")

    def label(self, case: str) -> str:
        """The raw label map."""
        return str(self.raw / "labelsTr" / f"{case}.nii.gz")


def make_dataset(folder: Path, *, num_organs: int, shape: Sequence[int], spacing: str, cases: int) -> None:
    """Write, plan and preprocess a dataset in three nnU-Net folders; same arguments, same dataset.

    Args:
        folder: Where nnUNet_raw and the others are made.
        num_organs: K.
        shape: Of the raw images, (z, y, x).
        spacing: "paper" for 1.5 x 1.5 x 3 mm, "native" for what the images have.
        cases: How many.
    """
    names = [f"organ_{number}" for number in range(1, num_organs + 1)]
    annotated = {f"case_{number}": _annotated(number, num_organs) for number in range(cases)}
    for number, (case, organs) in enumerate(annotated.items()):
        _write_case(folder / "nnUNet_raw" / DATASET, case, organs, np.random.default_rng(number), num_organs, shape)
    block = {
        "protocols": {case: {"labels": {organ: [names[organ - 1]] for organ in organs}} for case, organs in annotated.items()},
        "cases": {case: {"protocol": case, "source": "made_up"} for case in annotated},
    }
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: number for number, name in enumerate(names, 1)}},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "annotation": block,
    }
    write_json(content, folder / "nnUNet_raw" / DATASET / "dataset.json")
    _plan(folder, TARGET_SPACING_MM[spacing])


def _annotated(case: int, num_organs: int) -> list[int]:
    """A fifth of the organs, others in each case."""
    count = max(1, num_organs // 5)
    return sorted((case * count + offset) % num_organs + 1 for offset in range(count))


def _write_case(
    folder: Path, case: str, annotated: Sequence[int], generator: np.random.Generator, num_organs: int, shape: Sequence[int]
) -> None:
    truth = _ellipsoids(generator, num_organs, shape)
    texture = gaussian_filter(generator.standard_normal(shape, dtype=np.float32), [edge / 24 for edge in shape], truncate=2)
    tissue = np.float32([40, *generator.normal(60, 25, num_organs)])[truth]
    noise = 12 * generator.standard_normal(shape, dtype=np.float32)
    image = np.where(_body(shape), tissue + 30 / texture.std() * texture + noise, -1000 + noise)
    labels = np.where(np.isin(truth, annotated), truth, 0).astype(np.uint8)
    for kind, array, ending in (("imagesTr", np.rint(image).astype(np.int16), "_0000"), ("labelsTr", labels, "")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array.T, np.diag([*SPACING_MM, 1.0])), folder / kind / f"{case}{ending}.nii.gz")


def _ellipsoids(generator: np.random.Generator, num_organs: int, shape: Sequence[int]) -> np.ndarray:
    """Label map (z, y, x); where two organs meet, the later one stands."""
    truth = np.zeros(shape, np.uint8)
    mean_radius = (ORGANS_SHARE / num_organs * 3 / (4 * np.pi)) ** (1 / 3)  # of an image of edge 1
    for organ in range(1, num_organs + 1):
        radius = mean_radius * generator.uniform(0.7, 1.3, 3) * shape
        centre = generator.uniform(0.25, 0.75, 3) * shape
        box = tuple(slice(int(c - r), int(np.ceil(c + r))) for c, r in zip(centre, radius, strict=True))
        axes = np.ogrid[box]
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True)) <= 1
        truth[box][inside] = organ
    return truth


def _body(shape: Sequence[int]) -> np.ndarray:
    """An elliptic cylinder along z, (1, y, x)."""
    y, x = (np.linspace(-1.1, 1.1, edge) for edge in shape[1:])
    return (y[:, None] ** 2 + x**2 <= 1)[None]


def _plan(folder: Path, target_spacing_mm: Sequence[str]) -> None:
    variables = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for path in variables.values():
        Path(path).mkdir(exist_ok=True)
    command = [sys.executable, "-m", "nnunet_partial.cli", "plan", "-d", DATASET, "-np", "1"]
    command += ["-overwrite_target_spacing", *target_spacing_mm] if target_spacing_mm else []
    few = {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **variables, **few}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
