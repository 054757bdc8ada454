"""A discriminator's loss and its verdict: hand-counted voxels, slow loops, gradients, what counts and what does not."""

import math

import pytest
import torch
from builders import fully_annotated, random_case, target_of
from torch.nn import functional as F
from torch.testing import assert_close

from nnunet_partial.losses import (
    AdversarialLoss,
    MarginalLoss,
    adversarial_loss,
    discriminator_loss,
    logits_on_candidates,
    maps_to_judge,
    plain_sums,
    self_training_loss,
)
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels, decided_voxels

SUPERVISED = MarginalLoss(make_sums=plain_sums)


def nobody_annotated(labels: torch.Tensor, num_classes: int) -> PartialTarget:
    every = ({0: set(range(num_classes))}, set())
    return target_of(torch.zeros_like(labels), *[every] * len(labels), num_classes=num_classes)


def judge(maps: torch.Tensor) -> torch.Tensor:
    """A verdict that depends on all classes, in place of a network."""
    weights = torch.linspace(-1, 1, maps.shape[1], dtype=maps.dtype).view(-1, *[1] * (maps.ndim - 2))
    return (3 * weights * maps.square()).sum(1, keepdim=True)


class TestMaps:
    def test_two_voxels_by_hand(self):
        """The first is background or class 2, the second was drawn as class 1."""
        p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], dtype=torch.float64)
        target = target_of(torch.tensor([[[0, 1]]]), ({0: {0, 2}}, {1}), num_classes=3)
        own, annotation = maps_to_judge(p.log().T[None], target)
        assert_close(own[0].T, torch.tensor([[0.4, 0, 0.6], [0.1, 0.6, 0.3]], dtype=torch.float64))
        assert_close(annotation[0].T, torch.tensor([[0.4, 0, 0.6], [0, 1, 0]], dtype=torch.float64))

    def test_fully_annotated_they_are_the_papers(self):
        logits, target = random_case(1)
        target = fully_annotated(target.labels, 5)
        own, annotation = maps_to_judge(logits, target)
        assert_close(own, logits.softmax(1))
        assert torch.equal(annotation.argmax(1), target.labels[:, 0].long())
        assert ((annotation == 0) | (annotation == 1)).all()

    def test_where_nothing_is_known_they_are_the_same(self):
        logits, target = random_case(1)
        own, annotation = maps_to_judge(logits, target)
        differ = (own != annotation).any(1, keepdim=True)
        assert torch.equal(differ, decided_voxels(target))
        own, annotation = maps_to_judge(logits, nobody_annotated(target.labels, 5))
        assert torch.equal(own, annotation)

    def test_ignored_voxels_are_the_same_in_both(self):
        labels = torch.tensor([[[0, 1, 2]]])
        target = PartialTarget(labels, torch.tensor([[[1, 0], [0, 1], [1, 1]]]).bool(), torch.ones(1, 3).bool(), ignore_label=2)
        own, annotation = maps_to_judge(torch.randn(1, 2, 3), target)
        assert torch.equal(own[..., 2], annotation[..., 2])
        assert (own[..., :2] != annotation[..., :2]).all()

    def test_finite_in_half_precision(self):
        logits, target = random_case(2, scale=1e4)
        for one in maps_to_judge(logits.half(), target):
            assert one.dtype == torch.float32
            assert_close(one.sum(1), torch.ones_like(one[:, 0]))

    def test_bad_shapes_are_refused(self):
        logits, target = random_case(2)
        with pytest.raises(ValueError, match="must agree as"):
            maps_to_judge(logits[..., :2], target)


class TestDiscriminatorLoss:
    def test_two_voxels_by_hand(self):
        """The second voxel alone is known: the network's map is called annotation with 0.25, that of annotation with 0.8."""
        target = target_of(torch.tensor([[[0, 1]]]), ({0: {0, 2}}, {1}), num_classes=3)
        own = torch.tensor([[[7.0, math.log(0.25 / 0.75)]]], dtype=torch.float64)
        annotation = torch.tensor([[[-7.0, math.log(4)]]], dtype=torch.float64)
        found = discriminator_loss(own, annotation, target)
        assert float(found) == pytest.approx(-math.log(0.75) - math.log(0.8))

    def test_is_binary_cross_entropy_when_fully_annotated(self):
        _, target = random_case(1)
        target = fully_annotated(target.labels, 5)
        own, annotation = torch.randn(2, *target.labels.shape, dtype=torch.float64)
        expected = F.binary_cross_entropy_with_logits(own, torch.zeros_like(own))
        expected += F.binary_cross_entropy_with_logits(annotation, torch.ones_like(own))
        assert_close(discriminator_loss(own, annotation, target), expected)

    def test_no_gradient_from_ambiguous_voxels(self):
        _, target = random_case(1)
        verdicts = torch.randn(2, *target.labels.shape, requires_grad=True)
        discriminator_loss(*verdicts, target).backward()
        assert torch.equal(verdicts.grad[0] != 0, decided_voxels(target))
        assert torch.equal(verdicts.grad[1] != 0, decided_voxels(target))

    def test_nothing_annotated_gives_zero_with_a_graph(self):
        labels = random_case(1)[1].labels
        verdicts = torch.randn(2, *labels.shape, requires_grad=True)
        loss = discriminator_loss(*verdicts, nobody_annotated(labels, 5))
        loss.backward()
        assert loss == 0
        assert (verdicts.grad == 0).all()

    def test_gradcheck(self):
        _, target = random_case(1, shape=(2, 3))
        verdicts = torch.randn(2, *target.labels.shape, dtype=torch.float64, requires_grad=True)
        torch.autograd.gradcheck(lambda both: discriminator_loss(*both, target), verdicts)

    def test_bad_shapes_are_refused(self):
        _, target = random_case(1)
        with pytest.raises(ValueError, match="must have shape"):
            discriminator_loss(torch.randn(2, 1, 4), torch.randn(2, 1, 4), target)


class TestAdversarialLoss:
    def test_three_voxels_by_hand(self):
        """Background or class 2, class 1, ignored; taken for annotation with 0.25, 0.8 and anything."""
        labels = torch.tensor([[[0, 1, 3]]])
        tables = torch.tensor([[[1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 1, 1]]]).bool()
        target = PartialTarget(labels, tables, torch.tensor([[False, True, False, False]]), ignore_label=3)
        verdict = torch.tensor([[[math.log(0.25 / 0.75), math.log(4), 5.0]]], dtype=torch.float64)
        found = adversarial_loss(verdict, target, weight_decided=10, weight_ambiguous=1)
        assert float(found) == pytest.approx((-math.log(0.25) - 10 * math.log(0.8)) / 2)

    def test_gradcheck(self):
        _, target = random_case(1, shape=(2, 3))
        verdict = torch.randn(target.labels.shape, dtype=torch.float64, requires_grad=True)
        torch.autograd.gradcheck(lambda v: adversarial_loss(v, target, weight_decided=1, weight_ambiguous=0.3), verdict)

    def test_everything_ignored_gives_zero_with_a_graph(self):
        target = PartialTarget(torch.full((1, 1, 4), 2), torch.ones(1, 3, 2).bool(), torch.zeros(1, 3).bool(), ignore_label=2)
        verdict = torch.randn(1, 1, 4, requires_grad=True)
        loss = adversarial_loss(verdict, target, weight_decided=1, weight_ambiguous=1)
        loss.backward()
        assert loss == 0


class TestModule:
    def terms(self, logits, target, threshold):
        own, _ = maps_to_judge(logits, target)
        ambiguous, verdict = ambiguous_voxels(target), judge(own)
        labels = logits_on_candidates(logits, target).argmax(1, keepdim=True)
        believed = ambiguous & (verdict.sigmoid() > threshold)
        self_training = self_training_loss(logits, labels, believed, over=ambiguous)
        assert 0 < believed.sum() < ambiguous.sum()
        return adversarial_loss(verdict, target, weight_decided=0.2, weight_ambiguous=0.1), self_training

    def test_is_the_sum_of_its_terms_at_full_resolution(self):
        logits, target = random_case(1)
        coarse = PartialTarget(target.labels[..., ::2], target.tables, target.annotated)

        def supervised(output, targets):
            return SUPERVISED(output[0], targets[0]) + SUPERVISED(output[1], targets[1])

        options = {"weight_decided": 0.2, "weight_ambiguous": 0.1, "weight_self_training": 3.0, "threshold": 0.4}
        output, targets = [logits, logits[..., ::2]], [target, coarse]
        found = AdversarialLoss(supervised, judge, **options)(output, TaughtTarget(targets, 0.5))
        adversarial, self_training = self.terms(logits, target, threshold=0.4)
        assert_close(found, supervised(output, targets) + 0.5 * (adversarial + 3 * self_training))

    def test_the_threshold(self):
        logits, target = random_case(1)
        only = {"weight_decided": 0.0, "weight_ambiguous": 0.0, "weight_self_training": 1.0}
        ambiguous = ambiguous_voxels(target)
        labels = logits_on_candidates(logits, target).argmax(1, keepdim=True)
        for threshold, believed in ((0.0, ambiguous), (1.0, torch.zeros_like(ambiguous))):
            found = AdversarialLoss(SUPERVISED, judge, threshold=threshold, **only)(logits, TaughtTarget(target))
            expected = SUPERVISED(logits, target) + self_training_loss(logits, labels, believed, over=ambiguous)
            assert_close(found, expected)

    def test_before_it_begins_and_in_validation_nobody_is_asked(self):
        logits, target = random_case(1)
        loss = AdversarialLoss(SUPERVISED, lambda _: pytest.fail("asked"))
        expected = SUPERVISED(logits, target)
        assert_close(loss(logits, TaughtTarget(target, 0.0)), expected, rtol=0, atol=0)
        assert_close(loss(logits, target), expected, rtol=0, atol=0)

    def test_what_it_saw_is_kept_once_and_without_a_graph(self):
        logits, target = random_case(1)
        loss = AdversarialLoss(SUPERVISED, judge)
        loss(logits.requires_grad_(), TaughtTarget(target))
        seen, of = loss.take_seen()
        assert torch.equal(seen, logits)
        assert not seen.requires_grad
        assert of is target
        with pytest.raises(AssertionError, match="no training batch"):
            loss.take_seen()

    def test_gradcheck(self):
        logits, target = random_case(3, shape=(2, 3))
        loss = AdversarialLoss(SUPERVISED, judge, weight_decided=1.0, weight_ambiguous=0.5, weight_self_training=1.0)
        torch.autograd.gradcheck(lambda z: loss(z, TaughtTarget(target)), logits.requires_grad_())

    def test_finite_in_half_precision(self):
        logits, target = random_case(2, scale=1e4)
        logits = logits.half().requires_grad_()
        loss = AdversarialLoss(MarginalLoss(), judge)(logits, TaughtTarget(target))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
