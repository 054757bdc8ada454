"""A helper that learns by an optimizer of its own."""

import copy
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer


class Learner(nn.Module):
    """A network and its optimizer, whose state is part of the Module's: a training that is resumed goes on with both.

    Args:
        network: What learns.
        optimizer: The optimizer of its parameters.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer):
        super().__init__()
        self.network, self.optimizer = network, optimizer

    def step(self, loss: Tensor) -> None:
        """One step down this loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        """The optimizer's state."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over an optimizer's state, as a copy: torch would share its averages with another optimizer in memory."""
        self.optimizer.load_state_dict(copy.deepcopy(state))
