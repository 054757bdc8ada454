"""A raw nnU-Net dataset with what is known about its labels: where every simulation starts."""

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nnunet_partial.dataset_conversion.case import UNREADABLE
from nnunet_partial.dataset_conversion.image_files.volume import NIFTI_ENDINGS, read_labels
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.labels import (
    MANIFEST_NAME,
    AnnotationProtocol,
    CaseRecord,
    DatasetRecord,
    LabelManifest,
    LabelSpace,
    SourceRecord,
    count_labels,
    first_of,
    read_manifest,
)
from nnunet_partial.labels.annotation import validation_faults


@dataclass(frozen=True)
class AnnotatedDataset:
    """A dataset below nnUNet_raw, checked: every case has its images, its label map and its annotation.

    Attributes:
        folder: nnUNet_raw/DatasetXXX_Name.
        dataset_json: nnU-Net's description.
        manifest: What was looked for in each case, with the voxels of each label.
        images: Case -> its image files, one a channel.
    """

    folder: Path
    dataset_json: dict[str, Any]
    manifest: LabelManifest
    images: dict[str, tuple[Path, ...]]

    @property
    def file_ending(self) -> str:
        """Of images and label maps."""
        return self.dataset_json["file_ending"]

    @cached_property
    def cases(self) -> dict[str, CaseRecord]:
        """Case identifier -> its record."""
        return {case.identifier: case for case in self.manifest.cases}

    def protocol_of(self, identifier: str) -> AnnotationProtocol:
        """How a case was annotated."""
        return self.manifest.protocols[self.cases[identifier].protocol]

    def label_file(self, identifier: str) -> Path:
        """The label map of a case."""
        return self.folder / "labelsTr" / f"{identifier}{self.file_ending}"

    def partly_annotated(self) -> list[str]:
        """The cases in which some class was not looked for, or not told apart from another."""
        annotation = self.manifest.annotation()
        return [identifier for identifier in self.cases if not annotation.is_fully_annotated(identifier)]


def read_annotated_dataset(
    folder: Path, *, full: bool = False, keep_missing: bool = False, num_processes: int = 1
) -> AnnotatedDataset:
    """Read and check a raw dataset.

    Args:
        folder: nnUNet_raw/DatasetXXX_Name.
        full: It has no manifest, and every class was looked for in every case.
        keep_missing: It may be partly annotated.
        num_processes: Label maps read at a time, where their voxels were never counted.

    Raises:
        ConversionError: no manifest and not said to be full, partly annotated and not said to be welcome, files that are
            missing, label maps that do not fit; all faults are listed.
    """
    if not (folder / "dataset.json").is_file():
        raise ConversionError(f"'{folder / 'dataset.json'}' does not exist; the source must be a finished raw dataset")
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    ending = dataset_json.get("file_ending")
    if ending not in NIFTI_ENDINGS or "dataset" in dataset_json:
        raise ConversionError(
            f"it must hold NIfTI files in imagesTr and labelsTr; dataset.json has file_ending '{ending}'"
            + (" and lists its files under 'dataset'" if "dataset" in dataset_json else ""),
            where=folder.name,
        )
    has_manifest = (folder / MANIFEST_NAME).is_file()
    if has_manifest == full:
        raise ConversionError(
            f"--full is for datasets without {MANIFEST_NAME}; this one has it, and it says what was looked for in each case"
            if full
            else f"there is no {MANIFEST_NAME} to say what was looked for; if every class was, in every case, say so: --full",
            where=folder.name,
        )
    images = _images(folder, ending, len(dataset_json.get("channel_names", ())))
    manifest = read_manifest(folder / MANIFEST_NAME) if has_manifest else _full_manifest(folder, dataset_json, images)
    _check_files(folder, ending, manifest, images)
    dataset = AnnotatedDataset(folder, dataset_json, _with_counts(manifest, folder, dataset_json, num_processes), images)
    partly = dataset.partly_annotated()
    if partly and not keep_missing:
        raise ConversionError(
            f"only partly annotated: {len(partly)} of {len(dataset.cases)} cases lack classes, or do not tell them apart "
            f"({first_of(partly)}); --keep-missing drops from what is annotated there",
            where=folder.name,
        )
    return dataset


def _images(folder: Path, ending: str, num_channels: int) -> dict[str, tuple[Path, ...]]:
    """The image files of every case; all cases must have as many as dataset.json has channels."""
    images: dict[str, list[Path]] = {}
    for path in sorted((folder / "imagesTr").glob(f"*{ending}")):
        match = re.fullmatch(r"(.+)_\d{4}", path.name.removesuffix(ending))
        if match and not path.name.startswith("."):
            images.setdefault(match[1], []).append(path)
    faults = [
        f"case '{identifier}' has {len(files)} image files, dataset.json has {num_channels} channels"
        for identifier, files in images.items()
        if len(files) != num_channels
    ]
    if faults or not images:
        raise ConversionError(faults or "imagesTr holds no case", where=folder.name)
    return {identifier: tuple(files) for identifier, files in images.items()}


def _full_manifest(folder: Path, dataset_json: dict[str, Any], identifiers: Iterable[str]) -> LabelManifest:
    """The manifest of a plain dataset in which every class was looked for in every case."""
    try:
        space = LabelSpace.from_nnunet_labels(dataset_json["labels"])
        record = DatasetRecord(id=int(folder.name[7:10]), name=folder.name[11:])
    except ValidationError as error:
        raise ConversionError(validation_faults(error), where=f"{folder.name}/dataset.json") from None
    except ValueError as error:
        raise ConversionError(str(error), where=f"{folder.name}/dataset.json") from None
    licence = dataset_json.get("licence") or dataset_json.get("license")
    source = SourceRecord(
        name=record.name,
        source="nnUNet_raw",
        path=folder.name,
        licence=f"{licence}, as stated by its dataset.json" if licence else "not stated",
    )
    ending = dataset_json["file_ending"]
    return LabelManifest(
        dataset=record,
        classes=space.classes,
        protocols={"full": AnnotationProtocol(labels={number: (name,) for number, name in enumerate(space.classes, 1)})},
        sources=(source,),
        cases=tuple(
            CaseRecord(
                identifier=identifier,
                source=source.name,
                protocol="full",
                image_files=(f"imagesTr/{identifier}_0000{ending}",),
                label_files=(f"labelsTr/{identifier}{ending}",),
            )
            for identifier in identifiers
        ),
    )


def _check_files(folder: Path, ending: str, manifest: LabelManifest, images: Iterable[str]) -> None:
    listed = {case.identifier for case in manifest.cases}
    faults = [f"case '{name}' is in {MANIFEST_NAME} and not in imagesTr" for name in sorted(listed - set(images))]
    faults += [f"case '{name}' is in imagesTr and not in {MANIFEST_NAME}" for name in sorted(set(images) - listed)]
    faults += [
        f"case '{name}' has no label map labelsTr/{name}{ending}"
        for name in sorted(listed & set(images))
        if not (folder / "labelsTr" / f"{name}{ending}").is_file()
    ]
    if faults:
        raise ConversionError(faults, where=folder.name)


def _with_counts(manifest: LabelManifest, folder: Path, dataset_json: dict[str, Any], num_processes: int) -> LabelManifest:
    """The manifest with voxels of each label and absent classes, counted where conversion did not; unknown ids are refused."""

    def complete(case: CaseRecord) -> CaseRecord | str:
        labels = manifest.protocols[case.protocol].labels
        try:
            counts = case.label_counts or count_labels(read_labels(folder / "labelsTr" / f"{case.identifier}{ending}").array)
        except UNREADABLE as error:
            return f"case '{case.identifier}': {error}"
        unknown = sorted(set(counts) - {0, *labels, *ignored})
        if unknown:
            return (
                f"case '{case.identifier}': its label map holds ids {unknown}, which its protocol '{case.protocol}' does not list"
            )
        absent = [name for number, classes in labels.items() if number not in counts for name in classes]
        return case.model_copy(update={"label_counts": counts, "absent": tuple(dict.fromkeys([*case.absent, *absent]))})

    space, ending = LabelSpace.from_nnunet_labels(dataset_json["labels"]), dataset_json["file_ending"]
    if space.classes != manifest.classes:
        raise ConversionError(f"{MANIFEST_NAME} has other classes than dataset.json; convert it again", where=folder.name)
    ignored = [space.ignore_id] if space.has_ignore else []
    with ThreadPoolExecutor(max(1, num_processes)) as pool:
        results = list(pool.map(complete, manifest.cases))
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise ConversionError(faults, where=folder.name)
    return manifest.model_copy(update={"cases": tuple(results)})
