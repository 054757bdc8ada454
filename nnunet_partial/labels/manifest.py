"""The label manifest: where every case of a dataset came from and what was looked for in it."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from nnunet_partial.labels.annotation import Annotation, CaseAnnotation, validation_faults
from nnunet_partial.labels.errors import LabelError
from nnunet_partial.labels.files import write_json
from nnunet_partial.labels.protocol import AnnotationProtocol
from nnunet_partial.labels.space import LabelSpace, near_miss

MANIFEST_NAME = "label_manifest.json"
MANIFEST_VERSION = 1
ANNOTATOR_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"
"""What an annotator may be called: it is the name of a folder."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetRecord(_Record):
    """nnU-Net's id and name of a dataset: Dataset<id>_<name>."""

    id: int = Field(ge=1, le=999, description="Three-digit dataset id of nnU-Net")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$")

    @property
    def folder_name(self) -> str:
        """The folder below nnUNet_raw."""
        return f"Dataset{self.id:03d}_{self.name}"


class SourceRecord(_Record):
    """One public or private dataset that was pooled."""

    name: str = Field(description="Name within this dataset; conversion begins every case identifier with it")
    source: str = Field(description="The converter that read it")
    path: str = Field(description="Where it lay, as the user wrote it")
    licence: str = Field(description="As stated by whom; never a decision for the user")
    options: dict[str, Any] = Field(default_factory=dict, description="Converter options that were set, such as the tumor policy")


class AnnotatorRecord(_Record):
    """The label map that one of several annotators drew of a case; it lies in annotators/<annotator>/."""

    files: tuple[str, ...] = Field(description="The originals, relative to the source's path")
    protocol: str = Field(description="What this annotator looked for")

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        return _relative(files)


class CaseRecord(_Record):
    """One case: its files, how it was annotated, and what is in its label map."""

    identifier: str
    source: str = Field(description="Name of the source it came from")
    protocol: str = Field(description="What was looked for in the label map in labelsTr")
    image_files: tuple[str, ...] = Field(description="The originals, relative to the source's path; a DICOM series is its folder")
    label_files: tuple[str, ...] = Field(
        description="The originals, relative to the source's path; none where labelsTr holds what most annotators say"
    )
    label_counts: dict[int, int] = Field(default_factory=dict, description="Voxels of each label id in the converted label map")
    annotators: dict[Annotated[str, Field(pattern=ANNOTATOR_NAME)], AnnotatorRecord] = Field(
        default_factory=dict, description="Where several annotators drew this case: each one's originals and protocol"
    )
    absent: tuple[str, ...] = Field(default=(), description="Classes that were looked for and are not there")
    notes: tuple[str, ...] = Field(default=(), description="What conversion found worth saying about this case")
    merged_from: tuple[str, ...] = Field(
        default=(), description="The cases of one scan whose annotations this case unites; not written where there are none"
    )

    @model_serializer(mode="wrap")
    def _leave_out_empty(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in written(self).items() if key != "merged_from" or value}

    @field_validator("image_files", "label_files")
    @classmethod
    def _check_relative(cls, files: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not files and info.field_name == "image_files":
            raise ValueError("a case needs at least one image file")
        return _relative(files)


def protocols_in_use(cases: Iterable[CaseRecord]) -> set[str]:
    """The names of the protocols that cases or their annotators have."""
    return {name for case in cases for name in (case.protocol, *(annotator.protocol for annotator in case.annotators.values()))}


class SkippedRecord(_Record):
    """Something of a source that was not converted, and why."""

    source: str
    item: str
    reason: str


class LabelManifest(_Record):
    """Everything known about the labels of one dataset; written as label_manifest.json beside dataset.json."""

    version: int = Field(default=MANIFEST_VERSION, ge=1, le=MANIFEST_VERSION)
    dataset: DatasetRecord
    classes: tuple[str, ...] = Field(description="The label space, in the order of the label ids 1, 2, ...")
    protocols: dict[str, AnnotationProtocol]
    sources: tuple[SourceRecord, ...]
    cases: tuple[CaseRecord, ...]
    skipped: tuple[SkippedRecord, ...] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_faults(cls, data: Any, handler: Any) -> "LabelManifest":
        """Shape faults and contradictions in one report: whoever mends a manifest wants to see all of it."""
        faults = _contradictions(data) if isinstance(data, dict) else []
        try:
            manifest = handler(data)
        except ValidationError as error:
            faults = [*validation_faults(error), *faults]
        if faults:
            raise ValueError("\n".join(faults))
        return manifest

    @property
    def space(self) -> LabelSpace:
        """The label space."""
        return LabelSpace(classes=self.classes)

    def annotation(self) -> Annotation:
        """The part that training needs."""
        cases = {
            case.identifier: CaseAnnotation(
                protocol=case.protocol,
                source=case.source,
                annotators={name: annotator.protocol for name, annotator in case.annotators.items()},
            )
            for case in self.cases
        }
        return Annotation(space=self.space, protocols=self.protocols, cases=cases)


def _contradictions(data: dict[str, Any]) -> list[str]:
    """Faults between the parts of a manifest; tolerant of parts that are missing or misshapen, which are reported elsewhere."""
    try:
        space = LabelSpace(classes=tuple(data.get("classes", ())))
    except (ValidationError, TypeError) as error:
        return validation_faults(error) if isinstance(error, ValidationError) else []
    protocols, faults = {}, []
    for name, value in _items(data.get("protocols")):
        try:
            protocols[name] = AnnotationProtocol.model_validate(value)
        except ValidationError:
            protocols[name] = None
            continue
        faults += [f"protocol '{name}': {fault}" for fault in protocols[name].faults(space)]
    sources = [_field(source, "name") for source in data.get("sources", ())]
    faults += [f"source '{name}' is listed twice" for name in _repeated(sources)]
    cases = list(data.get("cases", ()))
    faults += [f"case '{name}' is listed twice" for name in _repeated([_field(case, "identifier") for case in cases])]
    for case in cases:
        where, source, protocol = (_field(case, key) for key in ("identifier", "source", "protocol"))
        if source is not None and source not in sources:
            faults.append(
                f"case '{where}': source '{source}' is not among the sources{near_miss(str(source), map(str, sources))}"
            )
        if protocol is not None and protocol not in protocols:
            faults.append(f"case '{where}': protocol '{protocol}' does not exist{near_miss(str(protocol), protocols)}")
        elif protocol is not None and protocols[protocol] is not None:
            unknown = set(_field(case, "absent") or ()) - protocols[protocol].annotated_classes
            faults += [
                f"case '{where}': class '{name}' cannot be absent, protocol '{protocol}' did not look for it"
                for name in sorted(unknown)
            ]
        faults += [
            f"case '{where}', annotator '{name}': protocol '{own}' does not exist{near_miss(str(own), protocols)}"
            for name, annotator in _items(_field(case, "annotators"))
            if (own := _field(annotator, "protocol")) is not None and own not in protocols
        ]
    return faults


def _relative(files: tuple[str, ...]) -> tuple[str, ...]:
    """The files of a source, refused where they do not lie below its path."""
    for file in files:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise ValueError(f"'{file}' must be relative to the source's path")
    return files


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _field(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else getattr(record, name, None)


def _repeated(names: list[Any]) -> list[Any]:
    return sorted(name for name, count in Counter(name for name in names if name is not None).items() if count > 1)


def read_manifest(path: Path) -> LabelManifest:
    """Read and check a label manifest.

    Raises:
        LabelError: the file is not JSON, or not a valid manifest; every fault is listed.
    """
    try:
        return LabelManifest.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise LabelError(f"not a JSON file: {error}", where=str(path)) from None
    except ValidationError as error:
        faults = [line for fault in error.errors() for line in fault["msg"].removeprefix("Value error, ").splitlines()]
        raise LabelError(faults, where=str(path)) from None


def write_manifest(manifest: LabelManifest, path: Path) -> None:
    """Write a manifest; same manifest, same bytes."""
    write_json(manifest.model_dump(mode="json"), path)


def manifest_json_schema() -> dict[str, Any]:
    """The JSON Schema of label_manifest.json, as it stands in docs/."""
    return LabelManifest.model_json_schema()
