"""The moving average of a network: by hand, without gradients, through a checkpoint."""

import pytest
import torch
from test_confidence_model import unet
from torch import nn
from torch.testing import assert_close

from nnunet_partial.networks import Teacher


def changed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    return network


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def with_batch_norm() -> nn.Module:
    network = unet(2)
    network.encoder.stages[0].insert(0, nn.BatchNorm2d(1))
    return network


def test_first_the_student_then_its_moving_average():
    student = unet(3)
    teacher = Teacher(student, decay=0.9)
    assert not teacher.has_begun
    steps = []
    for _ in range(3):
        teacher.update(changed(student))
        assert teacher.has_begun
        steps.append(weights(student))
    expected = steps[0]
    for step in steps[1:]:
        expected = [0.9 * mean + 0.1 * weight for mean, weight in zip(expected, step, strict=True)]
    assert_close(weights(teacher.average.module), expected)


def test_buffers_are_the_students():
    student = with_batch_norm()
    teacher = Teacher(student)
    student(torch.randn(2, 1, 16, 16))
    for _ in range(2):
        teacher.update(student)
        student(torch.randn(2, 1, 16, 16))
    teacher.update(student)
    assert any(True for _ in student.buffers())
    assert_close(dict(teacher.average.module.named_buffers()), dict(student.named_buffers()), rtol=0, atol=0)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_answers_as_the_student_does_at_full_resolution(dims, residual):
    student = unet(dims, residual=residual)
    teacher = Teacher(student)
    image = torch.randn(2, 1, *[16] * dims)
    assert_close(teacher(image), student.eval()(image)[0])
    assert student.decoder.deep_supervision


def test_stays_in_evaluation_mode_and_off_the_graph():
    student = with_batch_norm()
    teacher = Teacher(student).train()
    assert not any(module.training for module in teacher.modules())
    before = [buffer.clone() for buffer in teacher.average.module.buffers()]
    logits = teacher(torch.randn(2, 1, 16, 16, requires_grad=True))
    assert not logits.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert_close(list(teacher.average.module.buffers()), before, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_goes_on_from_its_state():
    student = unet(3)
    teacher = Teacher(student)
    teacher.update(student)
    resumed = Teacher(unet(3))
    resumed.load_state_dict(teacher.state_dict())
    assert resumed.has_begun
    changed(student)
    for each in (teacher, resumed):
        each.update(student)
    assert_close(weights(teacher), weights(resumed), rtol=0, atol=0)
