"""Entropy among candidates, and the losses that use it: hand-counted voxels, slow loops, gradients, what counts."""

import math
from dataclasses import replace

import pytest
import torch
from builders import fully_annotated, random_case, target_of
from torch.testing import assert_close

from nnunet_partial.losses import (
    EntropyMinimizationLoss,
    MarginalLoss,
    UncertaintyAwareLoss,
    candidate_entropy,
    consistency_loss,
    entropy_loss,
    logits_on_candidates,
    plain_sums,
)
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels

SUPERVISED = MarginalLoss(make_sums=plain_sums)


def four_voxels() -> tuple[torch.Tensor, PartialTarget]:
    """Label 0 may be background, 2 or 3; label 1 is itself: three voxels with 3 candidates, one with 1."""
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.4, 0.2, 0.4, 1e-30], [0.1, 0.8, 0.05, 0.05], [0.25, 0.25, 0.25, 0.25]])
    target = target_of(torch.tensor([[[0, 0, 0, 1]]]), ({0: {0, 2, 3}}, {1}), num_classes=4)
    return p.double().log().T[None], target


class TestCandidateEntropy:
    def test_by_hand(self):
        logits, target = four_voxels()
        third = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25)) / math.log(3)
        expected = torch.tensor([[[1.0, math.log(2) / math.log(3), third, 0.0]]], dtype=torch.float64)
        assert_close(candidate_entropy(logits, target), expected)

    def test_a_slow_loop(self):
        logits, target = random_case(1)
        p, labels = logits.softmax(1).flatten(2).tolist(), target.labels.flatten(1).tolist()
        found = candidate_entropy(logits, target).flatten(1)
        for b in range(2):
            for v, label in enumerate(labels[b]):
                candidates = [n for n in range(5) if target.tables[b, label, n]]
                mass = sum(p[b][n][v] for n in candidates)
                entropy = -sum(p[b][n][v] / mass * math.log(p[b][n][v] / mass) for n in candidates)
                assert float(found[b, v]) == pytest.approx(entropy / math.log(max(len(candidates), 2)), abs=1e-12)

    def test_an_impossible_class_changes_nothing(self):
        logits, target = four_voxels()
        changed = logits.clone()
        changed[:, 1, :3] += 7
        assert_close(candidate_entropy(changed, target), candidate_entropy(logits, target))

    def test_two_candidates_can_be_as_undecided_as_all(self):
        logits = torch.zeros(1, 8, 2)
        target = target_of(torch.tensor([[[0, 1]]]), ({0: {0, 1}, 1: set(range(8))}, set()), num_classes=8)
        assert_close(candidate_entropy(logits, target), torch.ones(1, 1, 2))


class TestEntropyLoss:
    def test_mean_over_the_voxels_with_several_candidates(self):
        logits, target = four_voxels()
        assert_close(entropy_loss(logits, target), candidate_entropy(logits, target)[..., :3].mean())

    def test_ignored_voxels_do_not_count(self):
        labels = torch.tensor([[[0, 3]]])
        target = target_of(labels, ({0: {0, 2}, 3: {0, 1, 2}}, {1}), num_classes=3, ignore_label=3)
        logits = torch.tensor([[[0.0, 5.0], [0.0, 0.0], [0.0, 0.0]]], requires_grad=True)
        loss = entropy_loss(logits, target)
        loss.backward()
        assert float(loss) == pytest.approx(1)
        assert (logits.grad[..., 1] == 0).all()

    def test_sure_of_one_candidate_costs_nothing_and_every_other_stays_finite(self):
        logits, target = four_voxels()
        sure = torch.full_like(logits, -1e4)
        sure[:, 2] = 1e4
        sure.requires_grad_()
        loss = entropy_loss(sure, target)
        loss.backward()
        assert loss == 0
        assert torch.isfinite(sure.grad).all()

    def test_descent_sharpens_the_candidates_and_leaves_the_impossible_alone(self):
        logits, target = four_voxels()
        logits.requires_grad_()
        entropy_loss(logits, target).backward()
        assert (logits.grad[:, 1] == 0).all()
        assert (logits.grad[..., 3] == 0).all()
        assert logits.grad[0, 0, 2] < 0 < logits.grad[0, 2, 2]

    def test_gradcheck(self):
        logits, target = random_case(3, shape=(2, 3))
        torch.autograd.gradcheck(lambda z: entropy_loss(z, target), logits.requires_grad_())

    def test_fully_annotated_gives_zero_with_a_graph(self):
        logits, target = random_case(5)
        loss = entropy_loss(logits.requires_grad_(), fully_annotated(target.labels, 5))
        loss.backward()
        assert loss == 0
        assert (logits.grad == 0).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        logits, target = random_case(7, dtype=torch.float32)
        found = entropy_loss(logits.to(dtype), target)
        assert found.dtype == torch.float32
        assert_close(found, entropy_loss(logits.to(dtype).float(), target))

    def test_shapes_are_refused(self):
        logits, target = random_case(5)
        with pytest.raises(ValueError, match="classes"):
            entropy_loss(logits[:, :4], target)


class TestEntropyMinimizationLoss:
    def test_is_the_loss_by_annotation_and_entropy_at_full_resolution(self):
        logits, target = random_case(1)
        found = EntropyMinimizationLoss(lambda output, targets: SUPERVISED(output[0], targets[0]), weight_entropy=3.0)(
            [logits, logits[..., ::2]], TaughtTarget([target, None], 0.5)
        )
        assert_close(found, SUPERVISED(logits, target) + 0.5 * 3 * entropy_loss(logits, target))

    def test_before_it_begins_and_in_validation(self):
        logits, target = random_case(1)
        loss, expected = EntropyMinimizationLoss(SUPERVISED), SUPERVISED(logits, target)
        assert_close(loss(logits, TaughtTarget(target, 0.0)), expected, rtol=0, atol=0)
        assert_close(loss(logits, target), expected, rtol=0, atol=0)


class TestUncertaintyAwareLoss:
    def taught(self, **options) -> tuple[torch.Tensor, TaughtTarget]:
        logits, target = random_case(1)
        teacher = random_case(2)[0].log_softmax(1)
        return logits, TaughtTarget(target, teacher_logits=teacher, **options)

    def test_mean_over_the_ambiguous_voxels_below_the_threshold(self):
        logits, taught = self.taught(weight=0.5, entropy_threshold=0.6)
        target = taught.supervised
        entropy = candidate_entropy(taught.teacher_logits, target)
        ambiguous = ambiguous_voxels(target)
        kept = ambiguous & (entropy < 0.6)
        assert 0 < kept.sum() < ambiguous.sum()
        given = logits_on_candidates(taught.teacher_logits, target).softmax(1)
        found = UncertaintyAwareLoss(SUPERVISED, weight_consistency=3.0)(logits, taught)
        assert_close(found, SUPERVISED(logits, target) + 0.5 * 3 * consistency_loss(logits, given, kept))

    def test_one_voxel_by_hand(self):
        """Two unannotated voxels: the teacher says 0.9 of the first, nothing of the second."""
        target = target_of(torch.zeros(1, 1, 2, dtype=torch.int16), ({0: {0, 1}}, set()), num_classes=2)
        teacher = torch.tensor([[0.9, 0.5], [0.1, 0.5]], dtype=torch.float64).log()[None]
        logits = torch.zeros(1, 2, 2, dtype=torch.float64)
        loss = UncertaintyAwareLoss(SUPERVISED)
        for threshold, expected in ((0.75, 0.4**2 + 0.4**2), (0.4, 0.0)):
            found = loss(logits, TaughtTarget(target, teacher_logits=teacher, entropy_threshold=threshold))
            assert float(found) == pytest.approx(expected)

    def test_nowhere_certain_gives_the_loss_by_annotation_with_a_graph(self):
        logits, taught = self.taught(entropy_threshold=0.0)
        loss = UncertaintyAwareLoss(SUPERVISED)(logits.requires_grad_(), taught)
        loss.backward()
        assert_close(loss, SUPERVISED(logits, taught.supervised), rtol=0, atol=0)
        assert torch.isfinite(logits.grad).all()

    def test_before_the_teacher_begins_and_in_validation(self):
        logits, taught = self.taught()
        loss, expected = UncertaintyAwareLoss(SUPERVISED), SUPERVISED(logits, taught.supervised)
        assert_close(loss(logits, replace(taught, teacher_logits=None)), expected, rtol=0, atol=0)
        assert_close(loss(logits, taught.supervised), expected, rtol=0, atol=0)
