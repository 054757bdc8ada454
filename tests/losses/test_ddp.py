"""Two processes give the loss and the gradient of one, where nnU-Net adds sums over processes."""

import pytest
import torch
from builders import random_case
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import in_two_processes

from nnunet_partial.losses import MarginalExclusionLoss, MarginalLoss, fused_sums, plain_sums
from nnunet_partial.targets import PartialTarget

LOSSES = {"marginal": MarginalLoss, "marginal_exclusion": MarginalExclusionLoss}
MAKE_SUMS = (fused_sums, plain_sums)


def data():
    logits, target = random_case(9, dtype=torch.float64)
    return logits, target


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(5, 5, 1).double()


def of_rank(rank: int, loss_name: str) -> dict[str, tuple]:
    inputs, target = data()
    mine = PartialTarget(*(part[rank : rank + 1] for part in (target.labels, target.tables, target.annotated)))
    results = {}
    for make_sums in MAKE_SUMS:
        model = DistributedDataParallel(network())
        loss = LOSSES[loss_name](batch_dice=True, ddp=True, make_sums=make_sums)(model(inputs[rank : rank + 1]), mine)
        loss.backward()
        results[make_sums.__name__] = loss.detach(), [p.grad for p in model.parameters()]
    return results


@pytest.mark.parametrize("loss_name", LOSSES)
def test_two_processes_equal_one(loss_name, tmp_path):
    ranks = in_two_processes(of_rank, tmp_path, loss_name)
    inputs, target = data()
    model = network()
    single = LOSSES[loss_name](batch_dice=True, make_sums=plain_sums)(model(inputs), target)
    single.backward()
    for make_sums in MAKE_SUMS:
        results = [found[make_sums.__name__] for found in ranks]
        torch.testing.assert_close(sum(loss for loss, _ in results) / 2, single.detach())  # cross entropies differ by rank
        for _, gradients in results:
            torch.testing.assert_close(gradients, [p.grad for p in model.parameters()])
