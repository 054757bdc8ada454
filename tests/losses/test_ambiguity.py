"""The ambiguity loss of Petit et al. 2021: against the equations, against torch and nnU-Net, and its one-pass version."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import afresh, fully_annotated, random_case, target_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from benchmarks.loss_memory import kept_bytes
from nnunet_partial.losses import (
    AmbiguityLoss,
    ambiguity_bce_loss,
    ambiguity_dice_loss,
    ambiguity_piece,
    fused_ambiguity,
    fused_ambiguity_sums,
    plain_ambiguity_sums,
)
from nnunet_partial.losses.ambiguity_piece import AmbiguityPiece
from nnunet_partial.targets import PartialTarget, ambiguity_map

BCE = {"plain": ambiguity_bce_loss, "fused": AmbiguityLoss()}
DICE = {"plain": ambiguity_dice_loss, "fused": AmbiguityLoss(weight_ce=0.0, weight_dice=1.0)}
BOTH = {
    "plain": AmbiguityLoss(weight_dice=1.0, batch_dice=True, make_sums=plain_ambiguity_sums),
    "fused": AmbiguityLoss(weight_dice=1.0, batch_dice=True),
}
EVERY_LOSS = {f"{way}-{name}": losses[way] for name, losses in (("bce", BCE), ("dice", DICE), ("both", BOTH)) for way in BCE}
every_bce = pytest.mark.parametrize("bce", BCE.values(), ids=BCE.keys())
every_dice = pytest.mark.parametrize("dice", DICE.values(), ids=DICE.keys())
every_loss = pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS.keys())
every_sum = pytest.mark.parametrize("weight_dice", [0, 1], ids=["bce", "both"])
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(autouse=True)
def several_pieces_a_case(monkeypatch):
    """Pieces of a few voxels, so that a small case has many, the last one shorter."""
    monkeypatch.setattr(ambiguity_piece, "SMALLEST_PIECE", 2000)
    monkeypatch.setattr(ambiguity_piece, "PIECES", 7)


@pytest.fixture(params=["by_piece", "by_label"])
def form(request, monkeypatch):
    """Both forms on the CPU; a GPU takes the second."""
    if request.param == "by_label":

        def one_piece(z, labels, signs):
            return [AmbiguityPiece.by_label(slice(None), z.to(signs.dtype), labels, signs)]

        monkeypatch.setattr(fused_ambiguity, "pieces", one_piece)


def value_and_gradient(loss, logits: torch.Tensor, target: PartialTarget, scale: float = 1.0) -> tuple:
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, target)
    (scale * value).backward()
    return value.detach(), leaf.grad


def assert_equals_plain(logits, target, *, weight_dice: float, **tolerance):
    found = value_and_gradient(AmbiguityLoss(weight_dice=weight_dice), logits, target)
    plain = AmbiguityLoss(weight_dice=weight_dice, make_sums=plain_ambiguity_sums)
    assert_close(found, value_and_gradient(plain, logits, target), **tolerance)


def ignoring_case(seed: int, *, shape=(4, 5, 3)) -> tuple[torch.Tensor, PartialTarget]:
    """`random_case`, a half of its voxels ignored."""
    logits, target = random_case(seed, shape=shape)
    labels = target.labels.clone()
    labels[:, :, : shape[0] // 2] = 5
    every = set(range(5))
    rows = ({5: every}, {1, 2, 3, 4}), ({0: {0, 4}, 2: {2, 3}, 5: every}, {1, 2})
    return logits, target_of(labels, *rows, num_classes=5, ignore_label=5)


def many_labels(num_organs: int, *, shape=(9, 8, 7), share: float = 0.5, ignoring: bool = False) -> tuple:
    """Three cases of K organs: all annotated; half of them, the rest pseudo-labelled, and a union; none."""
    generator = torch.Generator().manual_seed(num_organs)
    num_classes = num_organs + 1
    logits = 3 * torch.randn(3, num_classes, *shape, generator=generator)
    labels = torch.randint(1, num_classes + ignoring, (3, 1, *shape), generator=generator).to(torch.int16)
    labels[torch.rand(labels.shape, generator=generator) >= share] = 0
    labels[2][labels[2] <= num_organs] = 0
    half = range(1, num_organs // 2 + 1)
    unknown = {0, *range(len(half) + 1, num_classes)}
    every = set(range(num_classes))
    ignored = {num_classes: every} if ignoring else {}
    union = {1: {1, num_organs}} if num_organs > 3 else {}
    partly = {0: unknown - union.get(1, set()), **union, **ignored}
    rows = (ignored, every - {0}), (partly, set(half)), ({0: every, **ignored}, set())
    options = {"ignore_label": num_classes} if ignoring else {}
    return logits, target_of(labels, *rows, num_classes=num_classes, **options)


def slow_terms(logits: torch.Tensor, target: PartialTarget, *, batch_dice: bool, smooth: float = 1e-5) -> dict[str, float]:
    """Both terms by loops over cases, voxels and classes in float64, from sigmoids and candidate sets."""
    z = logits.double().flatten(2).tolist()
    labels = target.labels.flatten(1).tolist()
    num_classes, bce, counted = target.num_classes, 0.0, 0
    sums = {}  # (case or None, class) -> [intersection, predicted, reference]
    for b, case_labels in enumerate(labels):
        sets = [{n for n in range(num_classes) if target.tables[b, i, n]} for i in range(target.num_label_ids)]
        own = {k for i in range(1, len(sets)) for k in sets[i] if target.annotated[b, i] and sets[i] == {k}}
        for v, label in enumerate(case_labels):
            if label == target.ignore_label:
                continue
            counted += 1
            for k in range(1, num_classes):
                if k in sets[label] and len(sets[label]) > 1:
                    continue
                p = 1 / (1 + math.exp(z[b][0][v] - z[b][k][v]))
                here = sets[label] == {k}
                bce -= math.log(p if here else 1 - p)
                if k in own:
                    entry = sums.setdefault((None if batch_dice else b, k), [0.0, 0.0, 0])
                    entry[0] += p * here
                    entry[1] += p
                    entry[2] += here
    dice = [1 - (2 * i + smooth) / (p + r + smooth) for i, p, r in sums.values()]
    return {"bce": bce / max(counted, 1), "dice": sum(dice) / max(len(dice), 1)}


def voxel(*logits: float) -> torch.Tensor:
    return torch.tensor(logits, dtype=torch.float64).view(1, -1, 1)


@pytest.mark.usefixtures("form")
class TestHandComputed:
    """Binary probabilities 3/4, 1/2 and 1/5 of organs 1 to 3: gaps to background of log 3, 0 and -log 4."""

    GAPS = (0.5, 0.5 + math.log(3), 0.5, 0.5 - math.log(4))

    @every_bce
    @pytest.mark.parametrize(
        ("label", "rows", "expected"),
        [
            (0, {}, [1 / 4, 1 / 2, 4 / 5]),
            (0, {0: {0, 2}}, [1 / 4, 4 / 5]),
            (0, {0: {0, 1, 3}}, [1 / 2]),
            (1, {}, [3 / 4, 1 / 2, 4 / 5]),
            (1, {0: {0, 2, 3}}, [3 / 4, 1 / 2, 4 / 5]),
            (3, {}, [1 / 4, 1 / 2, 1 / 5]),
            (2, {2: {2, 3}}, [1 / 4]),
            (0, {0: {0, 1, 2, 3}}, []),
        ],
        ids=[
            "background",
            "one unannotated",
            "two unannotated",
            "organ",
            "organ beside unannotated",
            "another",
            "union",
            "nothing",
        ],
    )
    def test_a_voxel(self, bce, label, rows, expected):
        target = target_of(torch.full((1, 1, 1), label), (rows, {1}), num_classes=4)
        assert bce(voxel(*self.GAPS), target).item() == pytest.approx(-sum(map(math.log, expected)), rel=1e-12, abs=1e-15)

    @every_bce
    def test_the_mean_is_over_voxels_that_are_not_ignored(self, bce):
        labels = torch.tensor([[[0, 4, 4]]])
        target = target_of(labels, ({4: {0, 1, 2, 3}}, {1, 2, 3}), num_classes=4, ignore_label=4)
        logits = voxel(*self.GAPS).repeat(1, 1, 3)
        assert bce(logits, target).item() == pytest.approx(-math.log(1 / 4 * 1 / 2 * 4 / 5))

    @every_dice
    def test_dice_of_two_voxels(self, dice):
        """sigmoid(d) = 3/4 on the organ and 1/4 beside it: I = 3/4, P = 1, N = 1."""
        logits = torch.tensor([[[0.0, 0.0], [math.log(3), -math.log(3)]]], dtype=torch.float64)
        target = fully_annotated(torch.tensor([[[1, 0]]]), 2)
        assert dice(logits, target).item() == pytest.approx(1 - 2 * 0.75 / 2, rel=1e-4)  # smoothed

    @every_dice
    def test_dice_leaves_out_what_is_ambiguous_and_who_has_no_id_of_its_own(self, dice):
        """Organs 2 and 3 are one union on the second voxel, so only organ 1 has a Dice; id 3 was never looked for."""
        logits = torch.tensor([0.0, math.log(3), 5.0, 5.0], dtype=torch.float64).view(1, 4, 1).repeat(1, 1, 3)
        target = target_of(torch.tensor([[[1, 2, 0]]]), ({0: {0}, 2: {2, 3}}, {1, 2}), num_classes=4)
        assert dice(logits, target).item() == pytest.approx(1 - 2 * 0.75 / (3 * 0.75 + 1), rel=1e-4)

    def test_weights_of_the_sum(self):
        logits, target = random_case(3)
        expected = 2 * ambiguity_bce_loss(logits, target) + 3 * ambiguity_dice_loss(logits, target)
        assert_close(AmbiguityLoss(weight_ce=2, weight_dice=3)(logits, target), expected)
        assert_close(AmbiguityLoss()(logits, target), ambiguity_bce_loss(logits, target))

    def test_dice_is_not_computed_without_a_weight(self, monkeypatch):
        monkeypatch.setattr("nnunet_partial.losses.ambiguity.dice_of", None)
        AmbiguityLoss()(*random_case(0))

    def test_the_module_takes_either_way(self):
        assert AmbiguityLoss().make_sums is fused_ambiguity_sums
        assert AmbiguityLoss(make_sums=plain_ambiguity_sums).make_sums is plain_ambiguity_sums


class TestAgainstTheEquations:
    @pytest.mark.usefixtures("form")
    @pytest.mark.parametrize("case", [random_case, ignoring_case])
    @pytest.mark.parametrize("seed", range(4))
    @every_bce
    def test_slow_loops(self, bce, seed, case):
        logits, target = case(seed)
        expected = slow_terms(logits, target, batch_dice=False)["bce"]
        assert bce(logits, target).item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.usefixtures("form")
    @pytest.mark.parametrize("case", [random_case, ignoring_case])
    @pytest.mark.parametrize("batch_dice", [False, True])
    @pytest.mark.parametrize("seed", range(4))
    def test_slow_loops_of_dice(self, seed, batch_dice, case):
        logits, target = case(seed)
        expected = slow_terms(logits, target, batch_dice=batch_dice)
        assert ambiguity_dice_loss(logits, target, batch_dice=batch_dice).item() == pytest.approx(expected["dice"], rel=1e-9)
        both = AmbiguityLoss(weight_dice=1, batch_dice=batch_dice)
        assert both(logits, target).item() == pytest.approx(expected["bce"] + expected["dice"], rel=1e-9)

    def test_the_map_is_where_a_gap_has_a_gradient(self):
        """The gradient of z_k is not zero exactly where W of eq. (2) is 1."""
        logits, target = ignoring_case(2)
        _, gradient = value_and_gradient(AmbiguityLoss(), logits, target)
        assert torch.equal(gradient[:, 1:] != 0, ambiguity_map(target))


class TestAgainstTorchAndTheHost:
    @pytest.mark.usefixtures("form")
    @pytest.mark.parametrize("shape", [(7, 6, 5), (9, 8)])
    @every_bce
    def test_fully_annotated_equals_binary_cross_entropy(self, bce, shape):
        torch.manual_seed(1)
        logits, labels = torch.randn(2, 5, *shape), torch.randint(0, 5, (2, 1, *shape))
        one_hot = F.one_hot(labels[:, 0], 5).movedim(-1, 1)[:, 1:].float()

        def torchs(z: torch.Tensor, _: PartialTarget) -> torch.Tensor:
            return 4 * nn.BCEWithLogitsLoss()(z[:, 1:] - z[:, :1], one_hot)  # a mean over the 4 organs; ours is a sum

        target = fully_annotated(labels, 5)
        assert_close(value_and_gradient(bce, logits, target), value_and_gradient(torchs, logits, target))

    @pytest.mark.parametrize("batch_dice", [False, True])
    def test_fully_annotated_dice_equals_nnunets(self, batch_dice):
        torch.manual_seed(2)
        logits, labels = torch.randn(2, 5, 7, 6, 5), torch.randint(0, 5, (2, 1, 7, 6, 5))
        one_hot = F.one_hot(labels[:, 0], 5).movedim(-1, 1)[:, 1:].float()
        host = MemoryEfficientSoftDiceLoss(torch.sigmoid, batch_dice=batch_dice, do_bg=True, smooth=1e-5, ddp=False)
        expected = 1 + host(logits[:, 1:] - logits[:, :1], one_hot)
        assert_close(ambiguity_dice_loss(logits, fully_annotated(labels, 5), batch_dice=batch_dice), expected)


class TestProperties:
    @pytest.mark.usefixtures("form")
    @every_loss
    def test_all_candidates_give_zero_loss_and_zero_gradient(self, loss):
        target = target_of(torch.zeros(2, 1, 3, 3, 3, dtype=torch.int16), *[({0: {0, 1, 2, 3}}, set())] * 2, num_classes=4)
        value, gradient = value_and_gradient(loss, torch.randn(2, 4, 3, 3, 3), target)  # the graph is kept
        assert value.item() == 0
        assert not gradient.any()

    @pytest.mark.usefixtures("form")
    @every_loss
    def test_only_ignored_voxels_give_zero_loss_and_zero_gradient(self, loss):
        labels = torch.full((2, 1, 3, 3, 3), 4)
        target = target_of(labels, *[({4: {0, 1, 2, 3}}, set())] * 2, num_classes=4, ignore_label=4)
        value, gradient = value_and_gradient(loss, torch.randn(2, 4, 3, 3, 3), target)
        assert value.item() == 0
        assert not gradient.any()

    @every_loss
    @given(seed=st.integers(0, 10_000))
    @settings(max_examples=20)
    def test_moving_probability_inside_the_candidate_set_changes_nothing(self, loss, seed):
        """A classifier is not heard where its organ is ambiguous; background's logit is in every gap and stays."""
        logits, target = random_case(seed)
        generator = torch.Generator().manual_seed(seed)
        heard = F.pad(ambiguity_map(target), (0, 0, 0, 0, 0, 0, 1, 0), value=True)
        moved = torch.where(heard, logits, 5 * torch.randn(logits.shape, dtype=logits.dtype, generator=generator))
        assert (moved != logits).any()
        assert_close(loss(moved, target), loss(logits, target))

    @every_bce
    @given(seed=st.integers(0, 10_000), extra=st.integers(0, 4), row=st.integers(0, 4))
    @settings(max_examples=30)
    def test_a_larger_candidate_set_never_costs_more(self, bce, seed, extra, row):
        logits, target = random_case(seed)
        tables = target.tables.clone()
        tables[:, row, extra] = True
        assert bce(logits, PartialTarget(target.labels, tables, target.annotated)) <= bce(logits, target) + 1e-12

    @pytest.mark.usefixtures("form")
    @every_loss
    def test_an_unannotated_class_gets_no_push(self, loss):
        """Not on background; where another organ is labelled, it is not, and is pushed down (table 1 b)."""
        target = target_of(torch.tensor([[[[0, 1, 0, 1]]]]), ({0: {0, 2}}, {1}), num_classes=3)
        _, gradient = value_and_gradient(loss, torch.randn(1, 3, 1, 4), target)
        assert gradient[0, 2, 0, [0, 2]].tolist() == [0, 0]
        if loss not in DICE.values():
            assert (gradient[0, 2, 0, [1, 3]] > 0).all()

    @every_loss
    def test_ignored_voxels_change_nothing(self, loss):
        logits, target = ignoring_case(1)
        ignored = target.labels == 5
        moved = torch.where(ignored, torch.randn_like(logits), logits)
        found, expected = value_and_gradient(loss, moved, target), value_and_gradient(loss, logits, target)
        assert_close(found, expected)
        assert not found[1].masked_select(ignored).any()

    @every_loss
    def test_a_perfect_prediction_costs_nothing(self, loss):
        """Every organ's logit has its sign; background's lies between them."""
        _, target = random_case(5)
        one_hot = F.one_hot(target.labels[:, 0].long(), 5).movedim(-1, 1)
        logits = 60.0 * (2 * one_hot - 1)
        logits[:, 0] = 0
        assert loss(logits, target).item() == pytest.approx(0, abs=1e-6)

    def test_a_class_that_was_looked_for_counts_in_dice_even_where_the_patch_has_none(self):
        absent = fully_annotated(torch.zeros(1, 1, 4, 4, dtype=torch.int16), 2)
        assert ambiguity_dice_loss(torch.zeros(1, 2, 4, 4), absent).item() == pytest.approx(1, abs=1e-5)

    @every_bce
    def test_every_known_pair_weighs_the_same(self, bce):
        """At equal logits a case's gradient is 1 / (2 voxels) at each known pair, however many organs are known."""
        labels = torch.zeros(2, 1, 2, 2, dtype=torch.int16)
        target = target_of(labels, ({}, {1, 2, 3}), ({0: {0, 2, 3}}, {1}), num_classes=4)
        _, gradient = value_and_gradient(bce, torch.zeros(2, 4, 2, 2), target)
        assert_close(gradient[:, 1:], ambiguity_map(target) * 0.5 / 8)

    def test_the_largest_logit_is_the_rule_of_the_paper(self):
        """The organ with the highest sigmoid(z_k - z_0), background where all are below 0.5 (section 3.1.1)."""
        logits = 3 * torch.randn(5, 20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        p, organ = (logits[1:] - logits[:1]).sigmoid().max(0)
        assert torch.equal(logits.argmax(0), torch.where(p > 0.5, organ + 1, 0))


class TestNumerics:
    @pytest.mark.usefixtures("form")
    @pytest.mark.parametrize("case", [random_case, ignoring_case])
    @every_bce
    def test_gradcheck(self, bce, case):
        logits, target = case(11, shape=(2, 3, 2))
        assert torch.autograd.gradcheck(afresh(bce, target), logits.requires_grad_())

    @pytest.mark.usefixtures("form")
    @pytest.mark.parametrize("case", [random_case, ignoring_case])
    @pytest.mark.parametrize("batch_dice", [False, True])
    def test_gradcheck_of_dice(self, batch_dice, case):
        logits, target = case(11, shape=(2, 3, 2))
        logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda z: ambiguity_dice_loss(z, target, batch_dice=batch_dice), logits)
        both = AmbiguityLoss(batch_dice=batch_dice, weight_dice=2)
        assert torch.autograd.gradcheck(lambda z: both(z, target), logits)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @every_loss
    def test_half_precision_is_computed_in_float32(self, loss, dtype):
        logits, target = random_case(4, dtype=torch.float32, scale=30)
        logits = logits.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradient = value_and_gradient(loss, logits, target)
        assert value.dtype == torch.float32
        assert gradient.dtype == dtype
        assert_close(value, loss(logits.float(), target))
        assert gradient.isfinite().all()

    @pytest.mark.usefixtures("form")
    @pytest.mark.parametrize("gap", [15.0, 80.0, 200.0])
    @every_bce
    def test_far_apart_logits_are_exact(self, bce, gap):
        """A wrong organ costs its gap and is pushed with full force; log(1 - sigmoid) would be infinite from 17 on."""
        logits = torch.zeros(1, 3, 4)
        logits[0, 1, 0] = gap  # nothing there
        logits[0, 2, 3] = -gap  # organ 2 is
        target = fully_annotated(torch.tensor([[[0, 0, 0, 2]]]), 3)
        value, gradient = value_and_gradient(bce, logits, target)
        assert value.item() == pytest.approx((2 * gap + 6 * math.log(2)) / 4, rel=1e-6)
        assert_close(gradient[0, :, 0], torch.tensor([-1.5, 1.0, 0.5]) / 4)
        assert_close(gradient[0, :, 3], torch.tensor([0.5, 0.5, -1.0]) / 4)

    @every_loss
    def test_non_contiguous_logits(self, loss):
        logits, target = random_case(6)
        strided = logits.movedim(1, -1).contiguous().movedim(-1, 1)
        assert not strided.is_contiguous()
        assert_close(loss(strided, target), loss(logits, target))


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

    @every_loss
    def test_soft_tables(self, loss):
        logits, target = random_case(0)
        with pytest.raises(ValueError, match="soft_cross_entropy"):
            loss(logits, PartialTarget(target.labels, target.tables.float(), target.annotated))


@pytest.mark.usefixtures("form")
class TestFusedEqualsPlain:
    @pytest.mark.parametrize("share", [0.1, 0.9])
    @pytest.mark.parametrize("ignoring", [False, True])
    @pytest.mark.parametrize("num_organs", [1, 2, 5, 40, 117])
    @every_sum
    def test_float32(self, weight_dice, num_organs, ignoring, share):
        """Where most voxels of a piece have a label, the piece goes by label as a whole."""
        logits, target = many_labels(num_organs, share=share, ignoring=ignoring)
        assert_equals_plain(logits, target, weight_dice=weight_dice, rtol=1e-5, atol=1e-8)

    @every_sum
    @given(
        seed=st.integers(0, 10_000),
        shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
        num_organs=st.integers(1, 12),
        share=st.floats(0, 1),
        ignore_label=st.sampled_from(["none", "last", "background"]),
    )
    @settings(max_examples=60)
    def test_any_shape_table_and_label(self, weight_dice, seed, shape, num_organs, share, ignore_label):
        generator = torch.Generator().manual_seed(seed)
        num_ids = num_organs + 2
        ignored = {"none": None, "last": num_ids - 1, "background": 0}[ignore_label]
        logits = 4 * torch.randn(2, num_organs + 1, *shape, generator=generator, dtype=torch.float64)
        labels = torch.randint(1, num_ids, (2, 1, *shape), generator=generator)
        labels[torch.rand(labels.shape, generator=generator) >= share] = 0
        tables = torch.rand(2, num_ids, num_organs + 1, generator=generator) < 0.4
        tables[..., 0] |= ~tables.any(2)
        annotated = torch.rand(2, num_ids, generator=generator) < 0.7
        target = PartialTarget(labels, tables, annotated, ignored)
        assert_equals_plain(logits, target, weight_dice=weight_dice, rtol=1e-9, atol=1e-14)

    @pytest.mark.parametrize("layout", ["channels_last", "permuted", "every_second_voxel"])
    @pytest.mark.parametrize("share", [0.1, 0.9])
    @every_sum
    def test_layouts(self, weight_dice, layout, share):
        logits, target = many_labels(5, share=share)
        if layout == "channels_last":
            logits = logits.contiguous(memory_format=torch.channels_last_3d)
        elif layout == "permuted":
            logits = logits.permute(0, 4, 1, 3, 2).contiguous().permute(0, 2, 4, 3, 1)
        else:
            wide = torch.zeros(3, 6, 9, 8, 14)
            wide[..., ::2] = logits
            logits = wide[..., ::2]
        assert not logits.is_contiguous()
        assert_equals_plain(logits, target, weight_dice=weight_dice, rtol=1e-5, atol=1e-8)

    @every_sum
    def test_more_organs_than_factors_of_a_product(self, weight_dice):
        """Two to the power of minus 300 is no float32."""
        target = fully_annotated(torch.zeros(1, 1, 2, 2, dtype=torch.int16), 301)
        assert_equals_plain(torch.zeros(1, 301, 2, 2), target, weight_dice=weight_dice)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @every_sum
    def test_half_precision_under_autocast(self, weight_dice, dtype):
        logits, target = many_labels(14)
        logits = logits.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradient = value_and_gradient(AmbiguityLoss(weight_dice=weight_dice), logits, target, scale=256)
        plain = AmbiguityLoss(weight_dice=weight_dice, make_sums=plain_ambiguity_sums)
        expected_value, expected = value_and_gradient(plain, logits.float(), target, scale=256)
        assert_close(value, expected_value)
        assert_close(gradient, expected.to(dtype))

    @every_sum
    def test_the_scale_is_applied_before_rounding_to_half(self, weight_dice):
        """sigmoid(-20) is no float16 at all; times GradScaler's 65536 over 64 voxels it is."""
        logits = torch.zeros(1, 2, 64, dtype=torch.float16)
        logits[:, 0] = 20
        target = fully_annotated(torch.zeros(1, 1, 64, dtype=torch.int16), 2)
        _, scaled = value_and_gradient(AmbiguityLoss(weight_dice=weight_dice), logits, target, scale=2.0**16)
        plain = AmbiguityLoss(weight_dice=weight_dice, make_sums=plain_ambiguity_sums)
        _, exact = value_and_gradient(plain, logits.float(), target, scale=2.0**16)
        assert exact.amax() > 1e-6
        assert_close(scaled, exact.half(), rtol=0.1, atol=0)

    @every_sum
    def test_confident_logits_keep_their_gradient(self, weight_dice):
        """Its relative error stays that of float32; the value's absolute error is that of 1 - p."""
        logits, target = many_labels(5, share=0.1)
        logits[:, 0] += 25
        assert_equals_plain(logits, target, weight_dice=weight_dice, rtol=1e-4, atol=3e-7)
        losses = [AmbiguityLoss(weight_dice=weight_dice, make_sums=way) for way in (fused_ambiguity_sums, plain_ambiguity_sums)]
        found, expected = (value_and_gradient(loss, logits, target)[1] for loss in losses)
        assert_close(found, expected, rtol=1e-4, atol=1e-12)

    @every_sum
    def test_the_network_behind_gets_the_gradient(self, weight_dice):
        logits, target = many_labels(5)
        network = nn.Conv3d(6, 6, 1)
        results = []
        for make_sums in (fused_ambiguity_sums, plain_ambiguity_sums):
            network.zero_grad()
            (3 * AmbiguityLoss(weight_dice=weight_dice, make_sums=make_sums)(network(logits), target)).backward()
            results.append([parameter.grad.clone() for parameter in network.parameters()])
        assert_close(*results, rtol=1e-4, atol=1e-5)

    @every_sum
    def test_deep_supervision(self, weight_dice):
        """A loss a scale, each with a weight of its own."""
        logits, target = many_labels(5)
        coarse = PartialTarget(target.labels[..., ::2, ::2, ::2], target.tables, target.annotated)
        leaves = [logits.clone().requires_grad_() for _ in range(2)]
        for leaf, make_sums in zip(leaves, (fused_ambiguity_sums, plain_ambiguity_sums), strict=True):
            loss = AmbiguityLoss(weight_dice=weight_dice, make_sums=make_sums)
            (0.6 * loss(leaf, target) + 0.4 * loss(leaf[..., ::2, ::2, ::2], coarse)).backward()
        assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-5, atol=1e-8)


class TestFusedFunction:
    def test_a_second_backward_of_cross_entropy_is_refused(self):
        logits, target = random_case(1)
        value = AmbiguityLoss()(logits.requires_grad_(), target)
        value.backward(retain_graph=True)
        expected = logits.grad.clone()
        with pytest.raises(RuntimeError, match="made once and given away; take plain_ambiguity_sums"):
            value.backward()
        assert_close(logits.grad, expected)

    def test_a_second_backward_with_dice_is_the_same_again(self):
        logits, target = random_case(1)
        value = AmbiguityLoss(weight_dice=1)(logits.requires_grad_(), target)
        value.backward(retain_graph=True)
        expected = 2 * logits.grad
        value.backward()
        assert_close(logits.grad, expected)

    @every_sum
    def test_a_second_backward_without_a_kept_graph_is_refused(self, weight_dice):
        logits, target = random_case(1)
        value = AmbiguityLoss(weight_dice=weight_dice)(logits.requires_grad_(), target)
        value.backward()
        with pytest.raises(RuntimeError, match="second time"):
            value.backward()

    def test_a_second_derivative_of_cross_entropy_is_refused(self):
        logits, target = random_case(1)
        value = AmbiguityLoss()(logits.requires_grad_(), target)
        with pytest.raises(RuntimeError, match="a second time"):
            torch.autograd.grad(value, logits, create_graph=True)

    def test_a_second_derivative_with_dice_is_refused(self):
        logits, target = random_case(1)
        value = AmbiguityLoss(weight_dice=1)(logits.requires_grad_(), target)
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()

    @pytest.mark.parametrize("wanted", [False, True])
    def test_no_gradient_work_where_nobody_asks(self, wanted, monkeypatch):
        asked = []
        cost = AmbiguityPiece.cost
        monkeypatch.setattr(AmbiguityPiece, "cost", lambda self, out: (asked.append(out is not None), cost(self, out))[1])
        logits, target = random_case(1)
        with torch.set_grad_enabled(wanted):
            value = AmbiguityLoss()(logits.requires_grad_(), target)
        assert set(asked) == {wanted}
        asked.clear()
        AmbiguityLoss()(logits.detach(), target)
        assert set(asked) == {False}
        assert_close(value.detach(), ambiguity_bce_loss(logits.detach(), target))

    @every_sum
    def test_logits_and_labels_are_left_alone(self, weight_dice):
        logits, target = many_labels(5)
        copies = logits.clone(), target.labels.clone()
        value_and_gradient(AmbiguityLoss(weight_dice=weight_dice), logits, target)
        assert_close((logits, target.labels), copies, rtol=0, atol=0)

    @GPU
    @every_sum
    def test_on_a_gpu_the_result_is_the_same_and_the_host_never_waits(self, weight_dice):
        logits, target = many_labels(5, ignoring=True)
        expected = value_and_gradient(AmbiguityLoss(weight_dice=weight_dice, make_sums=plain_ambiguity_sums), logits, target)
        on_gpu, target = logits.cuda(), target.to("cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = value_and_gradient(AmbiguityLoss(weight_dice=weight_dice), on_gpu, target)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert_close([part.cpu() for part in found], list(expected), rtol=1e-4, atol=1e-7)


class TestMemory:
    @pytest.mark.parametrize("num_organs", [5, 14])
    def test_bytes_kept_for_backward(self, num_organs):
        """Beside logits and label map: without Dice the gradient itself, with it nothing of a voxel."""
        assert kept_bytes("ambiguity", num_organs, patch=32) <= 1.001
        assert kept_bytes("ambiguity_dice", num_organs, patch=32) <= 0.05
        assert kept_bytes("ambiguity_plain", num_organs, patch=32) > 1.2

    @pytest.mark.parametrize("name", ["ambiguity", "ambiguity_dice"])
    def test_peak(self, name):
        """The gradient, and a piece; nnU-Net's takes five times the logits."""
        command = [sys.executable, "-m", "benchmarks.loss_memory", "--one", name, "--classes", "14", "--patch", "64"]
        found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
        assert 0.9 <= float(found.split()[-1]) <= 1.25
