"""Organ sizes: hand-counted shares, the dual against the KL it stands for, running averages, what counts and what does not."""

import math

import pytest
import torch
from builders import fully_annotated, random_case, target_of
from torch.testing import assert_close

from nnunet_partial.losses import (
    MarginalLoss,
    OrganSizes,
    PriorAwareLoss,
    logits_on_candidates,
    organ_shares,
    plain_sums,
    size_prior_loss,
)
from nnunet_partial.targets import PartialTarget, TaughtTarget, unannotated_organs

SUPERVISED = MarginalLoss(make_sums=plain_sums)


def kl(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    return q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()


class TestShares:
    def test_two_voxels_by_hand(self):
        """The first is background or class 2, the second was drawn as class 1."""
        p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], dtype=torch.float64)
        target = target_of(torch.tensor([[[0, 1]]]), ({0: {0, 2}}, {1}), num_classes=3)
        assert_close(organ_shares(p.log().T[None], target), torch.tensor([[0.5, 0.3]], dtype=torch.float64))
        assert unannotated_organs(target).tolist() == [[False, True]]

    def test_annotated_organs_have_their_annotated_share(self):
        logits, target = random_case(1)
        shares = organ_shares(logits, target)
        for case, organs in ((0, (1, 2, 3, 4)), (1, (1,))):
            for organ in organs:
                assert_close(shares[case, organ - 1], (target.labels[case] == organ).double().mean())

    def test_a_union_and_what_was_not_looked_for_are_unannotated(self):
        assert unannotated_organs(random_case(1)[1]).tolist() == [[False] * 4, [False, True, True, True]]

    def test_the_ignore_label(self):
        labels, tables = torch.tensor([[[0, 1, 2, 2]]]), torch.tensor([[[1, 0], [0, 1], [1, 1]]]).bool()
        target = PartialTarget(labels, tables, torch.ones(1, 3).bool(), ignore_label=2)
        assert unannotated_organs(target).tolist() == [[False]]
        assert_close(organ_shares(torch.randn(1, 2, 4), target), torch.tensor([[0.5]]))

    def test_gradcheck_and_no_gradient_from_what_is_known(self):
        logits, target = random_case(3, shape=(2, 3))
        torch.autograd.gradcheck(lambda z: organ_shares(z, target), logits.requires_grad_())
        organ_shares(logits, target).sum().backward()
        assert (logits.grad[0] == 0).all()
        assert (logits.grad[1][~target.tables[1][target.labels[1, 0].long()].movedim(-1, 0)] == 0).all()

    def test_finite_in_half_precision(self):
        logits, target = random_case(2, scale=1e4)
        shares = organ_shares(logits.half(), target)
        assert shares.dtype == torch.float32
        assert shares.isfinite().all()

    def test_no_patch_at_all(self):
        logits, target = random_case(2)
        none = PartialTarget(target.labels[:0], target.tables[:0], target.annotated[:0])
        assert organ_shares(logits[:0], none).shape == (0, 4)

    def test_bad_shapes_are_refused(self):
        logits, target = random_case(2)
        with pytest.raises(ValueError, match="must agree as"):
            organ_shares(logits[..., :2], target)


class TestSizePrior:
    prior = torch.tensor([0.1, 0.02, 0.3], dtype=torch.float64)

    def test_one_organ_by_hand(self):
        """q = 0.25, average 0.5, one patch of 0.4: v = m = -2."""
        shares, unannotated = torch.tensor([[0.4]]).double(), torch.ones(1, 1).bool()
        found = size_prior_loss(shares, unannotated, torch.tensor([0.25]).double(), torch.tensor([0.5]).double())
        dual = 0.25 * (0.4 * -2 + 1 + math.log(2)) + 0.75 * (0.6 * -2 + 1 + math.log(2))
        assert float(found) == pytest.approx(dual + 0.25 * math.log(0.25) + 0.75 * math.log(0.75))

    def test_at_its_optimum_the_dual_is_the_kl_and_so_is_its_slope(self):
        shares = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
        average = shares.mean(0)
        found = size_prior_loss(shares, torch.ones(5, 3).bool(), self.prior, average)
        expected = kl(self.prior, average).sum()
        assert_close(found, expected)
        assert_close(*(torch.autograd.grad(value, shares, retain_graph=True)[0] for value in (found, expected)))

    def test_no_other_dual_is_larger(self):
        shares, every = torch.rand(5, 3, dtype=torch.float64), torch.ones(5, 3).bool()
        best = size_prior_loss(shares, every, self.prior, shares.mean(0))
        for other in torch.rand(20, 3, dtype=torch.float64):
            assert size_prior_loss(shares, every, self.prior, other) < best

    def test_a_moving_average_is_a_step_of_ascent(self):
        """Along the slope of the dual in u, by the step size of the module's docstring."""
        share, u, q = torch.tensor([[0.2]]).double(), torch.tensor([0.05]).double(), torch.tensor([0.1]).double()

        def dual(x):
            return q * (-share[0] / x + 1 - x.log()) + (1 - q) * (-(1 - share[0]) / (1 - x) + 1 - (1 - x).log())

        slope = torch.autograd.functional.jacobian(dual, u)[0]
        step = (1 - 0.9) / (q / u**2 + (1 - q) / (1 - u) ** 2)
        assert_close(u + step * slope, 0.9 * u + 0.1 * share[0])

    def test_agreement_costs_nothing_and_has_no_slope(self):
        shares = self.prior.repeat(2, 1).requires_grad_()
        loss = size_prior_loss(shares, torch.ones(2, 3).bool(), self.prior, self.prior)
        loss.backward()
        assert_close(loss, torch.zeros((), dtype=torch.float64))
        assert_close(shares.grad, torch.zeros_like(shares))

    @pytest.mark.parametrize(("average", "sign"), [(0.05, -1), (0.2, 1)])
    def test_too_small_grows_and_too_large_shrinks(self, average, sign):
        shares = torch.tensor([[0.15]], requires_grad=True)
        size_prior_loss(shares, torch.ones(1, 1).bool(), torch.tensor([0.1]), torch.tensor([average])).backward()
        assert torch.sign(shares.grad) == sign

    def test_annotated_organs_do_not_count(self):
        shares = torch.rand(2, 3, requires_grad=True)
        unannotated = torch.tensor([[True, False, False], [True, True, False]])
        size_prior_loss(shares, unannotated, self.prior.float(), torch.full((3,), 0.5)).backward()
        assert torch.equal(shares.grad != 0, unannotated)

    def test_nothing_unannotated_gives_zero_with_a_graph(self):
        shares = torch.rand(2, 3, requires_grad=True)
        loss = size_prior_loss(shares, torch.zeros(2, 3).bool(), torch.zeros(3), torch.zeros(3))
        loss.backward()
        assert loss == 0
        assert (shares.grad == 0).all()

    def test_gradcheck(self):
        shares = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
        average, every = torch.rand(3, dtype=torch.float64), torch.ones(2, 3).bool()
        torch.autograd.gradcheck(lambda s: size_prior_loss(s, every, self.prior, average), shares)

    def test_finite_at_the_edges(self):
        edges = torch.tensor([0.0, 1.0])
        for prior in (edges, 1 - edges):
            shares = edges[None].clone().requires_grad_()
            loss = size_prior_loss(shares, torch.ones(1, 2).bool(), prior, edges)
            loss.backward()
            assert loss.isfinite()
            assert shares.grad.isfinite().all()

    def test_bad_shapes_are_refused(self):
        with pytest.raises(ValueError, match="must be"):
            size_prior_loss(torch.rand(2, 3), torch.ones(2, 3).bool(), torch.rand(2), torch.rand(3))


class TestSizes:
    def test_averages_by_hand(self):
        sizes = OrganSizes(2, decay=0.75)
        sizes.update(torch.tensor([[0.4, 0.1], [0.2, 0.3]]), torch.tensor([[False, True], [False, False]]))
        assert_close(sizes.annotated, torch.tensor([0.3, 0.3]))
        assert_close(sizes.predicted, torch.tensor([0.0, 0.1]))
        for share in (0.3, 0.5, 0.7, 0.9):
            sizes.update(torch.tensor([[0.0, share]]), torch.tensor([[False, True]]))
        assert_close(sizes.annotated, torch.tensor([0.1, 0.3]))  # 0.4, 0.2 and four times 0
        assert_close(sizes.num_annotated, torch.tensor([6.0, 1.0]))
        of_four = (0.1 + 0.3 + 0.5 + 0.7) / 4
        assert_close(sizes.predicted, torch.tensor([0.0, 0.75 * of_four + 0.25 * 0.9]))  # a mean of four, then it forgets
        assert_close(sizes.num_predicted, torch.tensor([0.0, 5.0]))

    def test_what_overflowed_is_left_out(self):
        sizes = OrganSizes(1)
        shares = torch.tensor([[0.2], [math.nan], [math.inf]])
        assert sizes.update(shares, torch.tensor([[False], [False], [True]])).tolist() == [1]
        assert (sizes.annotated.item(), sizes.num_annotated.item()) == (pytest.approx(0.2), 1)
        assert (sizes.predicted.item(), sizes.num_predicted.item()) == (0, 0)

    def test_they_take_no_graph(self):
        sizes, shares = OrganSizes(1), torch.rand(1, 1, requires_grad=True)
        sizes.update(shares, torch.ones(1, 1).bool())
        assert not sizes.predicted.requires_grad


class TestModule:
    def loss(self, **options) -> PriorAwareLoss:
        options = {"weight_size_prior": 2.0, "num_random_patches": 2, **options}
        return PriorAwareLoss(SUPERVISED, OrganSizes(4).double(), **options)

    def test_is_the_loss_by_annotation_and_the_prior(self):
        logits, target = random_case(1)
        loss = self.loss()
        found = loss(logits, TaughtTarget(target, 0.5))
        shares, unannotated = organ_shares(logits, target), unannotated_organs(target)
        assert_close(loss.sizes.annotated, torch.cat([shares[:, 0].mean(0, keepdim=True), shares[0, 1:]]))
        expected = kl(loss.sizes.annotated[1:], shares[1, 1:]).sum()
        assert_close(found, SUPERVISED(logits, target) + 0.5 * 2 * expected)
        assert torch.equal(unannotated[1], torch.tensor([False, True, True, True]))

    def test_patches_centred_on_organs_do_not_count(self):
        logits, target = random_case(1)
        loss = self.loss(num_random_patches=1)
        assert_close(loss(logits, TaughtTarget(target)), SUPERVISED(logits, target))  # the first case has all organs annotated
        assert loss.sizes.num_predicted.sum() == 0
        assert loss.sizes.num_annotated.tolist() == [1] * 4

    def test_an_organ_without_a_usual_size_has_no_prior(self):
        logits, target = random_case(1)
        second = PartialTarget(target.labels[1:], target.tables[1:], target.annotated[1:])
        loss = self.loss(num_random_patches=1)
        assert_close(loss(logits[1:], TaughtTarget(second)), SUPERVISED(logits[1:], second))
        assert loss.sizes.num_predicted.tolist() == [0, 1, 1, 1]

    def test_before_it_begins_sizes_are_only_counted(self):
        logits, target = random_case(1)
        loss = self.loss()
        assert_close(loss(logits, TaughtTarget(target, 0.0)), SUPERVISED(logits, target), rtol=0, atol=0)
        assert loss.sizes.num_predicted.tolist() == [0, 1, 1, 1]

    def test_in_validation_nothing_is_counted(self):
        logits, target = random_case(1)
        loss = self.loss()
        assert_close(loss(logits, target), SUPERVISED(logits, target), rtol=0, atol=0)
        assert loss.sizes.num_annotated.sum() == 0

    def test_fully_annotated_it_changes_nothing(self):
        logits, target = random_case(1)
        target = fully_annotated(target.labels, 5)
        assert_close(self.loss()(logits, TaughtTarget(target)), SUPERVISED(logits, target))

    def test_moving_probability_out_of_the_candidates_changes_nothing(self):
        """The prior shares out what the candidate set holds; how much that is, it leaves to the marginal loss."""
        logits, target = random_case(1)
        outside = ~logits_on_candidates(logits, target).isfinite()
        priors = [
            self.loss()(z, TaughtTarget(target)) - SUPERVISED(z, target) for z in (logits, logits.where(~outside, logits + 1))
        ]
        assert_close(*priors)

    def test_no_random_patch_on_this_gpu(self):
        logits, target = random_case(1)
        loss = self.loss(num_random_patches=0)(logits.requires_grad_(), TaughtTarget(target))
        loss.backward()
        assert_close(loss, SUPERVISED(logits, target))
