"""Two processes give network and branches the gradients of one."""

import pytest
import torch
from test_confidence_model import unet
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import in_two_processes

from nnunet_partial.networks import Branches, LastFeatures


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


def gradients_of_rank(rank: int) -> list[torch.Tensor]:
    network, branches, image = parts()
    features = LastFeatures(network)
    return gradients(DistributedDataParallel(network), DistributedDataParallel(branches), features, image[rank : rank + 1])


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    found = in_two_processes(gradients_of_rank, tmp_path)
    network, branches, image = parts()
    expected = gradients(network, branches, LastFeatures(network), image)
    for of_rank in found:
        torch.testing.assert_close(of_rank, expected)
