"""A run to report: the small dataset, one validated fold with logs and curves, and predictions with a summary beside them."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantom_dataset import set_nnunet_folders, write_small_dataset

from nnunet_partial.cli import main
from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.labels import Annotation

DATASET = "Dataset701_Small"
MODEL = "nnUNetTrainerMarginalExclusion__nnUNetPlans__3d_fullres"
LOG = """\
2026-01-01 00:00:00.0: Epoch 0
2026-01-01 00:00:01.0: train_loss 0.9
2026-01-01 00:00:01.0: val_loss -0.25
2026-01-01 00:00:01.0: Pseudo dice [np.float64(0.5), np.float64(nan), np.float64(0.25)]
2026-01-01 00:00:01.0: Epoch time: 1.5 s
"""


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """A root with the three folders; left alone by the tests."""
    root = tmp_path_factory.mktemp("finished_run")
    raw = root / "nnUNet_raw" / DATASET
    write_small_dataset(raw)
    dataset_json = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    fold = root / "nnUNet_results" / DATASET / MODEL / "fold_0"
    validation = fold / "validation"
    validation.mkdir(parents=True)
    for number, reference in enumerate(sorted((raw / "labelsTr").glob("*.nii.gz"))):
        image = nib.load(reference)
        labels = np.roll(np.asarray(image.dataobj), number % 3, axis=2)
        labels[:4, 18:22, 2:5] = 1  # a second liver: an error only where somebody looked for the liver
        nib.save(nib.Nifti1Image(labels, image.affine), validation / reference.name)
    summary = evaluate_folder(raw / "labelsTr", validation, Annotation.from_dataset_json(dataset_json))
    write_summary(summary, validation / "summary.json")
    shutil.copy(raw / "dataset.json", validation)
    (fold / "training_log_2026_1_1_00_00_00.txt").write_text(LOG)
    (fold.parent / "plans.json").write_text(
        json.dumps({"experiment_planner_used": "PlannerTiny", "partial": {"num_epochs": 1, "sampling": "sqrt"}})
    )
    return root


@pytest.fixture
def run_root(finished_run, monkeypatch) -> Path:
    """The finished run, with nnU-Net's variables pointing at it."""
    return set_nnunet_folders(finished_run, monkeypatch)


@pytest.fixture(scope="session")
def report_page(finished_run, tmp_path_factory) -> Path:
    """The report of the validation with its viewer pages."""
    page = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        set_nnunet_folders(finished_run, patch)
        assert main(["report", "-d", "701", "-o", str(page), "--worst", "1", "--viewer"]) == 0
    return page
