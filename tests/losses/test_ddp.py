"""Two processes give the loss and the gradient of one, where nnU-Net adds sums over processes."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from builders import random_case
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_partial.losses import MarginalExclusionLoss, MarginalLoss
from nnunet_partial.targets import PartialTarget

LOSSES = {"marginal": MarginalLoss, "marginal_exclusion": MarginalExclusionLoss}


def data():
    logits, target = random_case(9, dtype=torch.float64)
    return logits, target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(5, 5, 1).double()


def work(rank: int, loss_name: str, file: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    inputs, target = data()
    mine = PartialTarget(*(part[rank : rank + 1] for part in (target.labels, target.tables, target.annotated)))
    model = DistributedDataParallel(network())
    loss = LOSSES[loss_name](batch_dice=True, ddp=True)(model(inputs[rank : rank + 1]), mine)
    loss.backward()
    torch.save((loss.detach(), [p.grad for p in model.parameters()]), f"{file}.{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("loss_name", LOSSES)
def test_two_processes_equal_one(loss_name, tmp_path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    file = tmp_path / "rendezvous"
    mp.spawn(work, args=(loss_name, str(file)), nprocs=2)
    inputs, target = data()
    model = network()
    single = LOSSES[loss_name](batch_dice=True)(model(inputs), target)
    single.backward()
    results = [torch.load(f"{file}.{rank}") for rank in range(2)]
    torch.testing.assert_close(sum(loss for loss, _ in results) / 2, single.detach())  # the cross entropies differ by rank
    for rank in range(2):
        torch.testing.assert_close(results[rank][1], [p.grad for p in model.parameters()])
