"""Networks on top of a segmentation network's last features that learn to rank (Petit et al. 2021, figure 3, table 11)."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nnunet_partial.networks.last_features import LastFeatures, last_layer

PAPER_WIDTHS = (400, 120, 64, 64)
"""On 64 features in 2D; in 3D this head would cost many times what the network costs."""


class ConfidenceNetwork(nn.Module):
    """3 x 3 (x 3) convolutions with ReLU, then 1 x 1; returns log-odds, whose sigmoid is the confidence of each class.

    Args:
        num_features: Channels of the segmentation network before its last 1 x 1 convolution.
        num_classes: K, foreground classes.
        widths: Channels of the hidden convolutions; None for 2, 1, 1 and 1 times the features (the paper: `PAPER_WIDTHS`).
        dims: 2 or 3.
    Shape:
        features (B, num_features, *S); returns (B, K, *S).
    """

    def __init__(self, num_features: int, num_classes: int, *, widths: Sequence[int] | None = None, dims: int):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        layers, channels = [], num_features
        for width in (2 * num_features, *[num_features] * 3) if widths is None else widths:
            layers += [convolution(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        self.layers = nn.Sequential(*layers, convolution(channels, num_classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Log-odds of the confidence."""
        return self.layers(features)


class RankingModel(nn.Module):
    """A segmentation network up to its last features, and a network on them that learns how far its decisions are to be trusted.

    What it learns begins at zero everywhere.

    Args:
        segmentation: nnU-Net's network; it is left as it is.
        num_classes: K, foreground classes.
        log_odds: Logits -> log-odds of each foreground class, (B, C, *S) -> (B, K, *S).
        widths: See `ConfidenceNetwork`.
        frozen: Learn the network on the features alone ("transfer"); else a duplicate of the segmentation network learns too,
            which the paper found better, while the original keeps its predictions.
    Raises:
        NotImplementedError: the network has no `decoder.seg_layers` as nnU-Net's U-Nets have.
    """

    def __init__(
        self,
        segmentation: nn.Module,
        num_classes: int,
        log_odds: Callable[[Tensor], Tensor],
        *,
        widths: Sequence[int] | None = None,
        frozen: bool = False,
    ):
        super().__init__()
        last = last_layer(segmentation)
        self.frozen, self.log_odds = frozen, log_odds
        self.backbone = copy.deepcopy(segmentation)
        self.backbone.decoder.deep_supervision = False
        self.backbone.requires_grad_(not frozen)
        self.head = ConfidenceNetwork(last.in_channels, num_classes, widths=widths, dims=last.weight.ndim - 2)
        nn.init.zeros_(self.head.layers[-1].weight)
        nn.init.zeros_(self.head.layers[-1].bias)
        self._features = LastFeatures(self.backbone)

    def own_and_learned(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's log-odds, and what the network on its features makes of them; (B, K, *S) each."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            own = self.log_odds(self.backbone(image))
        return own, self.head(self._features.take())

    def train(self, mode: bool = True) -> "RankingModel":
        """A frozen network stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class ConfidenceModel(RankingModel):
    """A ranking model that learns a correction to the network's own log-odds.

    It begins with none: before its first step it ranks as maximum class probability does. Learned from nothing, as in the paper,
    it ranks worse than that for hundreds of iterations (docs/rounds.md has the figures).

    Shape:
        image (B, channels, *S); predicted (B, K, *S) bool; returns (B, K, *S).
    """

    def forward(self, image: Tensor, predicted: Tensor | None = None) -> Tensor:
        """Log-odds that what was decided on each class is right.

        Args:
            image: A batch of patches.
            predicted: Whether the class was predicted there; None where one asks only of classes that were.
        """
        own, correction = self.own_and_learned(image)
        return (own if predicted is None else own.where(predicted, -own)) + correction


class VarianceModel(RankingModel):
    """A ranking model that learns how noisy the network's log-odds are (Kendall & Gal 2017); variance 1 before its first step.

    Shape:
        image (B, channels, *S); returns twice (B, K, *S).
    """

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the log-odds of each class."""
        return self.own_and_learned(image)
