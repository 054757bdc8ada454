"""Two processes give the loss and the gradient of one, where nnU-Net adds sums over processes."""

import os
import socket
import time

import pytest
import torch
import torch.multiprocessing as mp
from builders import random_case
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_partial.losses import MarginalExclusionLoss, MarginalLoss, fused_sums, plain_sums
from nnunet_partial.targets import PartialTarget

LOSSES = {"marginal": MarginalLoss, "marginal_exclusion": MarginalExclusionLoss}
MAKE_SUMS = (fused_sums, plain_sums)
LIMIT_SECONDS = 240


def data():
    logits, target = random_case(9, dtype=torch.float64)
    return logits, target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(5, 5, 1).double()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def work(rank: int, loss_name: str, port: int, folder: str) -> None:
    # not file://: where both processes close that store at once, one of them can wait for ever
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    inputs, target = data()
    mine = PartialTarget(*(part[rank : rank + 1] for part in (target.labels, target.tables, target.annotated)))
    results = {}
    for make_sums in MAKE_SUMS:
        model = DistributedDataParallel(network())
        loss = LOSSES[loss_name](batch_dice=True, ddp=True, make_sums=make_sums)(model(inputs[rank : rank + 1]), mine)
        loss.backward()
        results[make_sums.__name__] = loss.detach(), [p.grad for p in model.parameters()]
    torch.save(results, f"{folder}/rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def run_two_processes(*args: object) -> None:
    processes = mp.start_processes(work, args=args, nprocs=2, join=False, start_method="spawn")
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while not processes.join(timeout=5):
            assert time.monotonic() < deadline, f"the two processes did not end within {LIMIT_SECONDS} seconds"
    finally:
        for process in processes.processes:
            process.kill()


@pytest.mark.parametrize("loss_name", LOSSES)
def test_two_processes_equal_one(loss_name, tmp_path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    run_two_processes(loss_name, free_port(), str(tmp_path))
    inputs, target = data()
    model = network()
    single = LOSSES[loss_name](batch_dice=True, make_sums=plain_sums)(model(inputs), target)
    single.backward()
    ranks = [torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(2)]
    for make_sums in MAKE_SUMS:
        results = [found[make_sums.__name__] for found in ranks]
        torch.testing.assert_close(sum(loss for loss, _ in results) / 2, single.detach())  # cross entropies differ by rank
        for _, gradients in results:
            torch.testing.assert_close(gradients, [p.grad for p in model.parameters()])
