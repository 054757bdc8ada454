"""Running averages of organ sizes: what annotators drew, and what the network makes of it where nobody looked."""

import torch
from torch import Tensor, nn


class OrganSizes(nn.Module):
    """Average share of a patch that each organ takes up, annotated and predicted.

    The annotated average is over all patches so far, as what annotators draw does not change while a network trains. The
    predicted one forgets: it is the average over all patches until they are more than 1 / (1 - decay) batches, from then on
    an exponential moving average. Sums over all processes leave the averages of all processes alike.

    Args:
        num_organs: K, foreground classes.
        decay: Share of itself that the predicted average keeps at each batch.

    Attributes:
        annotated: (K,), average over patches of cases in which the organ was looked for.
        num_annotated: (K,), how many these were.
        predicted: (K,), average over patches of cases in which nobody looked for it.
        num_predicted: (K,), how many these were.
    """

    def __init__(self, num_organs: int, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        for name in ("annotated", "num_annotated", "predicted", "num_predicted"):
            self.register_buffer(name, torch.zeros(num_organs))

    @torch.no_grad()
    def update(self, shares: Tensor, unannotated: Tensor, *, ddp: bool = False) -> Tensor:
        """Take a batch in; what is not finite (mixed precision may overflow) is left out.

        Args:
            shares: Share of each patch that each organ takes up.
            unannotated: Whether nobody looked for the organ in the patch's case.
            ddp: Add over the processes of torch.distributed.
        Shape:
            shares (B, K); unannotated (B, K) bool; returns (K,), the number of unannotated ones of the batch, over all processes.
        """
        finite, shares = shares.isfinite(), shares.nan_to_num(0, 0, 0)
        known, open_ = finite & ~unannotated, finite & unannotated
        sums = torch.stack([(shares * known).sum(0), known.sum(0), (shares * open_).sum(0), open_.sum(0), unannotated.sum(0)])
        if ddp:
            torch.distributed.all_reduce(sums)
        annotated, num_annotated, predicted, num_predicted, num_unannotated = sums
        self.num_annotated += num_annotated
        self.annotated += (annotated - num_annotated * self.annotated) / self.num_annotated.clamp_min(1)
        self.num_predicted += num_predicted
        rate = (num_predicted / self.num_predicted.clamp_min(1)).clamp_min(1 - self.decay) * (num_predicted > 0)
        self.predicted += rate * (predicted / num_predicted.clamp_min(1) - self.predicted)
        return num_unannotated
