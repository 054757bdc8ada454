"""Consistency and self-training: hand-counted voxels, slow loops in float64, gradients, what counts and what does not."""

import math

import pytest
import torch
from builders import fully_annotated, random_case, target_of
from torch import nn
from torch.testing import assert_close

from nnunet_partial.losses import (
    MarginalLoss,
    MeanTeacherLoss,
    consistency_loss,
    logits_on_candidates,
    plain_sums,
    self_training_loss,
)
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels


def two_voxels(*probabilities: list[float]) -> torch.Tensor:
    """(1, C, 2) logits with these distributions."""
    return torch.tensor(probabilities, dtype=torch.float64).log().T[None]


def somewhere(target: PartialTarget, seed: int = 0) -> torch.Tensor:
    return torch.rand(target.labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.4


class TestConsistency:
    def test_two_voxels_by_hand(self):
        student = two_voxels([0.7, 0.2, 0.1], [0.5, 0.25, 0.25])
        teacher = two_voxels([0.5, 0.3, 0.2], [0.25, 0.5, 0.25]).exp()
        both, first = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[[True, False]]])
        at_first, at_second = 0.2**2 + 0.1**2 + 0.1**2, 0.25**2 + 0.25**2
        assert float(consistency_loss(student, teacher, both)) == pytest.approx((at_first + at_second) / 2)
        assert float(consistency_loss(student, teacher, first)) == pytest.approx(at_first)
        assert float(consistency_loss(student, teacher, first, over=both)) == pytest.approx(at_first / 2)

    def test_a_slow_loop(self):
        logits, target = random_case(1)
        teacher, where = random_case(2)[0].softmax(1), somewhere(target)
        p, q, w = (part.flatten(2).tolist() for part in (logits.softmax(1), teacher, where))
        squares = [sum((p[b][n][v] - q[b][n][v]) ** 2 for n in range(5)) for b in range(2) for v in range(60) if w[b][0][v]]
        assert float(consistency_loss(logits, teacher, where)) == pytest.approx(sum(squares) / len(squares))

    def test_regions_by_size_add_up_to_the_whole(self):
        logits, target = random_case(1)
        teacher, where = random_case(2)[0].softmax(1), somewhere(target)
        every = torch.ones_like(where)
        parts = [consistency_loss(logits, teacher, part, over=every) for part in (where, ~where)]
        assert_close(sum(parts), consistency_loss(logits, teacher, every))

    def test_gradcheck(self):
        logits, target = random_case(3, shape=(2, 3))
        teacher, where = random_case(4, shape=(2, 3))[0].softmax(1), somewhere(target)
        torch.autograd.gradcheck(lambda z: consistency_loss(z, teacher, where), logits.requires_grad_())

    def test_no_gradient_where_it_does_not_count_or_to_the_teacher(self):
        logits, target = random_case(5)
        teacher = random_case(6)[0].requires_grad_()
        where = somewhere(target)
        consistency_loss(logits.requires_grad_(), teacher.softmax(1), where).backward()
        assert teacher.grad is None
        assert (logits.grad[~where.expand_as(logits)] == 0).all()
        assert (logits.grad[where.expand_as(logits)] != 0).all()

    def test_one_and_the_same_network_agrees_with_itself(self):
        logits, target = random_case(5)
        assert_close(consistency_loss(logits, logits.softmax(1), somewhere(target)), torch.zeros((), dtype=torch.float64))

    def test_nowhere_gives_zero_with_a_graph(self):
        logits, target = random_case(5)
        loss = consistency_loss(logits.requires_grad_(), logits.softmax(1), torch.zeros_like(target.labels, dtype=torch.bool))
        loss.backward()
        assert loss == 0
        assert (logits.grad == 0).all()

    def test_half_precision_is_computed_in_float32(self):
        logits, target = random_case(7, dtype=torch.float32)
        teacher, where = random_case(8, dtype=torch.float32)[0].softmax(1), somewhere(target)
        found = consistency_loss(logits.half(), teacher, where)
        assert found.dtype == torch.float32
        assert_close(found, consistency_loss(logits.half().float(), teacher, where))

    def test_shapes_are_refused(self):
        logits, target = random_case(5)
        with pytest.raises(ValueError, match=r"must have the logits' shape"):
            consistency_loss(logits, logits[:, :4], somewhere(target))
        with pytest.raises(ValueError, match=r"where and over must have shape"):
            consistency_loss(logits, logits, somewhere(target)[:, 0])


class TestSelfTraining:
    def test_two_voxels_by_hand(self):
        student, labels = two_voxels([0.7, 0.2, 0.1], [0.5, 0.25, 0.25]), torch.tensor([[[1, 0]]])
        both, first = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[[True, False]]])
        assert float(self_training_loss(student, labels, both)) == pytest.approx(-(math.log(0.2) + math.log(0.5)) / 2)
        assert float(self_training_loss(student, labels, first, over=both)) == pytest.approx(-math.log(0.2) / 2)

    def test_gradcheck(self):
        logits, target = random_case(3, shape=(2, 3))
        labels, where = target.labels.long(), somewhere(target)
        torch.autograd.gradcheck(lambda z: self_training_loss(z, labels, where), logits.requires_grad_())

    def test_nowhere_gives_zero_with_a_graph(self):
        logits, target = random_case(5)
        loss = self_training_loss(logits.requires_grad_(), target.labels.long(), torch.zeros_like(somewhere(target)))
        loss.backward()
        assert loss == 0
        assert (logits.grad == 0).all()

    def test_shapes_are_refused(self):
        logits, target = random_case(5)
        with pytest.raises(ValueError, match="must lie on logits"):
            self_training_loss(logits, target.labels[:, 0].long(), somewhere(target))


class TestOnCandidates:
    def test_nothing_outside_the_candidates_is_left(self):
        logits, target = random_case(1)
        given = logits_on_candidates(logits, target).softmax(1).flatten(2)
        p, labels = logits.softmax(1).flatten(2), target.labels.flatten(1).tolist()
        for b in range(2):
            for v in range(60):
                candidates = target.tables[b, labels[b][v]]
                expected = torch.where(candidates, p[b, :, v], 0)
                assert_close(given[b, :, v], expected / expected.sum())

    def test_unannotated_it_is_the_networks_own(self):
        logits, target = random_case(1)
        every = PartialTarget(target.labels, torch.ones_like(target.tables), torch.zeros_like(target.annotated))
        assert_close(logits_on_candidates(logits, every), logits)


class TestMeanTeacherLoss:
    """Two resolutions, the second with its own target."""

    class Both(nn.Module):
        def forward(self, output, target):
            return MarginalLoss(make_sums=plain_sums)(output[0], target[0]) + MarginalLoss(make_sums=plain_sums)(
                output[1], target[1]
            )

    def case(self):
        logits, target = random_case(1)
        coarse = PartialTarget(target.labels[..., ::2], target.tables, target.annotated)
        return [logits, logits[..., ::2]], [target, coarse]

    def test_is_the_loss_by_annotation_and_consistency_at_full_resolution(self):
        output, targets = self.case()
        teacher = random_case(2)[0]
        loss = MeanTeacherLoss(self.Both(), weight_consistency=3.0)
        found = loss(output, TaughtTarget(targets, 0.5, teacher_logits=teacher))
        given = logits_on_candidates(teacher, targets[0]).softmax(1)
        consistency = consistency_loss(output[0], given, ambiguous_voxels(targets[0]))
        assert consistency > 0
        assert_close(found, self.Both()(output, targets) + 0.5 * 3 * consistency)

    def test_before_the_teacher_begins_and_in_validation(self):
        output, targets = self.case()
        loss, expected = MeanTeacherLoss(self.Both()), self.Both()(output, targets)
        assert_close(loss(output, TaughtTarget(targets)), expected, rtol=0, atol=0)
        assert_close(loss(output, targets), expected, rtol=0, atol=0)

    def test_fully_annotated_the_teacher_changes_nothing(self):
        logits = random_case(1)[0]
        target = fully_annotated(random_case(1)[1].labels, 5)
        teacher = random_case(2)[0]
        supervised = MarginalLoss(make_sums=plain_sums)
        found = MeanTeacherLoss(supervised)(logits, TaughtTarget(target, teacher_logits=teacher))
        assert_close(found, supervised(logits, target), rtol=0, atol=0)

    def test_an_unannotated_case_is_the_papers(self):
        """All voxels, all classes: the mean of eq. (8) over the voxels."""
        logits, teacher = random_case(1)[0][:1], random_case(2)[0][:1]
        nothing = target_of(torch.zeros(1, 1, 4, 5, 3, dtype=torch.int16), ({0: {0, 1, 2, 3, 4}}, set()), num_classes=5)
        found = MeanTeacherLoss(MarginalLoss(make_sums=plain_sums))(logits, TaughtTarget(nothing, teacher_logits=teacher))
        assert_close(found, (logits.softmax(1) - teacher.softmax(1)).square().sum() / 60)
