"""A teacher whose weights are a moving average of its student's (Tarvainen & Valpola 2017)."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Teacher(nn.Module):
    """The exponential moving average of a network; it learns nothing by itself.

    It is always in evaluation mode: what it says of a patch then depends on that patch alone, not on dropout or on the others of
    the batch. Buffers (running means of batch norm; nnU-Net's instance norm has none) are copied from the student, because they
    are moving averages already. Under DDP the weights of all processes are the same, hence so are the teachers.

    Args:
        network: The student, without what torch.compile and DDP wrap around it; one of nnU-Net's, whose decoder knows deep
            supervision. The teacher answers at full resolution alone.
        decay: Share of its weights that the teacher keeps at an update.
    Shape:
        image (B, channels, *S); returns logits (B, C, *S).
    Source: Shi et al. 2022 (CoraNet), eq. (9), decay 0.99.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99):
        super().__init__()
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.average.module.decoder.deep_supervision = False
        self.requires_grad_(False)
        self.eval()

    @property
    def has_begun(self) -> bool:
        """Whether it has been given the student's weights once."""
        return bool(self.average.n_averaged > 0)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the student's weights over, the first time as they are, then by the share that the decay leaves."""
        self.average.update_parameters(network)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """The teacher's logits."""
        return self.average(image)

    def train(self, mode: bool = True) -> "Teacher":
        """It stays in evaluation mode."""
        return super().train(False)
