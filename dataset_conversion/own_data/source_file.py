"""What a source file can say: the user's own data in a few lines of YAML (docs/own_data.md)."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from nnunet_partial.dataset_conversion.listing import SourceLabel
from nnunet_partial.dataset_conversion.own_data.case_pattern import CasePattern

ENDINGS = (".yaml", ".yml")
DICOM_SEG_ENDING = ".dcm"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_meaning(value: Any) -> Any:
    return {"class": value} if isinstance(value, (str, list, tuple)) else value


def _with_text_keys(value: Any) -> Any:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else value


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


class LabelFiles(_Entry):
    """Where the labels are that were drawn together, and what was looked for in them.

    Attributes:
        label_maps: Pattern of one file a case.
        masks: In place of that, name -> pattern of one binary file a class.
        annotated: Which ids, segments or masks were looked for; None: all.
    """

    label_maps: str | None = None
    masks: dict[str, str] = Field(default_factory=dict)
    annotated: tuple[int | str, ...] | None = None

    @property
    def patterns(self) -> dict[str, str]:
        """Every pattern of label files, by where it stands."""
        maps = {"label_maps": self.label_maps} if self.label_maps else {}
        return maps | {f"masks.{name}": text for name, text in self.masks.items()}


class SourceFile(LabelFiles):
    """The entries of a source file, as the user wrote them; see `EXAMPLE` in `example`.

    Labels of the case itself stand at the top, those of single annotators under `annotators`.
    """

    name: str = Field(default="", pattern=_NAME)
    licence: str = "not stated"
    modality: str = "CT"
    images: str
    annotators: Annotated[dict[str, LabelFiles], BeforeValidator(_with_text_keys)] = Field(default_factory=dict)
    labels: dict[int | str, Annotated[Meaning, BeforeValidator(_as_meaning)]] = Field(default_factory=dict)
    missing_mask: Literal["unannotated", "absent"] | None = None
    label_grid: Literal["headers", "arrays", "arrays_flipped_y"] | None = None

    @property
    def drawn(self) -> dict[str, LabelFiles]:
        """Whose labels there are: "" for those of the case itself, then each annotator's."""
        own = {"": self} if self.label_maps or self.masks else {}
        return {**own, **self.annotators}

    @property
    def all_patterns(self) -> dict[str, str]:
        """Every pattern of files, by where it stands."""
        return ({"images": self.images} if self.images else {}) | {
            f"annotators.{who}.{key}" if who else key: text
            for who, files in self.drawn.items()
            for key, text in files.patterns.items()
        }

    @property
    def mask_names(self) -> tuple[str, ...]:
        """The names of all masks."""
        return tuple(dict.fromkeys(name for files in self.drawn.values() for name in files.masks))

    @property
    def is_dicom_seg(self) -> bool:
        """Whether label maps are DICOM-SEG files."""
        return any((files.label_maps or "").lower().endswith(DICOM_SEG_ENDING) for files in self.drawn.values())

    @property
    def meanings(self) -> dict[int | str, Meaning]:
        """What each id, segment or mask stands for; a mask without an entry stands for the class of its name."""
        own = {name: Meaning(classes=(name,)) for name in self.mask_names}
        return {**own, **{key: meaning for key, meaning in self.labels.items() if not own or key in own}}

    @property
    def ids(self) -> dict[int | str, int]:
        """The label id of each id, segment or mask: its own where it is a number, else by its place in the file."""
        if not self.mask_names and all(isinstance(key, int) for key in self.meanings):
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

    def looked_for(self, files: LabelFiles) -> tuple[int, ...]:
        """The label ids that whoever drew these files looked for, as far as the files are there; of masks, only those named."""
        annotated = self.annotated if files.annotated is None else files.annotated
        return tuple(self.ids[key] for key in files.masks or self.meanings if annotated is None or key in annotated)

    def to_paint(self, files: LabelFiles) -> list[tuple[str, CasePattern, int]]:
        """(name, pattern, label id) of masks as the file lists them, those inside another one last."""
        masks = [(name, CasePattern(text), self.ids[name]) for name, text in files.masks.items()]
        return sorted(masks, key=lambda mask: mask[2] in self.inside)


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
