"""One case between nnU-Net's preprocessed grid and the grid of its raw image, by the host's own resampling."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

_LEAST_WEIGHT = 1e-3  # below it, values are far from every known voxel


@dataclass(frozen=True)
class CaseGeometry:
    """How a case was transposed, cropped and resampled.

    Attributes:
        properties: What nnU-Net's preprocessor noted of the case in <case>.pkl.
        plans_manager: The plans it was preprocessed with.
        configuration_manager: Their configuration.
    """

    properties: dict[str, Any]
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager

    @classmethod
    def read(cls, file: Path, plans_manager: PlansManager, configuration_manager: ConfigurationManager) -> "CaseGeometry":
        """The geometry that <case>.pkl tells of.

        Raises:
            FileNotFoundError: the case was not preprocessed.
        """
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist; run `nnunet_partial plan`, which preprocesses")
        return cls(pickle.loads(file.read_bytes()), plans_manager, configuration_manager)

    @property
    def raw_spacing(self) -> list[float]:
        """Of the raw image, axes transposed."""
        return [self.properties["spacing"][axis] for axis in self.plans_manager.transpose_forward]

    @property
    def spacing(self) -> list[float]:
        """Of the preprocessed arrays; a 2d configuration leaves the distance of the slices as it was."""
        planned = list(self.configuration_manager.spacing)
        return planned if len(planned) == len(self.cropped_shape) else [self.raw_spacing[0], *planned]

    @property
    def cropped_shape(self) -> tuple[int, ...]:
        """Transposed and cropped, before resampling."""
        return tuple(self.properties["shape_after_cropping_and_before_resampling"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the preprocessed arrays, *S."""
        return tuple(map(int, compute_new_shape(self.cropped_shape, self.raw_spacing, self.spacing)))

    def labels_to_preprocessed(self, labels: np.ndarray) -> np.ndarray:
        """A transposed and cropped label map on the preprocessed grid.

        Shape:
            labels (1, *cropped_shape); returns (1, *shape) int16.
        """
        resample = self.configuration_manager.resampling_fn_seg
        return np.asarray(resample(labels, self.shape, self.raw_spacing, self.spacing)).astype(np.int16)

    def labels_to_raw(self, labels: np.ndarray) -> np.ndarray:
        """A label map on the grid of the raw image, 0 outside the crop.

        Shape:
            labels (1, *shape); returns int16 with the axes of nnU-Net's reader.
        Raises:
            ValueError: the array does not have the shape that the case is preprocessed to.
        """
        return self._to_raw(labels, self.configuration_manager.resampling_fn_seg).astype(np.int16)

    def values_to_raw(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Values on the grid of the raw image, interpolated between the known voxels alone; 0 away from them.

        Unknown neighbours would pull values at the rim of an organ towards 0; dividing by the interpolated mask undoes that.

        Shape:
            values (1, *shape) float32, known (1, *shape) bool; returns float32 with the axes of nnU-Net's reader.
        Raises:
            ValueError: the arrays do not have the shape that the case is preprocessed to.
        """
        resample = self.configuration_manager.resampling_fn_probabilities
        weights = self._to_raw(known.astype(np.float32), resample)
        summed = self._to_raw(np.where(known, values, np.float32(0)), resample)
        return np.divide(summed, weights, out=np.zeros_like(summed), where=weights > _LEAST_WEIGHT)

    def _to_raw(self, array: np.ndarray, resample: Callable[..., Any]) -> np.ndarray:
        """Preprocessing backwards: resample, put back into the box, transpose."""
        if array.shape[1:] != self.shape:
            raise ValueError(
                f"an array has shape {array.shape[1:]}, the case is preprocessed to {self.shape}; its round was made with other "
                "plans, or before the case changed: make the round again"
            )
        resampled = np.asarray(resample(array, self.cropped_shape, self.spacing, self.raw_spacing))[0]
        placed = np.zeros(self.properties["shape_before_cropping"], dtype=resampled.dtype)
        placed[bounding_box_to_slice(self.properties["bbox_used_for_cropping"])] = resampled
        return placed.transpose(self.plans_manager.transpose_backward)
