"""What is pooled: the pool file, checked as a whole before anything is read or written."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nnunet_partial.dataset_conversion.label_plan import (
    LabelPlan,
    SidePolicy,
    TumorPolicy,
    all_classes,
    own_classes,
    plan_labels,
    sides_of,
)
from nnunet_partial.dataset_conversion.listing import ConversionError, Source, SourceCase
from nnunet_partial.dataset_conversion.overlaps import overlap_sentences
from nnunet_partial.dataset_conversion.own_data.own_source import missing_faults, name_faults
from nnunet_partial.dataset_conversion.own_data.source_file import is_source_file
from nnunet_partial.dataset_conversion.pool_config import PoolConfig, SourceConfig
from nnunet_partial.dataset_conversion.sources import SOURCES, expanded, find_source
from nnunet_partial.labels import DatasetRecord, LabelSpace
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.labels.space import near_miss


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
    if isinstance(content, dict) and "images" in content and "sources" not in content:
        raise ConversionError(
            "this is a source file; name it in a pool (`source: ...`), or make a dataset of it alone: "
            f"nnunet_partial convert {path} -d ID",
            where=str(path),
        )
    if not isinstance(content, dict):
        raise ConversionError(
            "a pool file holds the entries dataset, classes and sources (see `nnunet_partial convert --help`)", where=str(path)
        )
    return _checked_pool(content, folder=path.resolve().parent, where=str(path))


def single_source_pool(
    source: str,
    path: str | None,
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
    path = str(Path(source).parent) if path is None else str(path)
    entry = {"source": source, "path": path, "tumor": tumor, "sides": sides}
    folder = expanded(path, Path.cwd())
    faults = _missing_path(path, folder)
    try:
        reader = find_source(source, Path.cwd(), folder)
    except ConversionError as error:
        raise ConversionError([*error.faults, *faults]) from None
    if faults:
        raise ConversionError(faults)
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
    sources = [pool.named(config) for config in sources]
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
    faults = _missing_path(config.path, root)
    try:
        source = pool.find(config)
    except ConversionError as error:
        return None, [*error.faults, *faults]
    if is_source_file(config.source) and not faults:
        faults += missing_faults(source, root)
    if space is None or not root.is_dir():
        return None, faults
    plan, wrong = plan_labels(source.labels(root), space, config.tumor, config.sides)
    faults += wrong
    if is_source_file(config.source):
        faults += name_faults(source.labels(root).values(), space)
    return (None if faults else PreparedSource(config, source, root, plan)), faults


def case_plan(source: PreparedSource, case: SourceCase, pool: PoolConfig) -> tuple[LabelPlan | None, list[str]]:
    """How the labels of a case are rewritten: as its source's, or by its own table; None where that has none of the classes."""
    if case.labels is None:
        return source.plan, []
    table = dict(case.labels)
    if not all_classes(table) & set(pool.classes):
        return None, []
    has_tumor = any(label.inside for label in table.values())
    has_unsided = any(sides_of(label) for label in table.values())
    tumor, sides = (source.config.tumor if has_tumor else None), (source.config.sides if has_unsided else None)
    return plan_labels(table, LabelSpace(classes=pool.classes), tumor, sides)


def _unannotated_faults(sources: Iterable[SourceConfig], space: LabelSpace | None, pool: PoolConfig) -> list[str]:
    """Classes that no source can annotate; nothing is said where the labels of a source cannot be known."""
    try:
        offered = set().union(*(all_classes(pool.find(config).labels(pool.path_of(config))) for config in sources))
    except ConversionError:  # reported with the source
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
    """Which sources hold the same scans, as far as that is known; scans of no known collection are known by their folder."""
    return overlap_sentences(
        {source.config.prefix: source.source.scans(source.root) or {str(source.root)} for source in prepared}
    )


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
