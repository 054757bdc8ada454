"""Arrays beside nnU-Net's preprocessed cases, in its own format (.b2nd), written whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

from nnunet_partial.labels import replacing


def write_array(array: np.ndarray, path: Path, patch_size: Sequence[int]) -> None:
    """Write an array in pieces that suit the loader's patches, as nnU-Net does.

    Shape:
        array (channels, z, y, x).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks, chunks = comp_blosc2_params(array.shape, tuple(patch_size), array.itemsize)
    compression = {"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1}
    with replacing(path) as temporary:  # blosc2 refuses a file that is there
        temporary.unlink(missing_ok=True)
        blosc2.asarray(np.ascontiguousarray(array), urlpath=str(temporary), chunks=chunks, blocks=blocks, cparams=compression)


def open_array(path: Path | str) -> blosc2.NDArray:
    """An array on disk; `[...]` or `[:]` reads what is asked for."""
    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}  # nnU-Net's own caution
    return blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapped)
