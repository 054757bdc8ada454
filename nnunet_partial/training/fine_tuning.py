"""A training that goes on from another one's weights, on label maps that lie beside nnU-Net's."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import nn
from torch._dynamo import OptimizedModule

from nnunet_partial.training.arrays import open_array


@dataclass(frozen=True)
class FineTuning:
    """What is different from a training of its own.

    Attributes:
        initial_checkpoint: Whose weights are the first.
        output_folder: Where checkpoints, logs and validation go; the first training's stay untouched.
        num_epochs: Epochs in all.
        initial_lr: Learning rate at epoch 0, falling as in any training.
        labels: Folder of label maps that stand in for the preprocessed ones in training, <case>_seg.b2nd and <case>.pkl; cases
            it does not have keep theirs, and validation keeps all of its own. None for none.
        confident: Whether pseudo-labels in them keep their confidence (`targets.confident_labels`).
    """

    initial_checkpoint: Path
    output_folder: Path
    num_epochs: int
    initial_lr: float
    labels: Path | None = None
    confident: bool = False


class OverlaidDataset(nnUNetBaseDataset):
    """A preprocessed dataset of nnU-Net's some of whose label maps come from another folder.

    Args:
        dataset: The dataset; its files are only read.
        folder: Holds <case>_seg.b2nd, and <case>.pkl with the class locations of these labels, by which the loader draws.
    """

    def __init__(self, dataset: nnUNetBaseDataset, folder: Path):
        self._dataset, self._folder = dataset, folder
        self.identifiers = dataset.identifiers
        self.overlaid = frozenset(path.stem for path in folder.glob("*.pkl")) & frozenset(map(str, dataset.identifiers))

    def load_case(self, identifier: str) -> tuple:
        """Image, label map, label map of the previous stage, properties."""
        data, labels, previous, properties = self._dataset.load_case(identifier)
        if identifier in self.overlaid:
            labels = open_array(self._folder / f"{identifier}_seg.b2nd")
            properties = pickle.loads((self._folder / f"{identifier}.pkl").read_bytes())
        return data, labels, previous, properties

    @staticmethod
    def save_case(*_: Any) -> None:
        """Overlays are written by who makes them."""
        raise NotImplementedError("an overlay is only read here")

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """The cases that have an overlay."""
        return sorted(path.stem for path in Path(folder).glob("*.pkl"))


def bare(network: nn.Module) -> nn.Module:
    """The network without what torch.compile and DDP wrap around it."""
    network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    return network._orig_mod if isinstance(network, OptimizedModule) else network


def load_weights(network: nn.Module, checkpoint: Path) -> None:
    """Take over the network weights of a checkpoint, and nothing else of it.

    Raises:
        ValueError: the weights are not those of such a network.
    """
    weights = torch.load(checkpoint, map_location="cpu", weights_only=False)["network_weights"]
    try:
        bare(network).load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint} holds the weights of another network than these plans ask for; was the dataset planned again after "
            f"the training? ({str(error).splitlines()[0]})"
        ) from None
