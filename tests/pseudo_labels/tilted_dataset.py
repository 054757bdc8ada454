"""Two cases whose grid is hard to get back to: tilted, anisotropic, with an empty rim, transposed and resampled by the plans."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from phantom_dataset import CLASSES, PROTOCOLS, write_descriptions

from nnunet_partial.labels import Annotation, CaseRecord
from nnunet_partial.pseudo_labels.references import ReferenceMaps

FULL, PARTLY = "full_0", "liver_1"
SHAPE = (22, 48, 40)  # z, y, x
CENTRES = {1: (10, 18, 28), 2: (14, 34, 12), 3: (9, 12, 10)}
RADII = {1: (6, 12, 8), 2: (5, 8, 7), 3: (6, 7, 7)}


@dataclass(frozen=True)
class TiltedDataset:
    """The raw and preprocessed folders of the dataset, and what preprocessed it."""

    raw: Path
    preprocessed: Path
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager

    @property
    def references(self) -> ReferenceMaps:
        """Its complete label maps."""
        return ReferenceMaps(self.raw, self.preprocessed, self.plans_manager, self.configuration_manager)

    @property
    def human(self) -> Path:
        """nnU-Net's preprocessed cases."""
        return self.preprocessed / self.configuration_manager.data_identifier

    @property
    def annotation(self) -> Annotation:
        """Protocols and cases."""
        return Annotation.from_dataset_json(json.loads((self.raw / "dataset.json").read_text(encoding="utf-8")))

    def with_other_plans(self, **changes: object) -> "TiltedDataset":
        """The same files under plans of which something is changed."""
        plans = PlansManager({**self.plans_manager.plans, **changes})
        return replace(self, plans_manager=plans, configuration_manager=plans.get_configuration("3d_fullres"))


def write_tilted_dataset(root: Path, plans: dict, *, reader: str = "SimpleITKIO", ending: str = ".nii.gz") -> TiltedDataset:
    """Write, plan by hand and preprocess; the plans are those of any 3d_fullres configuration."""
    raw, preprocessed = root / "nnUNet_raw" / "Dataset702_Tilted", root / "nnUNet_preprocessed" / "Dataset702_Tilted"
    for folder in ("imagesTr", "labelsTr", "references"):
        (raw / folder).mkdir(parents=True)
    truth = _truth()
    for case, labels in ((FULL, truth), (PARTLY, np.where(truth == 1, 1, 0).astype(np.uint8))):
        _write(_image_of(truth), raw / "imagesTr" / f"{case}_0000{ending}")
        _write(labels, raw / "labelsTr" / f"{case}{ending}")
        _write(truth, raw / "references" / f"{case}{ending}")
    records = [
        CaseRecord(identifier=case, source=case.split("_")[0], protocol=case.split("_")[0], image_files=("a",), label_files=())
        for case in (FULL, PARTLY)
    ]
    write_descriptions(raw, CLASSES, PROTOCOLS, records)
    dataset_json = json.loads((raw / "dataset.json").read_text(encoding="utf-8")) | {"file_ending": ending}
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    plans_manager = PlansManager(_tilted_plans(plans, reader))
    configuration_manager = plans_manager.get_configuration("3d_fullres")
    dataset = TiltedDataset(raw, preprocessed, plans_manager, configuration_manager)
    dataset.human.mkdir(parents=True)
    (preprocessed / "dataset.json").write_text(json.dumps(dataset_json))
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans_manager.plans))
    for case in (FULL, PARTLY):
        image, labels = raw / "imagesTr" / f"{case}_0000{ending}", raw / "labelsTr" / f"{case}{ending}"
        DefaultPreprocessor(verbose=False).run_case_save(
            str(dataset.human / case), [str(image)], str(labels), plans_manager, configuration_manager, dataset_json
        )
    return dataset


def _tilted_plans(plans: dict, reader: str) -> dict:
    plans = json.loads(json.dumps(plans))
    plans |= {"transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1], "image_reader_writer": reader}
    plans["configurations"]["3d_fullres"]["spacing"] = [2.0, 1.2, 3.1]
    return plans


def _truth() -> np.ndarray:
    """Three ellipsoids; the first reaches into what is empty."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    grid = np.indices(SHAPE)
    for label, centre in CENTRES.items():
        scaled = [(axis - at) / radius for axis, at, radius in zip(grid, centre, RADII[label], strict=True)]
        labels[np.square(scaled).sum(0) <= 1] = label
    return labels


def _image_of(truth: np.ndarray) -> np.ndarray:
    image = np.array([-60, 100, 160, 150], dtype=np.int16)[truth]
    image[:2], image[:, :3], image[..., 35:] = 0, 0, 0  # cropped away
    image[:, np.add.outer(np.arange(SHAPE[1]), np.arange(SHAPE[2])) > 56] = 0  # an empty corner inside the crop
    return image


def _write(array: np.ndarray, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.5, 4.0))
    image.SetOrigin((-70.0, 31.0, 250.0))
    cosine, sine = np.cos(0.3), np.sin(0.3)
    image.SetDirection((-cosine, sine, 0, sine, cosine, 0, 0, 0, -1))  # x to the right, z downwards
    SimpleITK.WriteImage(image, str(path))
