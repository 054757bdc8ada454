"""The sums in one Function against the plain ones: values, gradients, memory, refusals."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from builders import random_case, target_of
from torch import nn
from torch.testing import assert_close

from benchmarks.loss_memory import kept_bytes
from nnunet_partial.losses import MarginalExclusionLoss, MarginalLoss, fused, fused_sums, plain_sums
from nnunet_partial.targets import PartialTarget

LOSSES = {"marginal": MarginalLoss, "marginal_exclusion": MarginalExclusionLoss}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.fixture(autouse=True)
def several_pieces_a_case(monkeypatch):
    """Pieces of a few voxels, so that a small case has many, the last one shorter."""
    monkeypatch.setattr(fused, "SMALLEST_PIECE", 4000)
    monkeypatch.setattr(fused, "PIECES", 10)


@pytest.fixture(params=["by_piece", "by_label"])
def form(request, monkeypatch):
    """Both forms on the CPU; a GPU takes the second."""
    if request.param == "by_label":
        monkeypatch.setattr(fused.Rows, "of", staticmethod(lambda tables: tables))


def value_and_gradient(loss: nn.Module, logits: torch.Tensor, target: PartialTarget, scale: float = 1.0) -> tuple:
    leaf = logits.detach().requires_grad_()
    value = loss(leaf, target)
    (scale * value).backward()
    return value.detach(), leaf.grad


def assert_equals_plain(loss, logits, target, **tolerance):
    found = value_and_gradient(loss, logits, target)
    expected = value_and_gradient(type(loss)(batch_dice=loss.batch_dice, make_sums=plain_sums), logits, target)
    assert_close(found, expected, **tolerance)


def many_labels(num_organs: int, *, ignoring: bool = False) -> tuple[torch.Tensor, PartialTarget]:
    """Three cases of K organs: all annotated; half of them, the rest pseudo-labelled, and a union; none."""
    generator = torch.Generator().manual_seed(num_organs)
    num_classes = num_organs + 1
    logits = 3 * torch.randn(3, num_classes, 9, 8, 7, generator=generator)
    labels = torch.randint(-num_organs, num_classes + ignoring, (3, 1, 9, 8, 7), generator=generator).clamp_min(0).to(torch.int16)
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


@pytest.mark.usefixtures("form")
class TestEqualsThePlainVersion:
    @pytest.mark.parametrize(("batch_dice", "ignoring"), [(False, False), (False, True), (True, False)])
    @pytest.mark.parametrize("num_organs", [1, 5, 117])
    @every_loss
    def test_float32(self, loss, num_organs, batch_dice, ignoring):
        logits, target = many_labels(num_organs, ignoring=ignoring)
        assert_equals_plain(loss(batch_dice=batch_dice), logits, target, rtol=1e-4, atol=1e-7)

    @every_loss
    def test_float64_with_unions(self, loss):
        for seed in range(3):
            assert_equals_plain(loss(), *random_case(seed), rtol=1e-9, atol=1e-14)

    @every_loss
    def test_every_sum(self, loss):
        logits, target = many_labels(14, ignoring=True)
        found, expected = fused_sums(logits.double(), target), plain_sums(logits.double(), target)
        looked_for = target.annotated
        assert_close(found.intersection * looked_for, expected.intersection * looked_for)
        for name in ("counts", "negative_log", "volume", "overlap", "excluded_log"):
            assert_close(getattr(found, name), getattr(expected, name), msg=lambda text, name=name: f"{name}: {text}")

    @pytest.mark.parametrize("layout", ["channels_last", "permuted", "every_second_voxel"])
    @every_loss
    def test_layouts(self, loss, layout):
        logits, target = many_labels(5)
        if layout == "channels_last":
            logits = logits.contiguous(memory_format=torch.channels_last_3d)
        elif layout == "permuted":
            logits = logits.permute(0, 4, 1, 3, 2).contiguous().permute(0, 2, 4, 3, 1)
        else:
            wide = torch.zeros(3, 6, 9, 8, 14)
            wide[..., ::2] = logits
            logits = wide[..., ::2]
        assert not logits.is_contiguous()
        assert_equals_plain(loss(), logits, target, rtol=1e-4, atol=1e-7)

    @every_loss
    def test_two_axes(self, loss):
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(0, 4, (2, 1, 9, 8), generator=generator)
        target = target_of(labels, *[({0: {0, 3}}, {1, 2})] * 2, num_classes=4)
        assert_equals_plain(loss(), torch.randn(2, 4, 9, 8, generator=generator), target, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("label", [0, 1])
    @pytest.mark.parametrize("gap", [80.0, 200.0])
    def test_far_apart_logits_keep_their_gradient(self, gap, label):
        """A float32 sum of exponentials is 0 on the candidates {0, 2} or {1, 3}: its logarithm would be lost."""
        logits = torch.zeros(1, 5, 4)
        logits[0, 4] = gap
        labels = torch.tensor([[[label, label, label, 0]]])
        target = target_of(labels, ({0: {0, 2}, 1: {1, 3}}, {1}), num_classes=5)
        value, gradient = value_and_gradient(MarginalLoss(weight_dice=0), logits, target)
        assert value.item() == pytest.approx(gap - torch.tensor(2.0).log().item(), rel=1e-6)
        expected = torch.zeros(5)
        expected[[label, label + 2]], expected[4] = -0.5, 1
        assert_close(gradient[0, :, 0], expected / 4)
        assert_equals_plain(MarginalExclusionLoss(), logits, target)

    @pytest.mark.parametrize("shift", [-1000.0, -60.0, -30.0, 30.0, 60.0, 1000.0])
    @every_loss
    def test_a_number_added_to_all_logits_of_a_case_changes_nothing(self, loss, shift):
        """Whether exponentials are taken of the logits as they are, or of what they lack to the largest; in one case of three."""
        logits, target = many_labels(40)
        logits = logits.double()
        shifted = logits.clone()
        shifted[1] += shift
        expected = value_and_gradient(loss(), logits, target)
        assert_close(value_and_gradient(loss(), shifted, target), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @every_loss
    def test_half_precision_under_autocast(self, loss, dtype):
        logits, target = many_labels(14)
        logits = logits.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value, gradient = value_and_gradient(loss(), logits, target, scale=65536)
        expected_value, expected = value_and_gradient(loss(make_sums=plain_sums), logits.float(), target, scale=65536)
        assert_close(value, expected_value)
        assert_close(gradient, expected.to(dtype))

    @every_loss
    def test_the_scale_is_applied_before_rounding_to_half(self, loss, monkeypatch):
        """With 1 / voxels as factor, an unscaled gradient keeps a digit or two in float16."""
        monkeypatch.setattr(fused, "SMALLEST_PIECE", 2**20)
        logits = torch.zeros(1, 3, 64, 64, 64, dtype=torch.float16)
        target = target_of(torch.zeros(1, 1, 64, 64, 64, dtype=torch.int16), ({0: {0, 2}}, {1}), num_classes=3)
        _, scaled = value_and_gradient(loss(), logits, target, scale=2.0**16)
        _, exact = value_and_gradient(loss(make_sums=plain_sums), logits.float(), target, scale=2.0**16)
        assert_close(scaled.float(), exact, rtol=2e-3, atol=0)

    @every_loss
    def test_nothing_annotated(self, loss):
        labels = torch.zeros(2, 1, 5, 4, 3, dtype=torch.int16)
        target = target_of(labels, *[({0: set(range(6))}, set())] * 2, num_classes=6)
        value, gradient = value_and_gradient(loss(), 20 * torch.randn(2, 6, 5, 4, 3), target)
        assert value.item() == 0
        assert not gradient.any()

    @every_loss
    def test_everything_ignored(self, loss):
        labels = torch.full((1, 1, 5, 4, 3), 3)
        target = target_of(labels, ({3: {0, 1, 2}}, {1, 2}), num_classes=3, ignore_label=3)
        assert_equals_plain(loss(), torch.randn(1, 3, 5, 4, 3), target)

    @pytest.mark.parametrize("batch_dice", [False, True])
    @every_loss
    def test_gradcheck(self, loss, batch_dice):
        logits, target = random_case(11, shape=(2, 3, 2))
        assert torch.autograd.gradcheck(lambda z: loss(batch_dice=batch_dice)(z, target), logits.requires_grad_())


def test_ignore_label_0():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1, 1, 5, 4, 3), generator=generator)
    annotated = torch.tensor([[False, True, False]])
    target = PartialTarget(labels, torch.eye(3, dtype=torch.bool)[None], annotated, ignore_label=0)
    assert_equals_plain(MarginalExclusionLoss(), torch.randn(1, 3, 5, 4, 3, generator=generator), target)


class TestBackward:
    def test_a_second_backward_is_refused(self):
        logits, target = random_case(1)
        value = MarginalExclusionLoss()(logits.requires_grad_(), target)
        value.backward()
        with pytest.raises(RuntimeError, match="second time"):
            value.backward()

    def test_a_second_derivative_is_refused(self):
        logits, target = random_case(1)
        value = MarginalExclusionLoss()(logits.requires_grad_(), target)
        (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()

    def test_a_label_map_changed_in_between_is_refused(self):
        logits, target = random_case(1)
        value = MarginalLoss()(logits.requires_grad_(), target)
        target.labels.zero_()
        with pytest.raises(RuntimeError, match="inplace operation"):
            value.backward()

    @pytest.mark.parametrize("device", ["cpu", GPU])
    @every_loss
    def test_the_network_behind_gets_the_gradient(self, loss, device):
        logits, target = many_labels(5)
        network = nn.Conv3d(6, 6, 1).to(device)
        results = []
        for make_sums in (fused_sums, plain_sums):
            network.zero_grad()
            with torch.autocast("cuda") if device == "cuda" else nullcontext():
                value = loss(make_sums=make_sums)(network(logits.to(device)), target.to(device))
            value.backward()
            results.append([parameter.grad.clone() for parameter in network.parameters()])
        assert_close(*results, rtol=2e-2 if device == "cuda" else 1e-4, atol=1e-5)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_the_host_never_waits_for_the_gpu(self):
        logits, target = many_labels(5)
        logits, target = logits.cuda().requires_grad_(), target.to("cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            MarginalExclusionLoss()(logits, target).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


class TestMemory:
    @pytest.mark.parametrize("num_organs", [5, 14])
    def test_bytes_kept_for_backward(self, num_organs):
        """Beside logits and label map, which are the caller's: nothing of a voxel."""
        kept = {name: kept_bytes(name, num_organs, patch=32) for name in ("nnU-Net", *LOSSES)}
        assert kept["marginal"] <= 0.05
        assert kept["marginal_exclusion"] <= 0.05
        assert kept["nnU-Net"] > 2

    def test_peak(self):
        """The gradient, and a piece; nnU-Net's takes five times the logits."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.loss_memory",
            "--one",
            "marginal_exclusion",
            "--classes",
            "14",
            "--patch",
            "64",
        ]
        found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
        assert 0.9 <= float(found.split()[-1]) <= 1.25
