"""Variance maps: how uncertain a class is in each voxel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.folder import class_name
from nnunet_partial.evaluation.write_like import write_like
from nnunet_partial.labels import LabelSpace


def variance(probability: np.ndarray) -> np.ndarray:
    """The variance of a class that is there or not, from how probable it is: p (1 - p), at most 0.25.

    Shape:
        probability *S in [0, 1]; returns *S float32.

    Source: Silva & Oliveira 2021, footnote 1.
    """
    probability = np.clip(probability, 0, 1, dtype=np.float32)
    return probability * (1 - probability)


def variance_map_files(
    folder: Path, of_whom: Sequence[str], identifier: str, keys: Sequence[ClassKey], space: LabelSpace, ending: str
) -> dict[tuple[str, ClassKey], Path]:
    """(whose variance, class) -> <folder>/<whose>/<class>/<identifier><ending>."""
    return {(whose, key): folder / whose / class_name(key, space) / f"{identifier}{ending}" for whose in of_whom for key in keys}


def write_variance_map(probability: np.ndarray, like: Path, path: Path) -> None:
    """Write the variance on the grid of a file."""
    write_like(variance(probability), like, path)
