"""Label maps that several readers drew of real scans, laid out as a dataset's annotators/ folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

Reading = tuple[str, np.ndarray, SimpleITK.Image]
KITS = ("kidney", "kidney_tumor", "kidney_cyst")
_STRUCTURES = ("kidney", "tumor", "cyst")  # as KiTS calls them


def kits_readers(dataset: Path, case: str) -> Iterator[Reading]:
    """Reader, label map (tumours and cysts over the kidneys they lie in), and the image whose geometry it has."""
    for reader in ("1", "2", "3"):
        labels, image = None, None
        for number, structure in enumerate(_STRUCTURES, 1):
            for file in sorted((dataset / case / "instances").glob(f"{structure}_instance-*_annotation-{reader}.nii.gz")):
                image = SimpleITK.ReadImage(str(file))
                mask = SimpleITK.GetArrayViewFromImage(image) != 0
                labels = np.zeros(mask.shape, np.uint8) if labels is None else labels
                labels[mask] = number
        yield reader, labels, image


def head_and_neck_readers(test: Path, case: str, organs: list[str]) -> Iterator[Reading]:
    """The same of two readers; of organs that overlap the later one is on top: list the eye before its lens."""
    for reader in ("oncologist", "radiographer"):
        labels, image = None, None
        for number, organ in enumerate(organs, 1):
            image = SimpleITK.ReadImage(str(test / reader / case / "segmentations" / f"{organ}.nrrd"))
            mask = SimpleITK.GetArrayViewFromImage(image) != 0
            labels = np.zeros(mask.shape, np.uint8) if labels is None else labels
            labels[mask] = number
        yield reader, labels, image


def write_annotators(
    folder: Path, case: str, readers: Iterator[tuple[str, np.ndarray, SimpleITK.Image]]
) -> dict[str, np.ndarray]:
    """Write <folder>/<reader>/<case>.nii.gz; returns the label maps."""
    written = {}
    for reader, labels, like in readers:
        (folder / reader).mkdir(parents=True, exist_ok=True)
        image = SimpleITK.GetImageFromArray(labels)
        image.CopyInformation(like)
        SimpleITK.WriteImage(image, str(folder / reader / f"{case}.nii.gz"))
        written[reader] = labels
    return written


def description(classes: tuple[str, ...] | list[str], cases: dict[str, list[str]]) -> dict[str, Any]:
    """dataset.json of cases whose readers all looked for all classes."""
    numbered = dict(enumerate(classes, 1))
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: number for number, name in numbered.items()}},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "annotation": {
            "protocols": {"all": {"labels": {str(number): [name] for number, name in numbered.items()}}},
            "cases": {
                case: {"protocol": "all", "source": "real", "annotators": dict.fromkeys(readers, "all")}
                for case, readers in cases.items()
            },
        },
    }
