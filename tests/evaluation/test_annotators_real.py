"""Readers of real scans: KiTS23 (three readers a case) and DeepMind's head and neck scans (two), against slow computations."""

import itertools

import numpy as np
import pytest
import SimpleITK
from eight_voxels import write_predictions
from real_readers import KITS, description, head_and_neck_readers, kits_readers, write_annotators
from scipy import ndimage

from nnunet_partial.evaluation.annotators import agreement_text, annotator_agreement
from nnunet_partial.labels import Annotation

ORGANS = ["Brain", "Orbit-Lt", "Lens-Lt", "Mandible", "Parotid-Lt", "Submandibular-Rt", "Cochlea-Lt"]


def slow_dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.logical_and(first, second).sum() / (first.sum() + second.sum()) if first.any() or second.any() else 1.0


def slow_distance(first: np.ndarray, second: np.ndarray) -> float:
    either = np.logical_or(first, second).sum()
    return 1 - np.logical_and(first, second).sum() / either if either else 0.0


@pytest.fixture(scope="module")
def kits(real_data, tmp_path_factory):
    """Two cases of KiTS23, 00020 with a cyst, and what their readers drew."""
    folder, dataset = tmp_path_factory.mktemp("kits"), real_data / "kits_labels/kits23/dataset"
    if not dataset.is_dir():
        pytest.skip(f"no KiTS23 label maps at {dataset}")
    drawn = {case: write_annotators(folder, case, kits_readers(dataset, case)) for case in ("case_00010", "case_00020")}
    content = description(KITS, {case: list(readers) for case, readers in drawn.items()})
    return folder, Annotation.from_dataset_json(content), drawn


def test_three_readers_of_kits23(kits):
    folder, annotation, drawn = kits
    summary = annotator_agreement(folder, annotation)
    spacing_mm = {"case_00010": (3.0, 0.7578125, 0.7578125), "case_00020": (5.0, 0.83984375, 0.83984375)}  # of the headers
    for entry in summary["per_case"]:
        readers = drawn[entry["identifier"]]
        for number, name in enumerate(KITS, 1):
            row, masks = entry["classes"][name], [labels == number for labels in readers.values()]
            pairs = list(itertools.combinations(masks, 2))
            draws = list(itertools.product(masks, repeat=2))
            assert row["Dice_pairs"] == pytest.approx(np.mean([slow_dice(a, b) for a, b in pairs]))
            assert row["diversity_pairs"] == pytest.approx(np.mean([slow_distance(a, b) for a, b in pairs]))
            assert row["diversity_draws"] == pytest.approx(np.mean([slow_distance(a, b) for a, b in draws]))
            voxel_ml = np.prod(spacing_mm[entry["identifier"]]) / 1000
            assert row["volume_ml"] == pytest.approx(np.mean([mask.sum() for mask in masks]) * voxel_ml, rel=1e-5)
    kidney = summary["per_class"]["kidney"]
    assert 150 < kidney["volume_ml"]["mean"] < 600  # two kidneys
    assert 0.93 < kidney["Dice_pairs"]["mean"] < 0.99
    assert 0.9 < summary["per_class"]["kidney_tumor"]["Dice_pairs"]["mean"] < kidney["Dice_pairs"]["mean"]
    assert summary["per_class"]["kidney_cyst"]["cases_nobody_drew"] == 1


def test_a_blurred_majority_lies_nearer_to_the_readers_than_they_to_each_other(kits, tmp_path):
    """What the paper found of its networks; here the prediction is made of the readers themselves."""
    folder, annotation, drawn = kits
    readers = drawn["case_00010"]
    probability = {}
    for number in (1, 2, 3):
        share = np.mean([labels == number for labels in readers.values()], axis=0, dtype=np.float32)
        probability[number] = ndimage.gaussian_filter(share, 0.3)
    like = SimpleITK.ReadImage(str(folder / "1" / "case_00010.nii.gz"))
    write_predictions(tmp_path, {"case_00010": probability}, num_classes=4, dtype=np.float16, like=like)
    summary = annotator_agreement(folder, annotation, prediction_dir=tmp_path, allow_missing=True, surfaces=False)
    row = summary["per_case"][0]["classes"]["kidney"]
    predicted = probability[1].astype(np.float16) >= np.float16(0.5)
    assert row["IoU_distance"] == pytest.approx(np.mean([slow_distance(labels == 1, predicted) for labels in readers.values()]))
    assert row["GED2_pairs"] == pytest.approx(2 * row["IoU_distance"] - row["diversity_pairs"])
    assert row["IoU_distance"] < row["diversity_pairs"]
    assert 0 <= row["GED2_pairs"] < 0.1
    level, votes = row["levels"]["70"], np.sum([labels == 1 for labels in readers.values()], axis=0)
    assert level["Dice"] == pytest.approx(slow_dice(votes == 3, probability[1].astype(np.float16) >= np.float16(0.7)))


def test_two_readers_of_head_and_neck(real_data, tmp_path):
    test = real_data / "head_neck_two_readers/nrrds/test"
    if not test.is_dir():
        pytest.skip(f"no head and neck label maps at {test}")
    cases = ("0522c0017", "TCGA-CV-A6K1")
    drawn = {case: write_annotators(tmp_path, case, head_and_neck_readers(test, case, ORGANS)) for case in cases}
    names = [organ.lower() for organ in ORGANS]
    annotation = Annotation.from_dataset_json(description(names, {case: list(readers) for case, readers in drawn.items()}))
    summary = annotator_agreement(tmp_path, annotation, num_processes=2)
    for entry in summary["per_case"]:
        first, second = drawn[entry["identifier"]].values()
        for number, name in enumerate(names, 1):
            row, masks = entry["classes"][name], (first == number, second == number)
            assert row["Dice_pairs"] == pytest.approx(slow_dice(*masks))
            assert row["diversity_pairs"] == pytest.approx(slow_distance(*masks))
            assert row["diversity_draws"] == pytest.approx(slow_distance(*masks) / 2)
            # with two annotators whoever differs from one agrees with nobody
            assert np.isnan(row["disagreement"]) or row["disagreement"] == pytest.approx(row["diversity_pairs"])
    dice = {name: found["Dice_pairs"]["mean"] for name, found in summary["per_class"].items()}
    assert dice["brain"] > 0.98
    assert dice["mandible"] > 0.92
    assert 0.6 < dice["cochlea-lt"] < dice["parotid-lt"] < dice["mandible"]
    assert 0.05 < summary["per_class"]["lens-lt"]["volume_ml"]["mean"] < 0.4
    # the radiographer drew none in the second scan
    assert summary["per_case"][1]["classes"]["submandibular-rt"]["Dice_pairs"] == 0
    assert "submandibular-rt: only some drew it in 1 of 2 cases" in agreement_text(summary)
