"""The confidence network's loss: True Class Probability where the truth is known, by hand."""

import math

import pytest
import torch

from nnunet_partial.losses.confidence import confidence_loss, true_class_probability
from tests.losses.builders import fully_annotated, random_case, target_of


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_tcp_is_low_exactly_where_the_decision_is_wrong():
    log_odds = torch.tensor([[[2.0, 2.0, -2.0, -2.0]]])
    positive = torch.tensor([[[True, False, True, False]]])
    expected = [sigmoid(2), sigmoid(-2), sigmoid(-2), sigmoid(2)]
    assert true_class_probability(log_odds, positive).flatten().tolist() == pytest.approx(expected)


def test_counted_by_hand():
    """Class 2 was not looked for: at the two background voxels only class 1 counts; at the voxel of class 1 both do."""
    target = target_of(torch.tensor([[[0, 1, 0]]]), ({0: {0, 2}}, {1}), num_classes=3)
    log_odds = torch.tensor([[[1.0, -1.0, 0.5], [3.0, 3.0, 3.0]]])
    confidence = torch.zeros(1, 2, 3)  # a confidence of one half everywhere
    truths = [sigmoid(-1), sigmoid(-1), sigmoid(-0.5), sigmoid(-3)]
    expected = sum((0.5 - truth) ** 2 for truth in truths) / 4
    assert confidence_loss(confidence, log_odds, target).item() == pytest.approx(expected)


def test_nothing_known_gives_a_zero_that_keeps_the_graph():
    target = target_of(torch.zeros(1, 1, 4, dtype=torch.int16), ({0: {0, 1, 2}}, set()), num_classes=3)
    confidence = torch.randn(1, 2, 4, requires_grad=True)
    loss = confidence_loss(confidence, torch.randn(1, 2, 4), target)
    loss.backward()
    assert loss.item() == 0
    assert not confidence.grad.any()


def test_an_unannotated_class_gets_no_push_and_the_segmentation_network_none_at_all():
    _, target = random_case(0)
    confidence = torch.randn(2, 4, 4, 5, 3, requires_grad=True)
    log_odds = torch.randn(2, 4, 4, 5, 3, requires_grad=True)
    confidence_loss(confidence, log_odds, target).backward()
    assert log_odds.grad is None
    background = target.labels[1, 0] == 0
    assert not confidence.grad[1, 3][background].any()
    assert confidence.grad[1, 0][background].all()


def test_the_truth_costs_nothing():
    target = fully_annotated(torch.randint(0, 3, (2, 1, 5)), 3)
    log_odds = torch.randn(2, 2, 5, dtype=torch.float64)
    positive = target.labels == torch.tensor([1, 2]).view(1, 2, 1)
    perfect = true_class_probability(log_odds, positive).logit()
    assert confidence_loss(perfect, log_odds, target).item() < 1e-20


def test_gradcheck():
    _, target = random_case(1, shape=(2, 3))
    log_odds = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    confidence = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda logits: confidence_loss(logits, log_odds, target), confidence)


@pytest.mark.parametrize("name", ["confidence_logits", "log_odds"])
def test_refuses_bad_shapes(name):
    _, target = random_case(0)
    tensors = {key: torch.zeros(2, 4, 4, 5, 3) for key in ("confidence_logits", "log_odds")}
    tensors[name] = torch.zeros(2, 5, 4, 5, 3)
    with pytest.raises(ValueError, match=rf"{name} must have shape \(B, K, \*S\) = \(2, 4, 4, 5, 3\)"):
        confidence_loss(target=target, **tensors)
