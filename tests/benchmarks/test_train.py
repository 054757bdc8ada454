"""Trainings as the studies run them."""

from types import SimpleNamespace

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from benchmarks import train


def test_half_precision_is_of_the_steps_and_convolutions_have_channels_last(monkeypatch):
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 3, 3), torch.nn.InstanceNorm3d(3, affine=True))
    weights = [parameter.clone() for parameter in network.parameters()]
    trainer = SimpleNamespace(network=network, device=torch.device("cpu"))
    trainer.train_step = trainer.validation_step = lambda batch: network(batch).dtype
    monkeypatch.setattr(nnUNetTrainer, "initialize", lambda trainer: None)
    train.train_in_half_precision()
    nnUNetTrainer.initialize(trainer)
    batch = torch.randn(1, 2, 4, 4, 4)
    assert trainer.train_step(batch) == trainer.validation_step(batch) == torch.bfloat16
    assert network(batch).dtype == torch.float32
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    for before, after in zip(weights, network.parameters(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("arguments", [[], ["--half"], ["nnUNetv2_predict", "-i", "x"]])
def test_commands_that_are_refused(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    monkeypatch.setattr(torch, "set_num_threads", torch.set_num_threads)
    monkeypatch.setattr(nnUNetTrainer, "initialize", nnUNetTrainer.initialize)
    with pytest.raises(SystemExit, match="nnUNetv2_train"):
        train.main()
