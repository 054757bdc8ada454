"""Two processes average organ sizes, and teach network and discriminator, as one does."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import in_two_processes

from nnunet_partial.losses import OrganSizes, PriorAwareLoss, discriminator_loss, maps_to_judge
from nnunet_partial.networks import Discriminator
from nnunet_partial.targets import PartialTarget, TaughtTarget
from nnunet_partial.training.learner import Learner


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


def both_parts(rank: int) -> list[list[torch.Tensor]]:
    inputs, target = data()
    mine = PartialTarget(*(part[rank : rank + 1] for part in (target.labels, target.tables, target.annotated)))
    return [part(inputs[rank : rank + 1], mine, ddp=True) for part in (prior_aware, adversarial)]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    found = in_two_processes(both_parts, tmp_path)
    expected = [part(*data(), ddp=False) for part in (prior_aware, adversarial)]
    assert expected[0][0].abs().sum() > 0
    for of_rank in found:
        torch.testing.assert_close(of_rank, expected)
