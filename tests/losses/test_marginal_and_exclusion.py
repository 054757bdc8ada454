"""The four terms of Shi et al. 2021 and their sums: against the equations, against nnU-Net, and by their properties."""

import math

import pytest
import torch
from builders import fully_annotated, random_case, slow_terms, target_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.loss.robust_ce_loss import RobustCrossEntropyLoss
from nnunetv2.utilities.helpers import softmax_helper_dim1

from nnunet_partial.losses import (
    MarginalExclusionLoss,
    MarginalLoss,
    exclusion_cross_entropy,
    exclusion_dice_loss,
    marginal_cross_entropy,
    marginal_dice_loss,
)
from nnunet_partial.targets import PartialTarget

TERMS = {
    "ce": marginal_cross_entropy,
    "dice": marginal_dice_loss,
    "exclusion_ce": exclusion_cross_entropy,
    "exclusion": exclusion_dice_loss,
}
EVERY_LOSS = {**TERMS, "MarginalLoss": MarginalLoss(), "MarginalExclusionLoss": MarginalExclusionLoss(batch_dice=True)}
every_loss = pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS.keys())


def voxel(*logits: float) -> torch.Tensor:
    return torch.tensor(logits, dtype=torch.float64).view(1, -1, 1)


class TestHandComputed:
    def test_merged_background_of_the_design(self):
        """[2, 1, -3, -3] with the last two unannotated: 0.734, where a sum of raw logits would give 0.007."""
        target = target_of(torch.zeros(1, 1, 1, dtype=torch.int16), ({0: {0, 2, 3}}, {1}), num_classes=4)
        total = sum(math.exp(z) for z in (2, 1, -3, -3))
        expected = (math.exp(2) + 2 * math.exp(-3)) / total
        assert expected == pytest.approx(0.734, abs=5e-4)
        assert math.exp(-marginal_cross_entropy(voxel(2, 1, -3, -3), target)) == pytest.approx(expected, rel=1e-12)

    def test_union_label_is_the_sum_of_its_classes(self):
        target = target_of(torch.ones(1, 1, 1, dtype=torch.int16), ({0: {0}, 1: {1, 2}}, {1}), num_classes=3)
        total = sum(math.exp(z) for z in (0.5, 1.0, -1.0))
        assert marginal_cross_entropy(voxel(0.5, 1, -1), target).item() == pytest.approx(
            -math.log((math.exp(1) + math.exp(-1)) / total)
        )

    def test_dice_of_two_voxels(self):
        """p(organ) = 3/4 on the organ and 1/4 beside it: I = 3/4, P = 1, N = 1."""
        logits = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]], dtype=torch.float64)
        target = fully_annotated(torch.tensor([[[1, 0]]]), 2)
        assert marginal_dice_loss(logits, target, smooth=0).item() == pytest.approx(1 - 2 * 0.75 / 2)

    def test_exclusion_of_two_voxels(self):
        """Organ 1 is labelled on the first voxel, so background and organ 2 are excluded there; organ 1 itself is not."""
        p = torch.tensor([[[0.2, 0.5], [0.5, 0.25], [0.3, 0.25]]], dtype=torch.float64)
        target = target_of(torch.tensor([[[1, 0]]]), ({0: {0, 2}}, {1}), num_classes=3)
        dice = (2 * 0.2 / (1 + 0.7) + 2 * 0.3 / (1 + 0.55)) / 2
        assert exclusion_dice_loss(p.log(), target, smooth=0).item() == pytest.approx(dice)
        assert exclusion_cross_entropy(p.log(), target).item() == pytest.approx((math.log(1.2) + math.log(1.3)) / 2)

    def test_weights_of_the_sum(self):
        logits, target = random_case(3)
        term = {name: function(logits, target).item() for name, function in TERMS.items()}
        expected = 1 * (term["ce"] + term["dice"]) + 2 * (term["exclusion_ce"] + term["exclusion"])
        assert MarginalExclusionLoss()(logits, target).item() == pytest.approx(expected)


class TestAgainstTheEquations:
    @pytest.mark.parametrize("batch_dice", [False, True])
    @pytest.mark.parametrize("seed", range(4))
    def test_slow_loops(self, seed, batch_dice):
        logits, target = random_case(seed)
        expected = slow_terms(logits, target, batch_dice=batch_dice)
        assert marginal_cross_entropy(logits, target).item() == pytest.approx(expected["ce"], rel=1e-9)
        assert exclusion_cross_entropy(logits, target).item() == pytest.approx(expected["exclusion_ce"], rel=1e-9)
        assert marginal_dice_loss(logits, target, batch_dice=batch_dice).item() == pytest.approx(expected["dice"], rel=1e-9)
        assert exclusion_dice_loss(logits, target, batch_dice=batch_dice).item() == pytest.approx(expected["exclusion"], rel=1e-9)

    def test_slow_loops_with_ignored_voxels(self):
        logits, target = random_case(7)
        labels = target.labels.clone()
        labels[:, :, :2] = 5
        rows = ({5: set(range(5))}, {1, 2, 3, 4}), ({0: {0, 4}, 2: {2, 3}, 5: set(range(5))}, {1, 2})
        ignoring = target_of(labels, *rows, num_classes=5, ignore_label=5)
        expected = slow_terms(logits, ignoring, batch_dice=False)
        for name, function in TERMS.items():
            assert function(logits, ignoring).item() == pytest.approx(expected[name], rel=1e-9), name


class TestAgainstTheHost:
    @pytest.mark.parametrize("batch_dice", [False, True])
    @pytest.mark.parametrize("shape", [(7, 6, 5), (9, 8)])
    def test_fully_annotated_equals_nnunet(self, batch_dice, shape):
        torch.manual_seed(1)
        logits = torch.randn(2, 5, *shape, requires_grad=True)
        labels = torch.randint(0, 5, (2, 1, *shape))
        target = fully_annotated(labels, 5)
        host_dice = MemoryEfficientSoftDiceLoss(softmax_helper_dim1, batch_dice=batch_dice, do_bg=False, smooth=1e-5, ddp=False)
        torch.testing.assert_close(marginal_cross_entropy(logits, target), RobustCrossEntropyLoss()(logits, labels))
        torch.testing.assert_close(marginal_dice_loss(logits, target, batch_dice=batch_dice), 1 + host_dice(logits, labels))
        host = DC_and_CE_loss(
            {"batch_dice": batch_dice, "do_bg": False, "smooth": 1e-5, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
        )
        (expected,) = torch.autograd.grad(host(logits, labels), logits)
        (gradient,) = torch.autograd.grad(MarginalLoss(batch_dice=batch_dice)(logits, target), logits)
        torch.testing.assert_close(gradient, expected)

    def test_ignore_label_equals_nnunet(self):
        torch.manual_seed(2)
        logits, labels = torch.randn(2, 4, 6, 6, 6), torch.randint(0, 5, (2, 1, 6, 6, 6))
        target = target_of(labels, *[({4: set(range(4))}, {1, 2, 3})] * 2, num_classes=4, ignore_label=4)
        dice = {"batch_dice": False, "do_bg": False, "smooth": 1e-5, "ddp": False}
        host = DC_and_CE_loss(dice, {}, ignore_label=4, dice_class=MemoryEfficientSoftDiceLoss)
        torch.testing.assert_close(MarginalLoss()(logits, target), 1 + host(logits, labels))


class TestProperties:
    @every_loss
    def test_all_candidates_give_zero_loss_and_zero_gradient(self, loss):
        logits = torch.randn(2, 4, 3, 3, 3, requires_grad=True)
        target = target_of(torch.zeros(2, 1, 3, 3, 3, dtype=torch.int16), *[({0: {0, 1, 2, 3}}, set())] * 2, num_classes=4)
        value = loss(logits, target)
        value.backward()  # the graph is kept
        assert value.item() == 0
        assert not logits.grad.any()

    @pytest.mark.parametrize("loss", [marginal_cross_entropy, marginal_dice_loss, MarginalLoss()])
    @given(seed=st.integers(0, 10_000))
    @settings(max_examples=20)
    def test_moving_probability_inside_the_candidate_set_changes_nothing(self, loss, seed):
        logits, target = random_case(seed)
        case = PartialTarget(target.labels[1:], target.tables[1:], target.annotated[1:])  # {0, 4} and {2, 3} are sets there
        p = logits[1:].softmax(1)
        moved = p.clone()
        share = torch.rand(p[:, :1].shape, dtype=p.dtype, generator=torch.Generator().manual_seed(seed))
        for one, other in ((0, 4), (2, 3)):
            both = p[:, one] + p[:, other]
            moved[:, one], moved[:, other] = both * share[:, 0], both * (1 - share[:, 0])
        torch.testing.assert_close(loss(moved.log(), case), loss(p.log(), case))

    @given(seed=st.integers(0, 10_000), extra=st.integers(0, 4), row=st.integers(0, 4))
    @settings(max_examples=30)
    def test_a_larger_candidate_set_never_costs_more(self, seed, extra, row):
        logits, target = random_case(seed)
        tables = target.tables.clone()
        tables[:, row, extra] = True
        larger = PartialTarget(target.labels, tables, target.annotated)
        assert marginal_cross_entropy(logits, larger) <= marginal_cross_entropy(logits, target) + 1e-12
        assert exclusion_cross_entropy(logits, larger) <= exclusion_cross_entropy(logits, target) + 1e-12

    def test_an_unannotated_class_gets_no_push_where_it_is_a_candidate(self):
        """On merged background the marginal loss pushes background and unannotated organ alike: nothing tells them apart."""
        logits = torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64).view(1, 3, 1, 1).repeat(1, 1, 4, 4).requires_grad_()
        target = target_of(torch.zeros(1, 1, 4, 4, dtype=torch.int16), ({0: {0, 2}}, {1}), num_classes=3)
        MarginalLoss()(logits, target).backward()
        torch.testing.assert_close(logits.grad[:, 0], logits.grad[:, 2])
        assert (logits.grad[:, 2] < 0).all()  # away from organ 1, towards either

    def test_an_unannotated_class_is_pushed_down_on_a_labelled_organ_only(self):
        logits = torch.zeros(1, 3, 1, 2, dtype=torch.float64, requires_grad=True)
        target = target_of(torch.tensor([[[[1, 0]]]]), ({0: {0, 2}}, {1}), num_classes=3)
        exclusion_cross_entropy(logits, target).backward()
        assert logits.grad[0, 2, 0, 0] > 0
        assert not logits.grad[0, :, 0, 1].any()

    def test_a_perfect_prediction_costs_nothing(self):
        _, target = random_case(5)
        one_hot = torch.nn.functional.one_hot(target.labels[:, 0].long(), 5).movedim(-1, 1)
        assert MarginalExclusionLoss()(60.0 * one_hot, target).item() == pytest.approx(0, abs=1e-6)

    def test_the_scale_does_not_depend_on_how_many_classes_are_annotated(self):
        logits = torch.zeros(1, 5, 8, 8)
        labels = torch.zeros(1, 1, 8, 8, dtype=torch.int16)
        labels[..., :2] = 1
        one = target_of(labels, ({0: {0, 2, 3, 4}}, {1}), num_classes=5)
        assert marginal_dice_loss(logits, one).item() == pytest.approx(1 - 2 * 16 * 0.2 / (64 * 0.2 + 16), rel=1e-5)

    @pytest.mark.parametrize("batch_dice", [False, True])
    def test_a_class_that_was_looked_for_counts_even_where_the_patch_has_none(self, batch_dice):
        logits = torch.zeros(1, 2, 4, 4)
        absent = fully_annotated(torch.zeros(1, 1, 4, 4, dtype=torch.int16), 2)
        assert marginal_dice_loss(logits, absent, batch_dice=batch_dice).item() == pytest.approx(1, abs=1e-5)


class TestNumerics:
    @pytest.mark.parametrize("batch_dice", [False, True])
    def test_gradcheck(self, batch_dice):
        logits, target = random_case(11, shape=(2, 3, 2))
        logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda z: marginal_cross_entropy(z, target), logits)
        assert torch.autograd.gradcheck(lambda z: marginal_dice_loss(z, target, batch_dice=batch_dice), logits)
        assert torch.autograd.gradcheck(lambda z: exclusion_cross_entropy(z, target), logits)
        assert torch.autograd.gradcheck(lambda z: exclusion_dice_loss(z, target, batch_dice=batch_dice), logits)
        assert torch.autograd.gradcheck(lambda z: MarginalExclusionLoss(batch_dice=batch_dice)(z, target), logits)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @every_loss
    def test_half_precision_is_computed_in_float32(self, loss, dtype):
        logits, target = random_case(4, dtype=torch.float32, scale=30)
        logits = logits.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(logits, target)
        value.backward()
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(logits.detach().float(), target))
        assert logits.grad.isfinite().all()

    def test_logits_80_apart_still_have_a_gradient(self):
        """A summed softmax is 0 in float32 here, and its logarithm has no gradient left."""
        logits = torch.tensor([0.0, 120.0, 0.0]).view(1, 3, 1).requires_grad_()
        target = target_of(torch.zeros(1, 1, 1, dtype=torch.int16), ({0: {0, 2}}, {1}), num_classes=3)
        value = marginal_cross_entropy(logits, target)
        value.backward()
        assert value.item() == pytest.approx(120 - math.log(2), rel=1e-6)
        torch.testing.assert_close(logits.grad.flatten(), torch.tensor([-0.5, 1.0, -0.5]))

    @every_loss
    def test_non_contiguous_logits(self, loss):
        logits, target = random_case(6)
        strided = logits.movedim(1, -1).contiguous().movedim(-1, 1)
        assert not strided.is_contiguous()
        torch.testing.assert_close(loss(strided, target), loss(logits, target))


class TestRefusals:
    @every_loss
    def test_bad_shapes(self, loss):
        logits, target = random_case(0)
        with pytest.raises(ValueError, match="C = 4 channels"):
            loss(logits[:, :4], target)
        with pytest.raises(ValueError, match="must agree"):
            loss(logits[:, :, :-1], target)
        with pytest.raises(ValueError, match="must agree"):
            loss(logits[:1], target)

    def test_soft_tables(self):
        logits, target = random_case(0)
        with pytest.raises(ValueError, match="soft_cross_entropy"):
            marginal_cross_entropy(logits, PartialTarget(target.labels, target.tables.float(), target.annotated))
