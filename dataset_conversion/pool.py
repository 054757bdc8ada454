"""What is pooled: the pool file, checked as a whole before anything is read or written."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from nnunet_partial.dataset_conversion.label_plan import LabelPlan, SidePolicy, TumorPolicy, all_classes, own_classes, plan_labels
from nnunet_partial.dataset_conversion.listing import ConversionError, Source
from nnunet_partial.dataset_conversion.overlaps import overlap_sentences
from nnunet_partial.dataset_conversion.sources import SOURCES
from nnunet_partial.labels import DatasetRecord, LabelSpace
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.labels.space import near_miss

UnlabelledPolicy = Literal["skip", "keep"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(_Entry):
    """One source of a pool, as the user wrote it.

    Attributes:
        source: Which converter reads it, a key of `SOURCES`.
        path: Where it lies; may hold `~` and environment variables.
        name: Prefix of its case identifiers and name of its protocol; by default the source's key.
        tumor: What becomes of tumors and cysts drawn inside an organ; "merge" where nothing is said.
        sides: What becomes of organs drawn without a side; "split" where nothing is said.
        unlabelled: What becomes of images that nobody annotated: left out ("skip"), or cases without supervision ("keep").
    """

    source: str
    path: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$")
    tumor: TumorPolicy | None = None
    sides: SidePolicy | None = None
    unlabelled: UnlabelledPolicy | None = None

    @property
    def prefix(self) -> str:
        """The name it goes by in this pool."""
        return self.name or self.source

    @property
    def options(self) -> dict[str, Any]:
        """The options that were set, for the manifest."""
        return self.model_dump(include={"tumor", "sides", "unlabelled"}, exclude_none=True)


class PoolConfig(_Entry):
    """A pool: the dataset to make, its classes in the order of their label ids, and where its cases come from.

    Sources that hold the same scans are refused unless `allow_overlap` says that the user knows.
    """

    dataset: DatasetRecord
    classes: tuple[str, ...]
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    allow_overlap: bool = False
    _folder: Path = PrivateAttr(default=Path())

    def path_of(self, source: SourceConfig) -> Path:
        """Where a source lies: variables filled in, relative to the pool file (to the working directory without one)."""
        return (self._folder / Path(os.path.expandvars(source.path)).expanduser()).resolve()


@dataclass(frozen=True)
class PreparedSource:
    """A source whose path, options and classes were checked."""

    config: SourceConfig
    source: Source
    root: Path
    plan: LabelPlan


def load_pool(path: Path) -> PoolConfig:
    """Read a pool file.

    Raises:
        ConversionError: it is not YAML, or anything in it is wrong; every fault is listed, those of paths and classes too.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no pool file '{path}'{_yaml_nearby(path)}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConversionError(f"not a YAML file: {error}", where=str(path)) from None
    if not isinstance(content, dict):
        raise ConversionError(
            "a pool file holds the entries dataset, classes and sources (see `nnunet_partial convert --help`)", where=str(path)
        )
    return _checked_pool(content, folder=path.resolve().parent, where=str(path))


def single_source_pool(
    source: str,
    path: str,
    dataset_id: int,
    *,
    name: str | None = None,
    classes: list[str] | None = None,
    tumor: TumorPolicy | None = None,
    sides: SidePolicy | None = None,
) -> PoolConfig:
    """The pool of the command's short form: one source, by default with its own name and all of its own classes.

    Raises:
        ConversionError: anything is wrong; every fault is listed.
    """
    entry = {"source": source, "path": str(path), "tumor": tumor, "sides": sides}
    folder = Path(os.path.expandvars(path)).expanduser().resolve()
    reader = SOURCES.get(source)
    if reader is None or not folder.is_dir():
        raise ConversionError([*_unknown_source(source), *_missing_path(str(path), folder)])
    content = {
        "dataset": {"id": dataset_id, "name": name or reader.default_name(folder)},
        "classes": list(classes or own_classes(reader.labels(folder), tumor or "merge")),
        "sources": [{key: value for key, value in entry.items() if value is not None}],
    }
    return _checked_pool(content, folder=Path.cwd(), where=source)


def prepare_pool(pool: PoolConfig) -> list[PreparedSource]:
    """Check what a pool says against its sources' folders and labels.

    Raises:
        ConversionError: paths that are missing, classes that do not fit, names used twice; every fault is listed.
    """
    prepared, faults = _prepare(pool.sources, pool.classes, pool)
    if faults:
        raise ConversionError(faults, where=pool.dataset.folder_name)
    return prepared


def _checked_pool(content: dict[str, Any], *, folder: Path, where: str) -> PoolConfig:
    """Build the pool, or report the faults of all its parts together: pydantic alone would stop before paths and classes."""
    faults: list[str] = []
    try:
        pool = PoolConfig.model_validate(content)
    except ValidationError as error:
        faults += [fault + _option_hint(fault) for fault in validation_faults(error)]
        pool = None
    sources = pool.sources if pool else _readable_sources(content.get("sources"))
    classes = pool.classes if pool else content.get("classes")
    located = pool or PoolConfig.model_construct(sources=tuple(sources))
    located._folder = folder
    faults += _prepare(sources, classes, located)[1]
    if faults:
        raise ConversionError(faults, where=where)
    return located


def _readable_sources(entries: Any) -> list[SourceConfig]:
    """Those entries of a faulty pool that are well enough formed to be checked further, without what is wrong in them."""
    readable = []
    for entry in entries if isinstance(entries, (list, tuple)) else []:
        if isinstance(entry, dict) and isinstance(entry.get("source"), str) and isinstance(entry.get("path"), str):
            try:
                readable.append(SourceConfig.model_validate(entry))
            except ValidationError as error:
                wrong = {fault["loc"][0] for fault in error.errors()}
                readable.append(SourceConfig.model_validate({key: value for key, value in entry.items() if key not in wrong}))
    return readable


def _prepare(sources: Any, classes: Any, pool: PoolConfig) -> tuple[list[PreparedSource], list[str]]:
    prepared: list[PreparedSource] = []
    faults: list[str] = []
    try:
        space = LabelSpace(classes=tuple(classes))
    except (ValidationError, TypeError) as error:
        space = None
        if isinstance(error, ValidationError):
            faults += [f"classes: {fault.split(': ', 1)[1]}" for fault in validation_faults(error)]
    prefixes = [config.prefix for config in sources]
    faults += [
        f"source name '{name}' is used {prefixes.count(name)} times; give each its own `name:`"
        for name in dict.fromkeys(prefixes)
        if prefixes.count(name) > 1
    ]
    for config in sources:
        try:
            found, wrong = _prepare_source(config, space, pool)
        except ConversionError as error:
            found, wrong = None, error.faults
        prepared += [found] if found else []
        faults += [f"source '{config.prefix}': {fault}" for fault in wrong]
    faults += _unannotated_faults(sources, space, pool)
    return prepared, faults + _pool_faults(prepared, pool)


def _prepare_source(config: SourceConfig, space: LabelSpace | None, pool: PoolConfig) -> tuple[PreparedSource | None, list[str]]:
    root = pool.path_of(config)
    faults = [*_unknown_source(config.source), *_missing_path(config.path, root)]
    if faults or space is None:
        return None, faults
    source = SOURCES[config.source]
    plan, faults = plan_labels(source.labels(root), space, config.tumor, config.sides)
    return (PreparedSource(config, source, root, plan) if plan else None), faults


def _unannotated_faults(sources: Iterable[SourceConfig], space: LabelSpace | None, pool: PoolConfig) -> list[str]:
    """Classes that no source can annotate; nothing is said where the labels of a source cannot be known."""
    try:
        offered = set().union(*(all_classes(SOURCES[config.source].labels(pool.path_of(config))) for config in sources))
    except (KeyError, ConversionError):  # reported with the source
        return []
    names = space.classes if space else ()
    return [f"class '{name}' is annotated by no source{near_miss(name, offered)}" for name in names if name not in offered]


def _pool_faults(prepared: list[PreparedSource], pool: PoolConfig) -> list[str]:
    """What is wrong only when the sources are seen together."""
    faults = []
    channels = {source.config.prefix: source.source.channel_names(source.root) for source in prepared}
    if len({tuple(names.values()) for names in channels.values()}) > 1:
        said = ", ".join(f"{name}: {'/'.join(names.values())}" for name, names in channels.items())
        faults.append(f"the sources have different channels ({said}); one dataset has one kind of image")
    if not pool.allow_overlap:
        faults += [
            f"{sentence}: one scan would be trained on and validated on; keep one, or say `allow_overlap: true` in the pool file"
            for sentence in known_overlaps(prepared)
        ]
    return faults


def known_overlaps(prepared: list[PreparedSource]) -> list[str]:
    """Which sources hold the same scans, as far as that is known; one folder used twice is one case of it."""
    return overlap_sentences({source.config.prefix: {str(source.root), *source.source.scans(source.root)} for source in prepared})


def _unknown_source(key: str) -> list[str]:
    return [] if key in SOURCES else [f"unknown source '{key}'{near_miss(key, SOURCES)}; known are {', '.join(SOURCES)}"]


def _missing_path(written: str, path: Path) -> list[str]:
    if path.is_dir():
        return []
    unset = f"; the environment variable in '{written}' is not set" if "$" in str(path) else ""
    return [f"path '{path}' {'is not a folder' if path.exists() else 'does not exist'}{unset}"]


def _option_hint(fault: str) -> str:
    """Which option was probably meant where a key is unknown."""
    where, _, message = fault.partition(": ")
    if not message.startswith("Extra inputs"):
        return ""
    *parents, key = where.split(".")
    model = SourceConfig if parents[:1] == ["sources"] else DatasetRecord if parents[:1] == ["dataset"] else PoolConfig
    return near_miss(key, model.model_fields) or f"; known here are {', '.join(model.model_fields)}"


def _yaml_nearby(path: Path) -> str:
    files = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    return near_miss(path.name, files) or f"; sources of the short form are {', '.join(SOURCES)}{near_miss(path.name, SOURCES)}"
