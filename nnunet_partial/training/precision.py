"""In what precision nnU-Net computes."""

from contextlib import AbstractContextManager, nullcontext

import torch


def host_precision(device: torch.device) -> AbstractContextManager:
    """Half precision on a GPU, as nnU-Net has it; elsewhere whatever is set outside."""
    return torch.autocast(device.type) if device.type == "cuda" else nullcontext()
