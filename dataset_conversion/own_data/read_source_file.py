"""A source file read and checked as a whole: everything that is wrong with it is said at once."""

import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.own_data.case_pattern import CasePattern
from nnunet_partial.dataset_conversion.own_data.source_file import DICOM_SEG_ENDING, LabelFiles, SourceFile
from nnunet_partial.labels import LabelSpace
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.labels.manifest import ANNOTATOR_NAME
from nnunet_partial.labels.space import near_miss

MOST_ANNOTATORS = 20
_NO_SUPPORT_IN_MASKS = "masks are NIfTI, NRRD or MetaImage files; a DICOM-SEG file with its segments goes under label_maps"


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
    faults = [f"{key}: {fault}" for key, text in file.all_patterns.items() for fault in CasePattern(text).faults]
    faults += [
        f"{key}: {_NO_SUPPORT_IN_MASKS}"
        for key, text in file.all_patterns.items()
        if "masks." in key and text.lower().endswith(DICOM_SEG_ENDING)
    ]
    if "annotators" not in wrong:
        faults += _annotator_faults(file)
    if not wrong & {"label_maps", "masks", "annotators"}:
        faults += _kind_faults(file)
        if file.missing_mask and not file.mask_names:
            faults.append("missing_mask: belongs to masks; a label map has no masks")
        if file.drawn and not file.mask_names and not file.labels and "labels" not in wrong:
            faults.append("labels: say what the ids of the label maps stand for, such as {1: liver}")
        if file.is_dicom_seg and file.label_grid:
            faults.append("label_grid: a DICOM-SEG file says itself where it lies; leave label_grid out")
        if "labels" not in wrong:
            faults += _key_faults(file)
    if file.modality.upper() == "CT" and file.modality != "CT":
        faults.append(f"modality: write CT, not {file.modality}: nnU-Net treats CT by that name")
    return faults + ([] if "labels" in wrong else _class_faults(file))


def _kind_faults(file: SourceFile) -> list[str]:
    """Labels of two kinds, or of none: all are read by one reader, and ids of masks are no ids of label maps."""
    drawn = {f"annotators.{who}: " if who else "": files for who, files in file.drawn.items()} or {"": file}
    faults = [
        f"{where}give either label_maps (one file a case) or masks (one file a class), and not both"
        for where, files in drawn.items()
        if bool(files.label_maps) == bool(files.masks)
    ]
    if faults:
        return faults
    kinds: dict[str, list[str]] = {}
    for where, files in drawn.items():
        is_seg = (files.label_maps or "").lower().endswith(DICOM_SEG_ENDING)
        kinds.setdefault("masks" if files.masks else "DICOM-SEG files" if is_seg else "label maps", []).append(where)
    if len(kinds) > 1:
        said = "; ".join(f"{kind}: {', '.join(_whose(where) for where in places)}" for kind, places in kinds.items())
        faults.append(f"all labels must be of one kind, but there are {said}")
    return faults


def _whose(where: str) -> str:
    return where.removesuffix(": ") or "the entry of the case itself"


def _annotator_faults(file: SourceFile) -> list[str]:
    """Too few or too many annotators, and names that are no names of folders."""
    names, faults = list(file.annotators), []
    if names and not 2 <= len(names) <= MOST_ANNOTATORS:
        faults.append(
            f"annotators: there are {len(names)}, give 2 to {MOST_ANNOTATORS}; what a single one drew is the label of the case: "
            "write it at the top"
        )
    for name in names:
        if not re.match(ANNOTATOR_NAME, name):
            faults.append(f"annotators: '{name}' becomes a folder: use letters, digits, - and _")
        others = [other for other in names[: names.index(name)] if other.lower() == name.lower()]
        faults += [f"annotators: '{name}' and '{other}' are one folder on some systems" for other in others]
    return faults


def _key_faults(file: SourceFile) -> list[str]:
    """Keys of labels and annotated that belong to nothing."""
    faults = []
    for key in file.labels:
        if file.mask_names and key not in file.mask_names:
            faults.append(f"labels.{key}: there is no mask '{key}'{near_miss(str(key), file.mask_names)}")
        elif not file.mask_names and isinstance(key, str) and not file.is_dicom_seg:
            faults.append(f"labels.{key}: label maps hold ids; write it as id: class, such as {{1: {key}}}")
        elif isinstance(key, int) and key < 1:
            faults.append(f"labels.{key}: ids of labels begin at 1; 0 is background")
    if file.is_dicom_seg and len({type(key) for key in file.labels}) > 1:
        faults.append("labels: name the segments either all by number or all by label")
    for who, files in {"": file, **file.annotators}.items():
        known = list(files.masks or file.meanings)
        faults += [
            f"{f'annotators.{who}.' if who else ''}annotated: '{key}' is not among {', '.join(map(str, known))}"
            + near_miss(str(key), map(str, known))
            for key in files.annotated or ()
            if key not in known
        ]
    return faults


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
    fields = tuple(SourceFile.model_fields)
    if "." in where:
        fields = tuple(LabelFiles.model_fields) if where.startswith("annotators.") else ("class", "inside")
    return near_miss(where.rsplit(".", 1)[-1], fields) or f"; known here are {', '.join(fields)}"
