"""Overlap metrics of one case: arrays to count by hand, a slow loop over voxels, and nnU-Net's own counts."""

import math

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn

from nnunet_partial.evaluation import METRIC_NAMES, evaluate_case
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

SPACE = LabelSpace(classes=("liver", "spleen", "pancreas"))
SIDED = LabelSpace(classes=("liver", "kidney_left", "kidney_right"), has_ignore=True)


def all_nan(metrics: dict[str, float]) -> bool:
    return set(metrics) == set(METRIC_NAMES) and all(math.isnan(value) for value in metrics.values())


def slow_counts(reference, prediction, protocol, space, members) -> tuple[int, int, int, int]:
    """TP, FP, FN, TN voxel by voxel: a reference voxel is positive where every class it may be is a member."""
    table, counts = protocol.candidate_table(space), {(r, p): 0 for r in (True, False) for p in (True, False)}
    for label, predicted in zip(reference.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if label == space.ignore_id:
            continue
        candidates = {number for number in range(space.num_classes) if table[label, number]}
        counts[candidates <= set(members), predicted in members] += 1
    return counts[True, True], counts[False, True], counts[True, False], counts[False, False]


def test_hand_counted_voxels():
    protocol = AnnotationProtocol(labels={1: ("liver",)})
    metrics = evaluate_case(np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 2, 0]), protocol, SPACE)
    assert metrics[1] == {
        "Dice": pytest.approx(4 / 6), "IoU": 2 / 4, "TP": 2, "FP": 1, "FN": 1, "TN": 2, "n_pred": 3, "n_ref": 3,
        "Precision": 2 / 3, "Recall": 2 / 3,
    }  # fmt: skip


def test_an_unannotated_class_is_nan_whatever_is_predicted():
    protocol = AnnotationProtocol(labels={1: ("liver",)})
    metrics = evaluate_case(np.array([1, 0, 0, 0]), np.array([1, 2, 2, 3]), protocol, SPACE)
    assert metrics[1]["Dice"] == 1
    assert all_nan(metrics[2])
    assert all_nan(metrics[3])


def test_a_case_nobody_annotated_is_nan_throughout():
    metrics = evaluate_case(np.zeros(3, int), np.array([1, 2, 0]), AnnotationProtocol(labels={}), SPACE)
    assert list(metrics) == [1, 2, 3]
    assert all(map(all_nan, metrics.values()))


def test_absent_is_not_unannotated():
    protocol = AnnotationProtocol(labels={1: ("liver",), 2: ("spleen",)})
    metrics = evaluate_case(np.array([1, 0, 0, 0]), np.array([1, 2, 0, 0]), protocol, SPACE)
    assert (metrics[2]["Dice"], metrics[2]["FP"], metrics[2]["n_ref"]) == (0, 1, 0)


def test_empty_policy_is_nnunets():
    protocol = AnnotationProtocol(labels={1: ("liver",), 2: ("spleen",), 3: ("pancreas",)})
    metrics = evaluate_case(np.array([1, 0, 0, 2]), np.array([1, 0, 0, 0]), protocol, SPACE)
    assert metrics[2]["Dice"] == 0  # only the reference shows it
    assert math.isnan(metrics[3]["Dice"])
    assert math.isnan(metrics[3]["IoU"])
    assert (metrics[2]["Recall"], metrics[3]["n_pred"]) == (0, 0)
    assert all(math.isnan(value) for value in (metrics[2]["Precision"], metrics[3]["Precision"], metrics[3]["Recall"]))
    assert {name: metrics[3][name] for name in METRIC_NAMES[2:8]} == {"FP": 0, "TP": 0, "FN": 0, "TN": 4, "n_pred": 0, "n_ref": 0}


def test_a_union_is_judged_as_a_union_and_its_classes_are_not():
    protocol = AnnotationProtocol(labels={2: ("kidney_left", "kidney_right")})
    metrics = evaluate_case(np.array([2, 2, 2, 2, 0, 0]), np.array([2, 3, 3, 1, 3, 0]), protocol, SIDED)
    assert list(metrics) == [1, 2, 3, (2, 3)]
    assert (metrics[2, 3]["TP"], metrics[2, 3]["FP"], metrics[2, 3]["FN"], metrics[2, 3]["TN"]) == (3, 1, 1, 1)
    assert all(all_nan(metrics[number]) for number in (1, 2, 3))


def test_a_union_under_an_id_of_its_own():
    protocol = AnnotationProtocol(labels={7: ("kidney_right", "kidney_left"), 1: ("liver",)})
    metrics = evaluate_case(np.array([7, 7, 1, 0]), np.array([2, 0, 1, 3]), protocol, SIDED)
    assert (metrics[2, 3]["TP"], metrics[2, 3]["FP"], metrics[2, 3]["FN"]) == (1, 1, 1)
    assert metrics[1]["Dice"] == 1


def test_ignored_voxels_are_left_out():
    protocol = AnnotationProtocol(labels={1: ("liver",)})
    metrics = evaluate_case(np.array([1, 4, 4, 0]), np.array([1, 1, 0, 0]), protocol, SIDED)
    assert (metrics[1]["TP"], metrics[1]["FP"], metrics[1]["TN"], metrics[1]["n_pred"]) == (1, 0, 1, 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "labels",
    [
        {1: ("liver",), 2: ("kidney_left",), 3: ("kidney_right",)},
        {1: ("liver",), 2: ("kidney_left", "kidney_right")},
        {6: ("kidney_left", "liver"), 3: ("kidney_right",)},
    ],
)
def test_equals_a_slow_loop(labels, seed):
    rng = np.random.default_rng(seed)
    protocol = AnnotationProtocol(labels=labels)
    reference = rng.choice([0, 4, *labels], size=(4, 5, 6)).astype(np.uint8)
    prediction = rng.integers(0, 4, size=(4, 5, 6), dtype=np.int16)
    metrics = evaluate_case(reference, prediction, protocol, SIDED)
    for classes in labels.values():
        members = tuple(sorted(map(SIDED.id_of, classes)))
        judged = metrics[members if len(members) > 1 else members[0]]
        tp, fp, fn, tn = slow_counts(reference, prediction, protocol, SIDED, members)
        assert (judged["TP"], judged["FP"], judged["FN"], judged["TN"]) == (tp, fp, fn, tn)
        assert judged["Dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_equals_nnunet_when_fully_annotated():
    rng = np.random.default_rng(0)
    reference, prediction = rng.integers(0, 4, size=(2, 6, 7, 8))
    reference[:, 0] = SIDED.ignore_id
    protocol = AnnotationProtocol(labels={number: (name,) for number, name in enumerate(SIDED.classes, 1)})
    metrics = evaluate_case(reference, prediction, protocol, SIDED)
    for number in (1, 2, 3):
        tp, fp, fn, tn = compute_tp_fp_fn_tn(reference == number, prediction == number, reference == SIDED.ignore_id)
        assert [metrics[number][name] for name in ("TP", "FP", "FN", "TN")] == [tp, fp, fn, tn]


def test_refuses_what_it_cannot_read():
    protocol = AnnotationProtocol(labels={1: ("liver",)})
    with pytest.raises(ValueError, match=r"reference has shape \(2,\), prediction \(3,\)"):
        evaluate_case(np.zeros(2, int), np.zeros(3, int), protocol, SPACE)
    with pytest.raises(ValueError, match=r"prediction holds label ids 0\.\.4, known are 0\.\.3"):
        evaluate_case(np.zeros(2, int), np.array([0, 4]), protocol, SPACE)
    with pytest.raises(ValueError, match=r"reference holds label ids -1\.\.0, known are 0\.\.3"):
        evaluate_case(np.array([0, -1]), np.zeros(2, int), protocol, SPACE)


def test_refuses_an_id_between_the_known_ones():
    """Its row in the candidate table has no class, so that it would count as positive for every class."""
    protocol = AnnotationProtocol(labels={1: ("liver",), 7: ("kidney_left", "kidney_right")})
    known = evaluate_case(np.array([1, 4, 7, 3]), np.zeros(4, int), protocol, SIDED)
    assert (known[1]["n_ref"], known[2, 3]["n_ref"]) == (1, 2)  # id 3 stands for its own class, 4 is ignored
    with pytest.raises(ValueError, match="reference holds label ids that neither label space nor protocol knows: 5, 6; correct"):
        evaluate_case(np.array([1, 5, 6, 6]), np.zeros(4, int), protocol, SIDED)
