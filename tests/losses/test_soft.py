"""The loss on soft labels of Silva & Oliveira 2021: by hand, against slow loops, against nnU-Net, and its piecewise version."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import afresh, random_case
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.loss.robust_ce_loss import RobustCrossEntropyLoss
from torch.nn import functional as F
from torch.testing import assert_close

from benchmarks.loss_memory import kept_bytes
from nnunet_partial.losses import (
    MarginalLoss,
    SoftLabelLoss,
    marginal_cross_entropy,
    plain_soft_sums,
    soft_cross_entropy,
    soft_dice_loss,
    soft_piece,
)
from nnunet_partial.targets import PartialTarget, SoftTarget, pooled_targets
from nnunet_partial.targets.ambiguity import by_voxel

CE = {"plain": soft_cross_entropy, "fused": SoftLabelLoss()}
DICE = {"plain": soft_dice_loss, "fused": SoftLabelLoss(weight_ce=0.0, weight_dice=1.0)}
every_ce = pytest.mark.parametrize("ce", CE.values(), ids=CE.keys())
every_dice = pytest.mark.parametrize("dice", DICE.values(), ids=DICE.keys())
SETS = [{0, 3, 4}, {2, 3}]  # organs 3 and 4 not looked for; organs 2 and 3 drawn as one
NUM_CLASSES, NUM_IDS = 5, 9


@pytest.fixture(autouse=True)
def several_pieces_a_case(monkeypatch):
    """Pieces of a few voxels, so that a small case has many, the last one shorter."""
    monkeypatch.setattr(soft_piece, "SMALLEST_PIECE", 600)
    monkeypatch.setattr(soft_piece, "PIECES", 7)


@pytest.fixture(params=["by_piece", "by_label"])
def form(request, monkeypatch):
    """Voxels of id 0 all alike, or every voxel looked up; a GPU takes the second."""
    if request.param == "by_label":
        cut = soft_piece.pieces

        def looked_up(z, labels, case):
            for piece in cut(z, labels, case):
                yield soft_piece.SoftPiece(piece.columns, piece.z, piece.ids, None, case)

        monkeypatch.setattr("nnunet_partial.losses.fused_soft.pieces", looked_up)


def soft_case(seed: int, *, dtype=torch.float64, share_of_zero: float = 0.6, ignore_label: int | None = None) -> tuple:
    """Two cases of random shares: rows with single classes, sets and ignorance; most voxels carry id 0."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, NUM_CLASSES, 4, 5, 3, generator=generator, dtype=dtype)
    labels = torch.randint(0, NUM_IDS, (2, 1, 4, 5, 3), generator=generator).to(torch.int16)
    labels[torch.rand(labels.shape, generator=generator) < share_of_zero] = 0
    votes = torch.multinomial(torch.ones(2 * NUM_IDS, 8), 3, replacement=True, generator=generator)
    shares = F.one_hot(votes, 8).double().mean(1).view(2, NUM_IDS, 8)  # 5 classes, 2 sets, nothing
    annotated = torch.zeros(2, NUM_IDS, dtype=torch.bool)
    annotated[0, :5], annotated[1, :3] = True, True
    sets = torch.tensor([[n in group for n in range(NUM_CLASSES)] for group in SETS])
    tables, set_shares = shares[:, :, :5].to(dtype), shares[:, :, 5:7].to(dtype)
    return logits, SoftTarget(labels, tables, annotated, ignore_label, set_shares=set_shares, sets=sets)


def slow_terms(logits: torch.Tensor, target: SoftTarget, *, batch_dice: bool, smooth: float = 1e-5) -> dict[str, float]:
    """Both terms by loops over cases, voxels and classes, annotator by annotator."""
    p = logits.double().softmax(1).flatten(2).tolist()
    labels = target.labels.flatten(1).tolist()
    tables, set_shares = target.tables.tolist(), target.set_shares.tolist()
    ce, counted, sums = 0.0, 0, {}
    for b, case_labels in enumerate(labels):
        for v, label in enumerate(case_labels):
            if label == target.ignore_label:
                continue
            counted += 1
            words = [({n}, share) for n, share in enumerate(tables[b][label])]
            words += list(zip(SETS, set_shares[b][label], strict=True))
            for classes, share in words:
                if share:
                    ce -= share * math.log(sum(p[b][n][v] for n in classes))
            for n in range(1, NUM_CLASSES):
                own = any(tables[b][i][n] and target.annotated[b, i] for i in range(1, NUM_IDS))
                if own:
                    entry = sums.setdefault((None if batch_dice else b, n), [0.0, 0.0, 0.0])
                    knows = sum(share for classes, share in words if len(classes) == 1 or n not in classes)
                    entry[0] += tables[b][label][n] * p[b][n][v]
                    entry[1] += knows * p[b][n][v]
                    entry[2] += tables[b][label][n]
    dice = [1 - (2 * i + smooth) / (q + r + smooth) for i, q, r in sums.values()]
    return {"ce": ce / max(counted, 1), "dice": sum(dice) / max(len(dice), 1)}


def value_and_gradient(loss, logits: torch.Tensor, target: PartialTarget, scale: float = 1.0) -> tuple:
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, target)
    (scale * value).backward()
    return value.detach(), leaf.grad


def rows_target(labels: torch.Tensor, rows: list, annotated: list, **options) -> PartialTarget:
    return PartialTarget(labels, torch.tensor([rows], dtype=torch.float64), torch.tensor([annotated]), **options)


class TestHandComputed:
    """Three annotators of a 2 x 2 x 2 cube; class probabilities 1/2, 1/4, 1/4 in every voxel."""

    LOGITS = torch.tensor([math.log(2), 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, 2, 2, 2).contiguous()

    @every_ce
    @pytest.mark.usefixtures("form")
    def test_mean_over_annotators(self, ce):
        """Six voxels of background, one split 2 : 1 between background and organ 1, one 1 : 1 : 1."""
        labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2]).view(1, 1, 2, 2, 2)
        rows = [[1, 0, 0], [2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3]]
        expected = (6 * math.log(2) + (2 * math.log(2) + math.log(4)) / 3 + (math.log(2) + 2 * math.log(4)) / 3) / 8
        assert ce(self.LOGITS, rows_target(labels, rows, [False, True, False])).item() == pytest.approx(expected, rel=1e-12)

    @every_ce
    @pytest.mark.usefixtures("form")
    def test_who_did_not_look_says_one_of_several(self, ce):
        """Two of three say background; the third did not look for organ 2: background or organ 2, with probability 3/4."""
        labels = torch.zeros(1, 1, 2, 2, 2, dtype=torch.int16)
        target = SoftTarget(
            labels,
            torch.tensor([[[2 / 3, 0, 0]]], dtype=torch.float64),
            torch.zeros(1, 1, dtype=torch.bool),
            set_shares=torch.tensor([[[1 / 3]]], dtype=torch.float64),
            sets=torch.tensor([[True, False, True]]),
        )
        assert ce(self.LOGITS, target).item() == pytest.approx((2 * math.log(2) + math.log(4 / 3)) / 3, rel=1e-12)

    @every_dice
    @pytest.mark.usefixtures("form")
    def test_dice_of_shares(self, dice):
        """Organ 1 has two thirds of the votes in two voxels: I = 2 * 2/3 * 1/4, P = 8/4, R = 4/3."""
        labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]).view(1, 1, 2, 2, 2)
        target = rows_target(labels, [[1, 0, 0], [1 / 3, 2 / 3, 0]], [False, True])
        assert dice(self.LOGITS, target).item() == pytest.approx(1 - 2 * (1 / 3) / (2 + 4 / 3), rel=1e-4)  # smoothed

    def test_weights_of_the_sum(self):
        logits, target = soft_case(3)
        expected = 2 * soft_cross_entropy(logits, target) + 3 * soft_dice_loss(logits, target)
        assert_close(SoftLabelLoss(weight_ce=2, weight_dice=3)(logits, target), expected)

    def test_cross_entropy_alone_by_default(self, monkeypatch):
        monkeypatch.setattr("nnunet_partial.losses.soft.dice_of", None)
        logits, target = soft_case(0)
        assert_close(SoftLabelLoss()(logits, target), soft_cross_entropy(logits, target))


@pytest.mark.usefixtures("form")
class TestAgainstTheEquations:
    @pytest.mark.parametrize("ignore_label", [None, 6])
    @pytest.mark.parametrize("share_of_zero", [0.2, 0.8])
    @pytest.mark.parametrize("batch_dice", [False, True])
    def test_slow_loops(self, batch_dice, share_of_zero, ignore_label):
        logits, target = soft_case(int(10 * share_of_zero), share_of_zero=share_of_zero, ignore_label=ignore_label)
        expected = slow_terms(logits, target, batch_dice=batch_dice)
        assert SoftLabelLoss()(logits, target).item() == pytest.approx(expected["ce"], rel=1e-9)
        both = SoftLabelLoss(weight_dice=1, batch_dice=batch_dice)(logits, target)
        assert both.item() == pytest.approx(expected["ce"] + expected["dice"], rel=1e-9)
        assert soft_cross_entropy(logits, target).item() == pytest.approx(expected["ce"], rel=1e-9)
        assert soft_dice_loss(logits, target, batch_dice=batch_dice).item() == pytest.approx(expected["dice"], rel=1e-9)

    @pytest.mark.parametrize("weight_dice", [0, 1])
    def test_gradcheck(self, weight_dice):
        logits, target = soft_case(1, ignore_label=6)
        assert torch.autograd.gradcheck(afresh(SoftLabelLoss(weight_dice=weight_dice), target), logits.requires_grad_())

    def test_a_second_backward_is_refused(self):
        logits, target = soft_case(1)
        value = SoftLabelLoss()(logits.requires_grad_(), target)
        value.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated a second time"):
            value.backward()

    @pytest.mark.parametrize("weight_dice", [0, 1])
    @pytest.mark.parametrize("seed", range(3))
    def test_piecewise_equals_plain(self, seed, weight_dice):
        logits, target = soft_case(seed, ignore_label=6)
        plain = SoftLabelLoss(weight_dice=weight_dice, make_sums=plain_soft_sums)
        found = value_and_gradient(SoftLabelLoss(weight_dice=weight_dice), logits, target, 3.0)
        assert_close(found, value_and_gradient(plain, logits, target, 3.0))

    @pytest.mark.parametrize("layout", ["channels_last", "strided"])
    def test_other_layouts(self, layout):
        logits, target = soft_case(4)
        if layout == "strided":
            other = torch.stack([logits, logits], -1)[..., 0]
        else:
            other = logits.to(memory_format=torch.channels_last_3d)
        loss = SoftLabelLoss(weight_dice=1)
        assert_close(value_and_gradient(loss, other, target), value_and_gradient(loss, logits, target))

    def test_half_precision_is_computed_in_float32(self):
        logits, target = soft_case(5, dtype=torch.float32)
        half = logits.half()
        loss = SoftLabelLoss(weight_dice=1)
        value, gradient = value_and_gradient(loss, half, target)
        expected, of_float = value_and_gradient(loss, half.float(), target)
        assert gradient.dtype == torch.float16
        assert_close(value, expected)
        assert_close(gradient, of_float.half(), rtol=1e-3, atol=1e-7)

    def test_far_apart_logits_keep_their_gradient(self):
        """The set an annotator speaks of has a probability of exp(-80): no float32 sum of exponentials holds it beside 1."""
        logits = torch.tensor([0.0, 80.0, -10.0, 0.0, 0.0]).view(1, 5, 1, 1, 1)
        _, target = soft_case(0, dtype=torch.float32)
        labels = torch.zeros(1, 1, 1, 1, 1, dtype=torch.int16)
        said = torch.tensor([[[0.0, 1.0]]])
        parts = {"set_shares": said, "sets": target.sets}
        target = SoftTarget(labels, torch.zeros(1, 1, 5), torch.zeros(1, 1, dtype=torch.bool), **parts)
        value, gradient = value_and_gradient(SoftLabelLoss(), logits, target)
        assert value.item() == pytest.approx(80, abs=1e-3)
        assert gradient.flatten().tolist() == pytest.approx([0, 1, 0, -1, 0], abs=1e-3)


class TestPooled:
    """Coarse resolutions, where every voxel has shares of its own."""

    def pooled(self, seed: int, **options) -> tuple:
        _, target = soft_case(seed, **options)
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(2, NUM_CLASSES, 2, 5, 3, generator=generator, dtype=torch.float64)
        (coarse,) = pooled_targets(target, [(2, 5, 3)])
        return logits, coarse

    @pytest.mark.parametrize("weight_dice", [0, 1])
    @pytest.mark.parametrize("ignore_label", [None, 6])
    def test_piecewise_equals_plain(self, weight_dice, ignore_label):
        logits, target = self.pooled(1, ignore_label=ignore_label)
        plain = SoftLabelLoss(weight_dice=weight_dice, make_sums=plain_soft_sums)
        found = value_and_gradient(SoftLabelLoss(weight_dice=weight_dice), logits, target, 3.0)
        assert_close(found, value_and_gradient(plain, logits, target, 3.0))

    @every_ce
    def test_cross_entropy_is_linear_in_what_is_said(self, ce):
        """With the same prediction for both voxels that one covers, the mean of shares costs the mean of what they cost."""
        logits, coarse = self.pooled(2, ignore_label=6)
        fine = logits.repeat_interleave(2, 2)
        assert_close(ce(logits, coarse), ce(fine, coarse.full))

    @every_dice
    def test_dice_of_means(self, dice):
        logits, coarse = self.pooled(3)
        fine = logits.repeat_interleave(2, 2)  # intersection and both volumes double
        assert_close(dice(logits, coarse), dice(fine, coarse.full), rtol=1e-4, atol=1e-5)

    def test_torchs_cross_entropy_with_probabilities(self):
        logits, target = self.pooled(4)
        rest = 1 - target.tables.sum(2, keepdim=True)
        assert rest.abs().max() > 0.1
        dense = by_voxel(target.tables + rest / NUM_CLASSES, target)
        full = SoftTarget(target.labels, target.tables + rest / NUM_CLASSES, target.annotated, **nothing_on_sets(target))
        assert_close(SoftLabelLoss()(logits, full), F.cross_entropy(logits, dense))


def nothing_on_sets(target: SoftTarget) -> dict:
    return {"set_shares": target.set_shares[:, :, :0], "sets": target.sets[:0]}


class TestAgainstTheHost:
    @every_ce
    def test_identical_annotators_give_nnunets_cross_entropy(self, ce):
        logits, _ = soft_case(0, dtype=torch.float32)
        labels = torch.randint(0, 5, (2, 1, 4, 5, 3), generator=torch.Generator().manual_seed(0))
        target = PartialTarget(labels, torch.eye(5).repeat(2, 1, 1), torch.ones(2, 5, dtype=torch.bool))
        assert_close(ce(logits, target), RobustCrossEntropyLoss()(logits, labels.float()))

    @every_dice
    def test_and_nnunets_dice(self, dice):
        logits, _ = soft_case(0, dtype=torch.float32)
        labels = torch.randint(0, 5, (2, 1, 4, 5, 3), generator=torch.Generator().manual_seed(0))
        target = PartialTarget(labels, torch.eye(5).repeat(2, 1, 1), torch.ones(2, 5, dtype=torch.bool))
        host = MemoryEfficientSoftDiceLoss(
            apply_nonlin=lambda z: z.softmax(1), batch_dice=False, do_bg=False, smooth=1e-5, ddp=False
        )
        assert_close(dice(logits, target), 1 + host(logits, labels))

    @every_ce
    def test_torchs_cross_entropy_with_probabilities(self, ce):
        logits, target = soft_case(2)
        full = target.tables + (1 - target.tables.sum(2, keepdim=True)) / 5
        soft = PartialTarget(target.labels, full, target.annotated)
        dense = torch.stack([full[b][target.labels[b, 0].long()] for b in range(2)]).movedim(-1, 1)
        assert_close(ce(logits, soft), F.cross_entropy(logits, dense))

    @every_ce
    def test_candidate_tables_give_the_marginal_loss(self, ce):
        logits, target = random_case(1)
        assert_close(ce(logits, target), marginal_cross_entropy(logits, target))

    @pytest.mark.parametrize("name", ["soft", "soft_dice"])
    def test_what_is_kept_between_forward_and_backward(self, name):
        """With cross entropy alone the gradient is made on the way forward."""
        assert kept_bytes(name, 14, patch=32) <= (1.001 if name == "soft" else 0.05)
        assert kept_bytes(f"{name}_plain", 14, patch=32) > 1.2

    @pytest.mark.parametrize("name", ["soft", "soft_dice"])
    def test_peak(self, name):
        """The gradient, and a piece; nnU-Net's takes five times the logits."""
        command = [sys.executable, "-m", "benchmarks.loss_memory", "--one", name, "--classes", "14", "--patch", "64"]
        found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
        assert 0.9 <= float(found.split()[-1]) <= 1.25


class TestWhatItTeaches:
    def test_the_minimum_is_the_share_of_votes(self):
        """Of two who looked for the organ one drew it; a third did not look: a half, not a third."""
        labels = torch.zeros(1, 1, 1, dtype=torch.int16)
        target = SoftTarget(
            labels,
            torch.tensor([[[1 / 3, 1 / 3, 0]]], dtype=torch.float64),
            torch.zeros(1, 1, dtype=torch.bool),
            set_shares=torch.tensor([[[1 / 3]]], dtype=torch.float64),
            sets=torch.tensor([[True, True, False]]),
        )
        z = torch.zeros(1, 3, 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([z], max_iter=200, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = soft_cross_entropy(z, target)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert z.softmax(1).flatten().tolist() == pytest.approx([0.5, 0.5, 0], abs=1e-3)

    @every_dice
    def test_dice_pushes_to_the_edge(self, dice):
        """The paper's warning (section 3.2): against a share of 0.3, a single voxel's Dice falls as p grows."""
        target = rows_target(torch.zeros(1, 1, 1, dtype=torch.int16), [[0.7, 0.3], [0, 1]], [False, True])
        losses = [dice(torch.tensor([[[0.0], [z]]], dtype=torch.float64), target).item() for z in (-2.0, 0.0, 2.0)]
        assert losses == sorted(losses, reverse=True)

    @every_ce
    def test_nothing_said_costs_nothing_and_keeps_the_graph(self, ce):
        logits, target = soft_case(0)
        nothing = SoftTarget(
            target.labels, 0 * target.tables, target.annotated, set_shares=0 * target.set_shares, sets=target.sets
        )
        value, gradient = value_and_gradient(ce, logits, nothing)
        assert value == 0
        assert (gradient == 0).all()

    @every_dice
    def test_no_class_looked_for(self, dice):
        logits, target = soft_case(0)
        nobody = SoftTarget(
            target.labels, target.tables, target.annotated & False, set_shares=target.set_shares, sets=target.sets
        )
        value, gradient = value_and_gradient(dice, logits, nobody)
        assert value == 0
        assert (gradient == 0).all()

    @pytest.mark.parametrize("loss", [soft_cross_entropy, SoftLabelLoss()])
    def test_refuses_shapes_that_do_not_fit(self, loss):
        logits, target = soft_case(0)
        with pytest.raises(ValueError, match=r"logits have C = 4 channels, but target\.tables have C = 5"):
            loss(logits[:, :4], target)
        with pytest.raises(ValueError, match="must agree as"):
            loss(logits[:, :, 1:], target)

    def test_other_losses_refuse_soft_tables(self):
        with pytest.raises(ValueError, match="use soft_cross_entropy"):
            MarginalLoss()(*soft_case(0))
