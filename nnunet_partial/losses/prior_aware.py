"""Organ sizes as a prior (PaNN, Zhou et al. 2019): where nobody looked for an organ, its average size is to be the usual one.

q_k is the average share of an organ where it was annotated, p_k the average share that the network predicts where it was not.
The paper asks for small

    J = sum_k KL(q_k || p_k),     KL(q || p) = q log(q / p) + (1 - q) log((1 - q) / (1 - p))

and the logarithm of an average over a dataset is no sum over patches. As -log x = max over v < 0 of (x v + 1 + log(-v)), the
paper writes J as a maximum over dual variables v_k (for p_k) and m_k (for 1 - p_k) of terms that are linear in p_k, and at each
batch takes a step of ascent in v and m and one of descent in the network.

Here the dual variables are v_k = -1 / u_k and m_k = -1 / (1 - u_k) of one number u_k in (0, 1), as both are at their optimum at
u_k = p_k. With s_k the share in a batch, the slope of the dual in u_k is

    (s - u) (q / u^2 + (1 - q) / (1 - u)^2)

so that a step of ascent, of size (1 - decay) / (q / u^2 + (1 - q) / (1 - u)^2), is the moving average u + (1 - decay) (s - u).
Ascent in v itself with one step size for all organs would not do: the dual's curvature there is q u^2, which spans many orders of
magnitude between organs. At the dual's optimum the network's slope is that of J.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nnunet_partial.losses.consistency import logits_on_candidates
from nnunet_partial.losses.organ_sizes import OrganSizes
from nnunet_partial.losses.taught import TaughtLoss, full_resolution
from nnunet_partial.targets import PartialTarget, TaughtTarget, ambiguous_voxels, decided_voxels, unannotated_organs

SMALLEST = 1e-6  # shares below are taken for this one; one voxel of a patch of 128^3 is half of it


def organ_shares(logits: Tensor, target: PartialTarget) -> Tensor:
    """Share of each patch that each organ takes up: the mean over voxels of its probability *given* the candidate sets.

    Where an organ was looked for by itself, that is its annotated share, whatever the network says; and no voxel that is known to
    be something else is ever pushed towards an organ. Ignored voxels do not count.

    Args:
        logits: Network output before softmax.
        target: Label map and candidate tables of the batch.
    Shape:
        logits (B, C, *S); returns (B, K), float32 at least.
    Raises:
        ValueError: shapes of logits and target differ, or the target is soft.
    """
    organs = logits_on_candidates(logits, target).softmax(1)[:, 1:].flatten(2)  # (B, K, V)
    counted = (decided_voxels(target) | ambiguous_voxels(target)).flatten(2)  # (B, 1, V)
    return (organs * counted).sum(2) / counted.sum(2).clamp_min(1)


def size_prior_loss(
    shares: Tensor, unannotated: Tensor, prior: Tensor, average: Tensor, *, num_patches: Tensor | None = None
) -> Tensor:
    """The dual of KL(prior || predicted average), summed over organs; its mean over patches is that KL where `average` is theirs.

    Args:
        shares: What each organ takes up of each patch; the gradient flows into these alone.
        unannotated: The patches that count, by organ.
        prior: q, the average annotated share.
        average: u, the average predicted share, from which the dual variables follow.
        num_patches: Over how many patches to take an organ's mean, if others than those given.
    Shape:
        shares (B, K); unannotated (B, K) bool; prior, average and num_patches (K,); returns a scalar (nats).
    Raises:
        ValueError: shapes differ.
    Source: Zhou et al. 2019, the min-max form of J; q log q + (1 - q) log(1 - q) is added, so that agreement costs nothing.
    """
    if unannotated.shape != shares.shape or not prior.shape == average.shape == shares.shape[1:]:
        found = f"{tuple(shares.shape)}, {tuple(unannotated.shape)}, {tuple(prior.shape)} and {tuple(average.shape)}"
        raise ValueError(f"shares and unannotated must be (B, K), prior and average (K,), got {found}")
    q, u = prior.detach(), average.detach().clamp(SMALLEST, 1 - SMALLEST)
    v, m = -1 / u, -1 / (1 - u)
    present = q * (shares * v + 1 + torch.log(-v))
    absent = (1 - q) * ((1 - shares) * m + 1 + torch.log(-m))
    constant = torch.xlogy(q, q) + torch.xlogy(1 - q, 1 - q)
    num_patches = unannotated.sum(0) if num_patches is None else num_patches
    return ((present + absent + constant) * unannotated / num_patches.where(num_patches > 0, 1)).sum()


class PriorAwareLoss(TaughtLoss):
    """A loss by annotation, and agreement of organ sizes.

    Only patches count that nnU-Net lays anywhere in a case. Those that it centres on an organ are centred on one that was
    annotated *there*: the average size of a liver in patches around livers says nothing of patches around kidneys.

    Args:
        supervised: See `TaughtLoss`.
        sizes: The averages; every training batch is added to them.
        weight_size_prior: Weight of `size_prior_loss`.
        num_random_patches: How many patches lie anywhere; they are the first of a batch.
        ddp: Average over the patches of all processes.
    """

    def __init__(
        self,
        supervised: nn.Module,
        sizes: OrganSizes,
        *,
        weight_size_prior: float = 0.1,
        num_random_patches: int,
        ddp: bool = False,
    ):
        super().__init__(supervised)
        self.sizes = sizes
        self.weight_size_prior, self.num_random_patches, self.ddp = weight_size_prior, num_random_patches, ddp

    def further_terms(self, output: Any, target: TaughtTarget) -> Tensor | float:
        """The agreement of sizes, weighted."""
        prior = self._size_prior(full_resolution(output), target.full_resolution)
        return target.weight * self.weight_size_prior * prior if target.weight else 0.0

    def _size_prior(self, logits: Tensor, target: PartialTarget) -> Tensor:
        first = slice(0, self.num_random_patches)
        parts = target.labels[first], target.tables[first], target.annotated[first]
        target = PartialTarget(*parts, target.ignore_label)
        shares, unannotated = organ_shares(logits[first], target), unannotated_organs(target)
        num_patches = self.sizes.update(shares, unannotated, ddp=self.ddp)
        if self.ddp:  # gradients are averaged over processes, each of which then has to give its share of their sum
            num_patches = num_patches / torch.distributed.get_world_size()
        return size_prior_loss(
            shares,
            unannotated & (self.sizes.num_annotated > 0),
            self.sizes.annotated,
            self.sizes.predicted,
            num_patches=num_patches,
        )
