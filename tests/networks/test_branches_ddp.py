"""Two processes give network and branches the gradients of one."""

import os
import socket
import time

import pytest
import torch
import torch.multiprocessing as mp
from test_confidence_model import unet
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_partial.networks import Branches, LastFeatures

LIMIT_SECONDS = 240


def parts() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = unet(2)
    network.decoder.deep_supervision = False
    network.decoder.seg_layers = network.decoder.seg_layers[-1:]
    return network, Branches(network, 3), torch.randn(2, 1, 16, 16)


def gradients(network: nn.Module, branches: nn.Module, features: LastFeatures, image: torch.Tensor) -> list[torch.Tensor]:
    logits = network(image)
    sum(part.square().mean() for part in (logits, *branches(features.take()))).backward()
    return [parameter.grad for module in (network, branches) for parameter in module.parameters()]


def work(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    network, branches, image = parts()
    features = LastFeatures(network)
    both = DistributedDataParallel(network), DistributedDataParallel(branches)
    torch.save(gradients(*both, features, image[rank : rank + 1]), f"{folder}/rank_{rank}.pt")
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
    network, branches, image = parts()
    expected = gradients(network, branches, LastFeatures(network), image)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"rank_{rank}.pt"), expected)
