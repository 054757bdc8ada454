"""CoraNet without some of its terms, for `benchmarks.study` (Shi et al. 2022, section IV D, table IV)."""

from collections.abc import Callable

from torch import Tensor, nn

from nnunet_partial.trainers import nnUNetTrainerCoraNet

Region = Callable[[Tensor, Tensor], Tensor]


def everywhere(ambiguous: Tensor, certain: Tensor) -> Tensor:
    """All voxels that the annotation leaves open."""
    return ambiguous


def where_certain(ambiguous: Tensor, certain: Tensor) -> Tensor:
    """Those on which the branches agree."""
    return ambiguous & certain


class Ablation(nnUNetTrainerCoraNet):
    """CoraNet with self-training and consistency on other voxels, or without one of them."""

    self_training: Region | None = None
    consistency: Region | None = None

    def build_taught_loss(self, supervised: nn.Module) -> nn.Module:
        """CoraNet's loss with terms left out."""
        loss = super().build_taught_loss(supervised)
        regions = [region or everywhere for region in (self.self_training, self.consistency)]
        loss.regions = lambda ambiguous, certain: tuple(region(ambiguous, certain) for region in regions)
        loss.weight_self_training *= self.self_training is not None
        loss.weight_consistency *= self.consistency is not None
        return loss


class nnUNetTrainerCoraNetSeg(Ablation):
    """The annotation alone, and both branches: "seg"."""


class nnUNetTrainerCoraNetSt(Ablation):
    """Self-training on all voxels that the annotation leaves open: "seg+st"."""

    self_training = staticmethod(everywhere)


class nnUNetTrainerCoraNetStMask(Ablation):
    """Self-training where the branches agree: "seg+st (mask)"."""

    self_training = staticmethod(where_certain)


class nnUNetTrainerCoraNetMt(Ablation):
    """Consistency on all voxels that the annotation leaves open: "seg+mt"."""

    consistency = staticmethod(everywhere)


class nnUNetTrainerCoraNetMtMask(Ablation):
    """Consistency where the branches agree: "seg+mt (mask)", in which "the uncertain region is not involved"."""

    consistency = staticmethod(where_certain)
