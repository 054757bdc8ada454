"""Two processes average organ sizes, and teach network and discriminator, as one does."""

import os
import socket
import time

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_partial.losses import OrganSizes, PriorAwareLoss, discriminator_loss, maps_to_judge
from nnunet_partial.networks import Discriminator
from nnunet_partial.targets import PartialTarget, TaughtTarget
from nnunet_partial.training.learner import Learner

LIMIT_SECONDS = 240


class Nothing(nn.Module):
    """In place of the loss by annotation."""

    def forward(self, logits, _):
        return 0 * logits.sum()


def data() -> tuple[torch.Tensor, PartialTarget]:
    """A fully annotated case, and one in which class 2 was not looked for."""
    torch.manual_seed(0)
    tables = torch.eye(3, dtype=torch.bool).repeat(2, 1, 1)
    tables[1, 0, 2] = True
    labels = torch.randint(0, 3, (2, 1, 16, 16))
    labels[1][labels[1] == 2] = 0
    return torch.randn(2, 3, 16, 16), PartialTarget(labels, tables, torch.ones(2, 3, dtype=torch.bool))


def prior_aware(inputs: torch.Tensor, target: PartialTarget, *, ddp: bool) -> list[torch.Tensor]:
    torch.manual_seed(1)
    network, sizes = nn.Conv2d(3, 3, 1), OrganSizes(2)
    model = DistributedDataParallel(network) if ddp else network
    loss = PriorAwareLoss(Nothing(), sizes, num_random_patches=len(inputs), ddp=ddp)
    for _ in range(2):
        loss(model(inputs), TaughtTarget(target)).backward()
    return [*(weight.grad for weight in network.parameters()), *sizes.buffers()]


def adversarial(inputs: torch.Tensor, target: PartialTarget, *, ddp: bool) -> list[torch.Tensor]:
    torch.manual_seed(2)
    network = Discriminator(3, (16, 16), width=4)
    model = DistributedDataParallel(network) if ddp else network
    learner = Learner(network, torch.optim.SGD(network.parameters(), 0.1))
    every = PartialTarget(target.labels, torch.eye(3, dtype=torch.bool).repeat(len(inputs), 1, 1), target.annotated)
    for _ in range(2):
        verdicts = model(torch.cat(maps_to_judge(inputs, every)))
        learner.step(discriminator_loss(*verdicts.chunk(2), every))
    return [weight.detach() for weight in network.parameters()]


def work(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    inputs, target = data()
    mine = PartialTarget(*(part[rank : rank + 1] for part in (target.labels, target.tables, target.annotated)))
    torch.save([part(inputs[rank : rank + 1], mine, ddp=True) for part in (prior_aware, adversarial)], f"{folder}/rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    processes = mp.start_processes(work, args=(port, str(tmp_path)), nprocs=2, join=False, start_method="spawn")
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while not processes.join(timeout=5):
            assert time.monotonic() < deadline, f"the two processes did not end within {LIMIT_SECONDS} seconds"
    finally:
        for process in processes.processes:
            process.kill()
    expected = [part(*data(), ddp=False) for part in (prior_aware, adversarial)]
    assert expected[0][0].abs().sum() > 0
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"rank_{rank}.pt"), expected)
