"""Untouched label maps of training cases in preprocessed space, if simulated data kept them: what relabelling is judged by."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_partial.labels import ANNOTATION_KEY, Annotation
from nnunet_partial.pseudo_labels.geometry import CaseGeometry
from nnunet_partial.training.arrays import open_array, write_array

REFERENCES = "references"
SIMULATION_NAME = "simulation.json"


@dataclass(frozen=True)
class ReferenceMaps:
    """The label maps in the raw dataset's `references` folder, which `nnunet_partial simulate` writes.

    Attributes:
        raw_dataset: <raw>/<dataset>.
        preprocessed_dataset: <preprocessed>/<dataset>.
        plans_manager: The plans the cases were preprocessed with.
        configuration_manager: Their configuration.
    """

    raw_dataset: Path
    preprocessed_dataset: Path
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager

    @property
    def folder(self) -> Path:
        """Where the references lie, <case><file ending>, on the grid of the raw images."""
        return self.raw_dataset / REFERENCES

    @property
    def available(self) -> bool:
        """Whether the dataset has references."""
        return self.folder.is_dir() and any(not path.name.startswith(".") for path in self.folder.iterdir())

    @cached_property
    def annotation(self) -> Annotation | None:
        """How the references were annotated; None where in each of them every class was looked for, under its own label id."""
        block = (self._simulation or {}).get("reference_annotation")
        return None if block is None else Annotation.from_dataset_json({**self._dataset_json, ANNOTATION_KEY: block})

    def shows(self, case: str, class_name: str) -> bool:
        """Whether the reference of a case tells where an unannotated class is: simulation dropped it, or nothing says otherwise.

        A reference that only says "one of the kidneys" tells of neither side where it is.
        """
        if self._simulation is None:
            return True
        if class_name not in self._simulation["dropped"].get(case, ()):
            return False
        if self.annotation is None:
            return True
        number = self.annotation.space.id_of(class_name)
        return self.annotation.protocol_of(case).labels.get(number) == (class_name,)

    def load(self, case: str) -> np.ndarray:
        """The reference of a case as nnU-Net would have preprocessed it: -1 outside the image, as in its own label maps.

        Made once and kept; made again where reference or preprocessed case are newer.

        Shape:
            returns (1, *S) int16.
        Raises:
            FileNotFoundError: the case has no reference, no image, or was not preprocessed.
            ValueError: the reference does not lie on the image's voxels, or the image changed since it was preprocessed.
        """
        reference = self.folder / f"{case}{self._file_ending}"
        if not reference.exists():
            raise FileNotFoundError(
                f"case '{case}' has no reference {reference}; simulate the dataset again, or remove the folder"
            )
        properties = self._folder / f"{case}.pkl"
        geometry = CaseGeometry.read(properties, self.plans_manager, self.configuration_manager)
        kept = self.preprocessed_dataset / f"{self._folder.name}_{REFERENCES}" / f"{case}.b2nd"
        if not _is_newer(kept, reference, properties):
            labels = self._preprocess(case, reference, geometry)
            write_array(labels, kept, self.configuration_manager.patch_size)
        return open_array(kept)[:]

    def _preprocess(self, case: str, reference: Path, geometry: CaseGeometry) -> np.ndarray:
        """nnU-Net's steps in its order; the image says what is outside, which takes part in the resampling of labels."""
        if case not in self._images:
            raise FileNotFoundError(f"case '{case}' has a reference but no image in {self.raw_dataset / 'imagesTr'}")
        labels, box = self._crop(case, reference)
        before = geometry.properties["bbox_used_for_cropping"]
        if [list(side) for side in box] != [list(side) for side in before]:
            raise ValueError(
                f"case '{case}' was cropped to {before} when it was preprocessed, its image is now cropped to {box}; "
                "preprocess the dataset again"
            )
        return geometry.labels_to_preprocessed(labels)

    def _crop(self, case: str, reference: Path) -> tuple[np.ndarray, list[list[int]]]:
        """The transposed and cropped label map, and the box; the image is in memory only here."""
        reader = self.plans_manager.image_reader_writer_class()
        image, _ = reader.read_images(self._images[case])
        labels, _ = reader.read_seg(str(reference))
        if image.shape[1:] != labels.shape[1:]:
            raise ValueError(f"{reference} has shape {labels.shape[1:]}, the image of case '{case}' has {image.shape[1:]}")
        forward = [0, *(axis + 1 for axis in self.plans_manager.transpose_forward)]
        return crop_to_nonzero(image.transpose(forward), labels.transpose(forward))[1:]

    @property
    def _folder(self) -> Path:
        return self.preprocessed_dataset / self.configuration_manager.data_identifier

    @cached_property
    def _images(self) -> dict[str, list[str]]:
        found = get_filenames_of_train_images_and_targets(str(self.raw_dataset))
        return {case: files["images"] for case, files in found.items()}

    @property
    def _file_ending(self) -> str:
        return self._dataset_json["file_ending"]

    @cached_property
    def _dataset_json(self) -> dict[str, Any]:
        return json.loads((self.raw_dataset / "dataset.json").read_text(encoding="utf-8"))

    @cached_property
    def _simulation(self) -> dict[str, Any] | None:
        """What simulation.json says; None where simulation did not write the references."""
        file = self.raw_dataset / SIMULATION_NAME
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _is_newer(kept: Path, *files: Path) -> bool:
    return kept.exists() and all(kept.stat().st_mtime_ns > file.stat().st_mtime_ns for file in files)
