"""A source file: the user's own data in a few lines of YAML, checked as a whole (docs/own_data.md)."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nnunet_partial.dataset_conversion.listing import ConversionError, SourceLabel
from nnunet_partial.dataset_conversion.own_data.case_pattern import CasePattern
from nnunet_partial.labels import LabelSpace
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.labels.space import near_miss

ENDINGS = (".yaml", ".yml")
DICOM_SEG_ENDING = ".dcm"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"
_NO_SUPPORT_IN_MASKS = "masks are NIfTI, NRRD or MetaImage files; a DICOM-SEG file with its segments goes under label_maps"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_meaning(value: Any) -> Any:
    return {"class": value} if isinstance(value, (str, list, tuple)) else value


class Meaning(_Entry):
    """What a label stands for.

    Attributes:
        classes: One class, or those that the annotator did not tell apart.
        inside: The class or classes of the organ that a tumor lies in.
    """

    classes: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(alias="class", min_length=1)
    inside: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()

    @property
    def label(self) -> SourceLabel:
        """As an entry of a label table."""
        return SourceLabel(self.inside, inside=self.classes[0]) if self.inside else SourceLabel(self.classes)


class SourceFile(_Entry):
    """The entries of a source file, as the user wrote them; see `EXAMPLE` in `example_source_file`."""

    name: str = Field(default="", pattern=_NAME)
    licence: str = "not stated"
    modality: str = "CT"
    images: str
    label_maps: str | None = None
    masks: dict[str, str] = Field(default_factory=dict)
    labels: dict[int | str, Annotated[Meaning, BeforeValidator(_as_meaning)]] = Field(default_factory=dict)
    annotated: tuple[int | str, ...] | None = None
    missing_mask: Literal["unannotated", "absent"] | None = None
    label_grid: Literal["headers", "arrays", "arrays_flipped_y"] | None = None

    @property
    def patterns(self) -> dict[str, str]:
        """Every pattern of files, by where it stands."""
        named = {"images": self.images, "label_maps": self.label_maps}
        return {key: text for key, text in named.items() if text} | {f"masks.{name}": text for name, text in self.masks.items()}

    @property
    def is_dicom_seg(self) -> bool:
        """Whether label maps are DICOM-SEG files."""
        return (self.label_maps or "").lower().endswith(DICOM_SEG_ENDING)

    @property
    def meanings(self) -> dict[int | str, Meaning]:
        """What each id, segment or mask stands for; a mask without an entry stands for the class of its name."""
        own = {name: Meaning(classes=(name,)) for name in self.masks}
        return {**own, **{key: meaning for key, meaning in self.labels.items() if not self.masks or key in own}}

    @property
    def ids(self) -> dict[int | str, int]:
        """The label id of each id, segment or mask: its own where it is a number, else by its place in the file."""
        if not self.masks and all(isinstance(key, int) for key in self.meanings):
            return {key: key for key in self.meanings}
        return {key: number for number, key in enumerate(self.meanings, 1)}

    @property
    def table(self) -> dict[int, SourceLabel]:
        """The label table."""
        return {self.ids[key]: meaning.label for key, meaning in self.meanings.items()}

    @property
    def inside(self) -> dict[int, int]:
        """The id of a tumor -> the id of the organ that it lies in."""
        organs = {meaning.classes: self.ids[key] for key, meaning in self.meanings.items() if not meaning.inside}
        return {self.ids[key]: organs[meaning.inside] for key, meaning in self.meanings.items() if meaning.inside}


def is_source_file(name: Any) -> bool:
    """Whether the entry `source` of a pool names a file, not a public dataset."""
    return isinstance(name, str) and name.endswith(ENDINGS)


def declared_name(path: Path) -> str:
    """The name a source goes by: its entry `name`, else its file's name; never fails."""
    try:
        name = yaml.safe_load(path.read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        name = ""
    return name if isinstance(name, str) and re.match(_NAME, name) else re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_")


def load_source_file(path: Path) -> SourceFile:
    """Read and check a source file.

    Raises:
        ConversionError: it is not YAML, or anything in it is wrong; every fault is listed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"there is no source file '{path}'") from None
    except yaml.YAMLError as error:
        raise ConversionError(f"'{path}' is not a YAML file: {error}") from None
    if not isinstance(content, dict):
        raise ConversionError(f"'{path}' is no source file; `nnunet_partial convert --example-source` prints one")
    if "sources" in content:
        raise ConversionError(f"'{path}' is a pool file, not a source file; convert it by itself")
    faults: list[str] = []
    try:
        file = SourceFile.model_validate(content)
    except ValidationError as error:
        faults = [fault + _key_hint(fault) for fault in validation_faults(error)]
        wrong = {fault["loc"][0] for fault in error.errors()}
        rest = {key: value for key, value in content.items() if key not in wrong}
        file = SourceFile.model_construct(**{**SourceFile.model_validate({**rest, "images": ""}).__dict__, "images": None})
        faults += _contradictions(file.model_copy(update={"images": rest.get("images")}), wrong)
    else:
        faults = _contradictions(file, set())
    if faults:
        raise ConversionError([f"'{path.name}': {fault}" for fault in faults])
    return file


def _contradictions(file: SourceFile, wrong: set[str]) -> list[str]:
    """What is wrong with entries that are each well formed; nothing is said of those that are not."""
    faults = [f"{key}: {fault}" for key, text in file.patterns.items() for fault in CasePattern(text).faults]
    faults += [f"masks.{name}: {_NO_SUPPORT_IN_MASKS}" for name, text in file.masks.items() if text.endswith(DICOM_SEG_ENDING)]
    if not wrong & {"label_maps", "masks"}:
        if bool(file.label_maps) == bool(file.masks):
            faults.append("give either label_maps (one file a case) or masks (one file a class), and not both")
        if file.missing_mask and not file.masks:
            faults.append("missing_mask: belongs to masks; a label map has no masks")
        if file.label_maps and not file.labels and "labels" not in wrong:
            faults.append("labels: say what the ids of the label maps stand for, such as {1: liver}")
        if file.is_dicom_seg and file.label_grid:
            faults.append("label_grid: a DICOM-SEG file says itself where it lies; leave label_grid out")
        if "labels" not in wrong:
            faults += _key_faults(file)
    if file.modality.upper() == "CT" and file.modality != "CT":
        faults.append(f"modality: write CT, not {file.modality}: nnU-Net treats CT by that name")
    return faults + ([] if "labels" in wrong else _class_faults(file))


def _key_faults(file: SourceFile) -> list[str]:
    """Keys of labels and annotated that belong to nothing."""
    faults = []
    for key in file.labels:
        if file.masks and key not in file.masks:
            faults.append(f"labels.{key}: there is no mask '{key}'{near_miss(str(key), file.masks)}")
        elif not file.masks and isinstance(key, str) and not file.is_dicom_seg:
            faults.append(f"labels.{key}: label maps hold ids; write it as id: class, such as {{1: {key}}}")
        elif isinstance(key, int) and key < 1:
            faults.append(f"labels.{key}: ids of labels begin at 1; 0 is background")
    if file.is_dicom_seg and len({type(key) for key in file.labels}) > 1:
        faults.append("labels: name the segments either all by number or all by label")
    known = list(file.meanings)
    return faults + [
        f"annotated: '{key}' is not among {', '.join(map(str, known))}{near_miss(str(key), map(str, known))}"
        for key in file.annotated or ()
        if key not in known
    ]


def _class_faults(file: SourceFile) -> list[str]:
    """Classes with impossible names, classes under two meanings, and tumors inside nothing."""
    meanings = file.meanings
    names = tuple(dict.fromkeys(name for meaning in meanings.values() for name in (*meaning.classes, *meaning.inside)))
    faults = []
    try:
        LabelSpace(classes=names) if names else None
    except ValidationError as error:
        faults += [f"labels: {fault.split(': ', 1)[1]}" for fault in validation_faults(error)]
    organs = {meaning.classes for meaning in meanings.values() if not meaning.inside}
    for key, meaning in meanings.items():
        if meaning.inside and meaning.inside not in organs:
            faults.append(f"labels.{key}: inside {' or '.join(meaning.inside)}, but nothing else is labelled so")
        if meaning.inside and len(meaning.classes) > 1:
            faults.append(f"labels.{key}: a tumor inside an organ is one class, not {' or '.join(meaning.classes)}")
        organ = meaning.classes[0].removesuffix("_tumor")
        if not meaning.inside and meaning.classes == (f"{organ}_tumor",) and (organ,) in organs:
            faults.append(f"labels.{key}: say where it lies: {{class: {meaning.classes[0]}, inside: {organ}}}")
    for name in names:
        sets = {classes for classes in organs if name in classes}
        if len(sets) > 1:
            said = " and ".join(" or ".join(classes) for classes in sorted(sets))
            faults.append(f"labels: class '{name}' is named in two ways ({said}); one of them must go")
    return faults


def _key_hint(fault: str) -> str:
    where, _, message = fault.partition(": ")
    if not message.startswith("Extra inputs"):
        return ""
    fields = ("class", "inside") if "." in where else tuple(SourceFile.model_fields)
    return near_miss(where.rsplit(".", 1)[-1], fields) or f"; known here are {', '.join(fields)}"
