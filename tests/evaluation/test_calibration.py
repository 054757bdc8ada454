"""Calibration and ranking against scikit-learn and a slow loop; counts that merge by addition; nnU-Net's .npz."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from nnunet_partial.evaluation import CalibrationCounts, calibration_metrics, draw_reliability
from nnunet_partial.evaluation.calibration import NUM_BINS, NUM_RANKS, _ranks
from nnunet_partial.evaluation.probabilities import calibration_counts
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

SPACE = LabelSpace(classes=("liver", "kidney_left", "kidney_right"), has_ignore=True)


def voxels(seed: int, number: int = 4000, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that crowd near 0 and 1, truth drawn from softened ones, and what is predicted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, number)
    truth = rng.random(number) < 1 / (1 + np.exp(-0.6 * logits))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth, logits > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharpness", [1, 8])
def test_equals_scikit_learn_within_the_stated_tolerance(seed, sharpness):
    probability, truth, predicted = voxels(seed, sharpness=sharpness)
    found = calibration_metrics(CalibrationCounts.of_voxels(probability, truth, predicted))
    assert found["Brier"] == pytest.approx(brier_score_loss(truth, probability), rel=1e-6)
    confidence, right = probability[predicted], truth[predicted]
    for name, exact in (
        ("AUC", roc_auc_score(right, confidence)),
        ("AP_success", average_precision_score(right, confidence)),
        ("AP_error", average_precision_score(~right, -confidence)),
    ):
        assert abs(found[name] - exact) <= found[f"{name}_tolerance"] + 1e-12
        assert found[f"{name}_tolerance"] < 5e-3
    assert (found["ranked_voxels"], found["errors"]) == (predicted.sum(), (predicted & ~truth).sum())


def test_ece_equals_a_slow_loop():
    probability, truth, predicted = voxels(7)
    found = calibration_metrics(CalibrationCounts.of_voxels(probability, truth, predicted))
    expected = 0.0
    for number in range(NUM_BINS):
        inside = [i for i, p in enumerate(probability) if min(int(np.float32(p) * np.float32(NUM_BINS)), NUM_BINS - 1) == number]
        if inside:
            expected += abs(np.mean(truth[inside]) - np.mean(probability[inside].astype(float))) * len(inside) / len(truth)
            assert found["reliability"]["frequency"][number] == pytest.approx(np.mean(truth[inside]))
    assert found["ECE"] == pytest.approx(expected)


def test_counted_by_hand():
    counts = CalibrationCounts.of_voxels(
        np.array([0.9, 0.9, 0.1, 1.0], np.float32), np.array([True, False, False, True]), np.array([True, True, False, True])
    )
    found = calibration_metrics(counts)
    assert found["ECE"] == pytest.approx((abs(1 - 1.8) + 0.1 + 0) / 4)
    assert found["Brier"] == pytest.approx((0.01 + 0.81 + 0.01 + 0) / 4)
    assert (found["AUC"], found["AUC_tolerance"]) == (pytest.approx(0.75), pytest.approx(0.25))  # 0.9 and 0.9 are a tie
    assert found["AP_error"] == pytest.approx(0.5)


def test_counts_merge_by_addition():
    whole = voxels(1)
    parts = [tuple(values[start::3] for values in whole) for start in range(3)]
    merged = sum((CalibrationCounts.of_voxels(*part) for part in parts), CalibrationCounts.empty())
    for name, value in vars(CalibrationCounts.of_voxels(*whole)).items():
        np.testing.assert_allclose(getattr(merged, name), value)


def test_ranks_are_ordered_and_fine_near_one():
    confidence = np.unique(np.concatenate([np.linspace(0, 1, 5000), 1 - np.logspace(-7, -1, 500)]).astype(np.float32))
    ranks = _ranks(confidence)
    assert (np.diff(ranks) >= 0).all()
    assert (ranks.min(), ranks.max()) == (0, NUM_RANKS - 1)
    near = _ranks(np.array([0.9999, 0.99995], np.float32))
    assert near[0] < near[1]


def test_nothing_counted_says_nothing():
    found = calibration_metrics(CalibrationCounts.empty())
    assert found["voxels"] == 0
    assert all(np.isnan(found[name]) for name in ("ECE", "Brier", "AUC", "AP_success", "AP_error"))


@pytest.fixture
def case(tmp_path):
    """A reference, probabilities as nnU-Net saves them, and their argmax."""
    rng = np.random.default_rng(0)
    reference = np.zeros((6, 20, 20), np.uint8)
    reference[1:4, 3:12, 3:12], reference[2:5, 13:18, 5:15], reference[0, 0] = 1, 2, SPACE.ignore_id
    logits = rng.normal(0, 1, (4, *reference.shape)) + 2 * (reference == np.arange(4)[:, None, None, None])
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    np.savez_compressed(tmp_path / "case.npz", probabilities=probabilities)
    return tmp_path / "case.npz", reference, probabilities, probabilities.argmax(axis=0).astype(np.uint8)


def test_nnunets_probabilities(case):
    path, reference, probabilities, prediction = case
    protocol = AnnotationProtocol(labels={2: ("kidney_left", "kidney_right")})
    counts = calibration_counts(path, reference, prediction, (100.0, 100.0, 100.0), protocol, SPACE)
    assert list(counts) == [(2, 3)]  # nobody looked for the liver
    known = reference != SPACE.ignore_id  # the margin of 10 mm is one voxel, and predictions lie everywhere
    found = calibration_metrics(counts[2, 3])
    expected = brier_score_loss((reference == 2)[known], probabilities[2:].sum(axis=0)[known].clip(0, 1))
    assert found["Brier"] == pytest.approx(expected, rel=1e-5)
    assert found["ranked_voxels"] == np.isin(prediction, (2, 3))[known].sum()


def test_only_the_surroundings_count(case):
    path, reference, _, _ = case
    onehot = (reference == np.arange(4)[:, None, None, None]).astype(np.float32)
    onehot[0] = 1 - onehot[1:].sum(axis=0)
    np.savez_compressed(path, probabilities=onehot)
    prediction = np.where(reference == SPACE.ignore_id, 0, reference)
    counts = calibration_counts(path, reference, prediction, (10, 10, 10), AnnotationProtocol(labels={1: ("liver",)}), SPACE)
    assert counts[1].voxels.sum() == 5 * 11 * 11  # 3 x 9 x 9 and a voxel on each side


def test_refuses_probabilities_of_something_else(case):
    path, reference, probabilities, prediction = case
    arguments = (reference, prediction, (1, 1, 1), AnnotationProtocol(labels={1: ("liver",)}), SPACE)
    np.savez_compressed(path, probabilities=probabilities[:, :, ::-1])
    with pytest.raises(ValueError, match=r"case\.npz: in .*% of the voxels another class"):
        calibration_counts(path, *arguments)
    np.savez_compressed(path, probabilities=probabilities[:3])
    with pytest.raises(ValueError, match=r"shape \(3, 6, 20, 20\), \(4, 6, 20, 20\) .* is expected"):
        calibration_counts(path, *arguments)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"case\.npz: File is not a zip file"):
        calibration_counts(path, *arguments)


def test_reliability_diagrams(tmp_path):
    found = calibration_metrics(CalibrationCounts.of_voxels(*voxels(0)))
    draw_reliability({"liver": found, "spleen": calibration_metrics(CalibrationCounts.empty())}, tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
