"""CoraNet's loss: costs by hand and by slow loops, what the costs make of a prediction, which voxel goes to which term."""

import math
from dataclasses import replace

import pytest
import torch
from builders import fully_annotated, random_case, target_of
from torch.nn import functional as F
from torch.testing import assert_close

from nnunet_partial.losses import (
    CoraNetLoss,
    MarginalLoss,
    branches_agree,
    certain_voxels,
    conservative_loss,
    plain_sums,
    radical_loss,
)
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels

ALPHA = 5.0
BRANCHES = {"conservative": (conservative_loss, ALPHA, 1.0), "radical": (radical_loss, 1.0, ALPHA)}
every_branch = pytest.mark.parametrize("name", BRANCHES)


class TestBranchLosses:
    def test_two_voxels_by_hand(self):
        """One organ, probability 0.2 where it is not and 0.6 where it is."""
        log_odds = torch.tensor([[[0.2, 0.6]]], dtype=torch.float64).logit()
        target = fully_annotated(torch.tensor([[[0, 1]]]), 2)
        absent, present = -math.log(0.8), -math.log(0.6)
        assert float(conservative_loss(log_odds, target, cost=5.0)) == pytest.approx((5 * absent + present) / 6)
        assert float(radical_loss(log_odds, target, cost=5.0)) == pytest.approx((absent + 5 * present) / 6)

    @every_branch
    def test_one_organ_is_the_papers_cross_entropy_with_class_weights(self, name):
        """torch's, on two logits whose difference the log-odds are."""
        loss, weight_absent, weight_present = BRANCHES[name]
        log_odds = torch.randn(2, 1, 4, 5, dtype=torch.float64)
        labels = torch.randint(0, 2, (2, 1, 4, 5))
        two = torch.cat([torch.zeros_like(log_odds), log_odds], 1)
        expected = F.cross_entropy(two, labels[:, 0], weight=torch.tensor([weight_absent, weight_present], dtype=torch.float64))
        assert_close(loss(log_odds, fully_annotated(labels, 2), cost=ALPHA), expected)

    @every_branch
    def test_a_slow_loop(self, name):
        loss, weight_absent, weight_present = BRANCHES[name]
        _, target = random_case(1)
        log_odds = random_case(2)[0][:, 1:]
        d, labels = log_odds.flatten(2).tolist(), target.labels.flatten(1).tolist()
        total = weights = 0.0
        for b in range(2):
            for v, label in enumerate(labels[b]):
                candidates = {n for n in range(5) if target.tables[b, label, n]}
                for k in range(1, 5):
                    if k in candidates and len(candidates) > 1:
                        continue  # nobody knows
                    p = 1 / (1 + math.exp(-d[b][k - 1][v]))
                    weight = weight_present if k in candidates else weight_absent
                    total -= weight * math.log(p if k in candidates else 1 - p)
                    weights += weight
        assert float(loss(log_odds, target, cost=ALPHA)) == pytest.approx(total / weights)

    @every_branch
    def test_an_ambiguous_organ_gets_no_push_and_an_excluded_one_does(self, name):
        target = target_of(torch.zeros(1, 1, 3, dtype=torch.int16), ({0: {0, 2}}, {1}), num_classes=3)
        log_odds = torch.zeros(1, 2, 3, requires_grad=True)
        BRANCHES[name][0](log_odds, target, cost=ALPHA).backward()
        assert (log_odds.grad[:, 1] == 0).all()
        assert (log_odds.grad[:, 0] > 0).all()

    @every_branch
    def test_nothing_annotated_and_nothing_but_ignored_give_zero_with_a_graph(self, name):
        every = {0: {0, 1, 2}, 3: {0, 1, 2}}
        for label, options in ((0, {}), (3, {"ignore_label": 3})):
            labels = torch.full((1, 1, 3), label, dtype=torch.int16)
            log_odds = torch.zeros(1, 2, 3, requires_grad=True)
            loss = BRANCHES[name][0](log_odds, target_of(labels, (every, set()), num_classes=3, **options), cost=ALPHA)
            loss.backward()
            assert loss == 0
            assert (log_odds.grad == 0).all()

    @every_branch
    def test_gradcheck(self, name):
        log_odds, target = random_case(3, shape=(2, 3))
        log_odds = log_odds[:, 1:].clone().requires_grad_()
        torch.autograd.gradcheck(lambda d: BRANCHES[name][0](d, target, cost=ALPHA), log_odds)

    @every_branch
    def test_half_precision_is_finite(self, name):
        log_odds, target = random_case(3, scale=1000)
        found = BRANCHES[name][0](log_odds[:, 1:].half(), target, cost=ALPHA)
        assert found.dtype == torch.float32
        assert found.isfinite()

    def test_the_branches_differ_where_the_odds_lie_between_one_to_alpha_and_alpha_to_one(self):
        """Trained on voxels of which a share are the organ, each branch ends at its own side of the plain odds."""
        shares = (1 / 10, 1 / 5, 2 / 5, 3 / 5, 4 / 5, 9 / 10)
        decided = []
        for share in shares:
            labels = (torch.arange(100) < round(100 * share)).long()[None, None]
            branches = torch.zeros(2, requires_grad=True)
            optimizer = torch.optim.LBFGS([branches], max_iter=100)

            def closure(labels=labels, branches=branches, optimizer=optimizer):
                optimizer.zero_grad()
                target = fully_annotated(labels, 2)
                voxels = torch.ones(1, 1, 100)
                loss = conservative_loss(branches[0] * voxels, target, cost=ALPHA)
                loss = loss + radical_loss(branches[1] * voxels, target, cost=ALPHA)
                loss.backward()
                return loss

            optimizer.step(closure)
            odds = share / (1 - share)
            assert_close(branches.detach().exp(), torch.tensor([odds / ALPHA, odds * ALPHA]), rtol=0.02, atol=0)
            decided.append(tuple((branches > 0).tolist()))
        assert decided == [(False, False), *[(False, True)] * 4, (True, True)]

    @every_branch
    def test_shapes_and_soft_targets_are_refused(self, name):
        logits, target = random_case(0)
        with pytest.raises(ValueError, match=r"log_odds must have shape \(B, K, \*S\)"):
            BRANCHES[name][0](logits, target, cost=ALPHA)
        soft = PartialTarget(target.labels, target.tables.float(), target.annotated)
        with pytest.raises(ValueError, match="candidate tables"):
            BRANCHES[name][0](logits[:, 1:], soft, cost=ALPHA)


class TestCertainty:
    def test_an_organ_that_the_annotation_excludes_decides_nothing(self):
        agree = torch.tensor([[[True, True, False, False], [True, False, True, False]]])  # organs 1 and 2 of four voxels
        only_two = target_of(torch.zeros(1, 1, 4, dtype=torch.int16), ({0: {0, 2}}, {1}), num_classes=3)
        nothing = target_of(torch.zeros(1, 1, 4, dtype=torch.int16), ({0: {0, 1, 2}}, set()), num_classes=3)
        assert certain_voxels(agree, only_two).flatten().tolist() == [True, False, True, False]
        assert certain_voxels(agree, nothing).flatten().tolist() == [True, False, False, False]

    def test_branches_agree_on_the_same_side_of_one_half(self):
        assert branches_agree(torch.tensor([-2.0, -0.1, 3.0]), torch.tensor([-0.1, 0.1, 0.2])).tolist() == [True, False, True]


class TestCoraNetLoss:
    """One case of four voxels: organ 1 drawn, then three that are background or organ 2."""

    target = target_of(torch.tensor([[[1, 0, 0, 0]]]), ({0: {0, 2}}, {1}), num_classes=3)
    agree = torch.tensor([[[True, True, True, False], [True, True, False, False]]])  # certain: the second voxel

    def taught(self, **changes):
        generator = torch.Generator().manual_seed(0)
        teacher, labeller = (torch.randn(1, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        parts = {"teacher_logits": teacher, "label_logits": labeller, "branches_agree": self.agree, **changes}
        return TaughtTarget(self.target, **parts)

    def loss(self, **options):
        branches = torch.zeros(2, 1, 2, 4, dtype=torch.float64)
        return CoraNetLoss(MarginalLoss(make_sums=plain_sums), lambda: tuple(branches), **options)

    @pytest.mark.parametrize(("own", "label"), [([0, 9, -1], 0), ([0, 9, 1], 2)])
    def test_by_hand(self, own, label):
        """The labelling network prefers organ 1, which cannot be there; of the candidates it takes the better."""
        logits = torch.randn(1, 3, 4, dtype=torch.float64)
        labeller = torch.tensor(own, dtype=torch.float64)[None, :, None].expand(1, 3, 4)
        taught = self.taught(label_logits=labeller, weight=0.5)
        found = self.loss(weight_self_training=3.0, weight_consistency=2.0)(logits, taught)
        p, teacher = logits.softmax(1)[0], taught.teacher_logits.softmax(1)[0]
        self_training = -math.log(p[label, 1]) / 3
        consistency = 0.0
        for v in (2, 3):
            q = [float(teacher[0, v]), 0.0, float(teacher[2, v])]
            consistency += sum((float(p[n, v]) - q[n] / sum(q)) ** 2 for n in range(3)) / 3
        annotated = MarginalLoss(make_sums=plain_sums)(logits, self.target)
        branches = 2 * math.log(2)  # undecided branches pay log 2, whatever the costs
        assert float(found) == pytest.approx(float(annotated) + branches + 0.5 * (3 * self_training + 2 * consistency))

    def test_gradient_flows_into_the_student_and_both_branches_alone(self):
        logits = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
        branches = torch.zeros(2, 1, 2, 4, dtype=torch.float64, requires_grad=True)
        others = [torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        taught = self.taught(teacher_logits=others[0], label_logits=others[1])
        CoraNetLoss(MarginalLoss(make_sums=plain_sums), lambda: tuple(branches))(logits, taught).backward()
        assert (logits.grad[:, :, 1:].abs().sum(1) > 0).all()
        assert (branches.grad.flatten(1).abs().sum(1) > 0).all()
        assert [other.grad for other in others] == [None, None]

    def test_gradcheck(self):
        logits = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
        taught, loss = self.taught(), self.loss()
        torch.autograd.gradcheck(lambda z: loss(z, taught), logits)

    def test_fully_annotated_only_the_branches_are_added(self):
        logits = torch.randn(1, 3, 4, dtype=torch.float64)
        target = fully_annotated(torch.tensor([[[1, 0, 2, 0]]]), 3)
        taught = replace(self.taught(), supervised=target)
        assert not ambiguous_voxels(target).any()
        expected = MarginalLoss(make_sums=plain_sums)(logits, target) + 2 * math.log(2)
        assert_close(self.loss()(logits, taught), expected)

    def test_before_the_teacher_begins_the_branches_learn_already(self):
        logits = torch.randn(1, 3, 4, dtype=torch.float64)
        expected = MarginalLoss(make_sums=plain_sums)(logits, self.target)
        assert_close(self.loss()(logits, TaughtTarget(self.target)), expected + 2 * math.log(2))
        assert_close(self.loss()(logits, self.target), expected, rtol=0, atol=0)
