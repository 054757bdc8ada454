"""Two processes of torch.distributed on one machine, for what nnU-Net does on several GPUs."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import distributed as dist

LIMIT_SECONDS = 240


def in_two_processes(part: Callable[..., Any], folder: Path, *args: object) -> list[Any]:
    """What `part(rank, *args)` returns in each of two processes that form a group.

    Args:
        part: A function of a module, which a fresh process can import.
        folder: Where each process leaves what it found.
        args: Handed on.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    processes = mp.start_processes(_work, args=(port, folder, part, args), nprocs=2, join=False, start_method="spawn")
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while not processes.join(timeout=5):
            assert time.monotonic() < deadline, f"the two processes did not end within {LIMIT_SECONDS} seconds"
    finally:
        for process in processes.processes:
            process.kill()
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


def _work(rank: int, port: int, folder: Path, part: Callable[..., Any], args: tuple) -> None:
    # not file://: where both processes close that store at once, one of them can wait for ever
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(part(rank, *args), folder / f"rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
