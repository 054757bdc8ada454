"""What ranks predictions: every criterion is a network that says, for each class, the log-odds that its prediction is right.

The maximum class probability needs none: the segmentation network's own log-odds are there when it has predicted.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_partial.losses.aleatoric import expected_log_odds
from nnunet_partial.losses.log_odds import mean_log_odds
from nnunet_partial.networks import Relabeller as BranchCopy
from nnunet_partial.networks import VarianceModel, dropped_passes
from nnunet_partial.pseudo_labels.confidence_training import ConfidenceSettings, load_confidence
from nnunet_partial.pseudo_labels.request import RoundsRequest
from nnunet_partial.pseudo_labels.sliding_window import Network, SlidingWindow
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.perturbation import with_noise
from nnunet_partial.training.planned_trainer import PlannedTrainer

LogOdds = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ranking:
    """Scores of predicted voxels, higher is surer.

    Attributes:
        network: (1, channels, *patch) -> log-odds (1, K, *patch) that a voxel is rightly predicted as each class.
        window: How images are shown to it; the log-odds of overlapping tiles are averaged.
        generator: What its random passes draw from; None where there are none.
    """

    network: Network
    window: SlidingWindow
    generator: torch.Generator | None = None

    def scores(self, case: str, image: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """The log-odds of the predicted class where one is predicted.

        Random passes begin from the case's own seed: a case is scored alike whenever, by whichever process and after whichever
        others it is done.

        Shape:
            image (channels, z, y, x), prediction (z, y, x) of ids; returns (z, y, x) float32, 0 where nothing is predicted.
        """
        if self.generator is not None:
            self.generator.manual_seed(seed_of(case))
        return self.window.at_classes(image, self.network, prediction)


class MeanOfPasses(nn.Module):
    """Log-odds of the mean probability over several passes: low where they differ, or are all in doubt.

    Not the entropy: it is as low where all passes agree on another class than the one predicted. Passes are not kept: sums are
    added up as they come.

    Args:
        passes: An image -> logits of one pass after the other.
        log_odds: Logits -> log-odds of the foreground classes, as the network's trainer says.
    Shape:
        image (B, channels, *S); returns (B, K, *S).
    Source: Shi et al. 2022, table VI (mean of the passes).
    """

    def __init__(self, passes: Callable[[Tensor], Iterator[Tensor]], log_odds: LogOdds):
        super().__init__()
        self.passes, self.log_odds = passes, log_odds

    def forward(self, image: Tensor) -> Tensor:
        """Log-odds of the mean probability of each class."""
        return mean_log_odds(map(self.log_odds, self.passes(image)))


class AugmentedViews:
    """The logits of several copies of an image, mirrored and with noise, turned back.

    Args:
        network: (B, channels, *S) -> logits (B, C, *S).
        views: T; every combination of mirrored axes takes its turn, the first one is not mirrored.
        mirror_axes: Axes of a patch that may be mirrored.
        noise: Standard deviation of the noise, see `with_noise`; the image itself is among the views only without noise.
        num_image_channels: See `with_noise`.
        generator: What noise is drawn from.
    Source: Wang et al. 2019 (flips, rotations, scaling and noise, drawn at random).
    """

    def __init__(
        self,
        network: nn.Module,
        views: int,
        mirror_axes: Sequence[int],
        noise: float,
        *,
        num_image_channels: int,
        generator: torch.Generator,
    ):
        self.network, self.views, self.noise = network, views, noise
        self.num_image_channels, self.generator = num_image_channels, generator
        self.flips = [
            tuple(axis + 2 for axis in flip)  # behind batch and channel
            for count in range(len(mirror_axes) + 1)
            for flip in itertools.combinations(mirror_axes, count)
        ]

    def each(self, image: Tensor) -> Iterator[Tensor]:
        """The logits of one view after the other."""
        for flip in itertools.islice(itertools.cycle(self.flips), self.views):
            view = with_noise(image, self.noise, num_image_channels=self.num_image_channels, generator=self.generator)
            yield self.network(view.flip(flip)).flip(flip)


class UnderNoise(nn.Module):
    """Log-odds of the probability that is expected under the noise which a network predicts of its own log-odds.

    Args:
        model: The variance model.
    Shape:
        image (B, channels, *S); returns (B, K, *S).
    Source: Kendall & Gal 2017; the expectation is MacKay's, see `expected_log_odds`.
    """

    def __init__(self, model: VarianceModel):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Expected log-odds of each class."""
        return expected_log_odds(*self.model(image))


class BranchAgreement(nn.Module):
    """The smaller of the log-odds of a conservative and a radical branch: in a tile above 0 exactly where both say the organ.

    Args:
        copy: Network and branches.
    Shape:
        image (B, channels, *S); returns (B, K, *S).
    Source: Shi et al. 2022, eq. (3)-(5), whose mask of certain voxels of an organ is where this is above 0.
    """

    def __init__(self, copy: BranchCopy):
        super().__init__()
        self.copy = copy

    def forward(self, image: Tensor) -> Tensor:
        """What the more careful branch says of each class."""
        _, conservative, radical = self.copy(image)
        return torch.minimum(conservative, radical)


def make_ranking(
    request: RoundsRequest, trainer: PlannedTrainer, folder: Path, window: SlidingWindow, mirror_axes: Sequence[int]
) -> Ranking | None:
    """What ranks the predictions of a network.

    Args:
        request: Which criterion, and how.
        trainer: With the network and its weights, deep supervision off.
        folder: Where a network that learned to rank lies.
        window: How the network predicts. Several passes are a mean already: of their tiles no further mirrored copies are made.
        mirror_axes: Axes of a patch along which the network may be shown mirrored images.

    Returns:
        None where the network's own log-odds rank, or nothing does.
    """
    if request.criterion == "confidence":
        return Ranking(load_confidence(trainer, ConfidenceSettings.of(request), folder), window)
    if request.criterion == "aleatoric":
        return Ranking(UnderNoise(load_confidence(trainer, ConfidenceSettings.of(request), folder)), window)
    if request.criterion == "branches":
        return Ranking(BranchAgreement(trainer.branch_copy()), window)
    if request.criterion not in ("dropout", "augmentation"):
        return None
    network, generator = bare(trainer.network).eval(), torch.Generator(window.device)
    if request.criterion == "dropout":
        how = {"passes": request.passes, "rate": request.dropout_rate, "generator": generator}
        passes = partial(dropped_passes, network, **how)
    else:
        channels = len(trainer.dataset_json["channel_names"])
        passes = AugmentedViews(
            network, request.passes, mirror_axes, request.noise, num_image_channels=channels, generator=generator
        ).each
    unmirrored = SlidingWindow(window.patch_size, step_size=window.step_size, device=window.device)
    return Ranking(MeanOfPasses(passes, trainer.log_odds), unmirrored, generator)


def seed_of(case: str) -> int:
    """A number that is the same for a case in every process and release of Python, and another one for another case."""
    return int.from_bytes(hashlib.blake2b(case.encode(), digest_size=4).digest(), "little")
