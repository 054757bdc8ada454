"""Any dataset that nnU-Net v2 reads from nnUNet_raw: one channel, one id a class.

Licence: dataset.json's entry `licence`, where it has one.
Layout: `imagesTr/<case>_0000<ending>`, `labelsTr/<case><ending>` and `dataset.json`; the path is the Dataset<id>_<name> folder.
Endings: .nii.gz, .nii, .nrrd, .mha.
Names: the vocabulary's ("Left Kidney" is kidney_left); others are put in lower case with underscores.
Annotated: every class of dataset.json in every case, because nnU-Net's format cannot say otherwise; but where dataset.json has
an `annotation` block (datasets made by `nnunet_partial convert` do), what it says of each case: unions, what is unannotated, and
the annotators in `annotators/<annotator>/<case><ending>` with what each of them looked for.
Known to be wrong: a class `<organ>_tumor` beside a class `<organ>` is taken for a tumor inside it (policy `tumor`). Regions,
several channels and an ignore label are refused.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_conversion.case_job import ANNOTATORS_FOLDER
from nnunet_partial.dataset_conversion.image_files.volume import VOLUME_ENDINGS
from nnunet_partial.dataset_conversion.listing import (
    CaseAnnotator,
    ConversionError,
    Listing,
    Source,
    SourceCase,
    SourceLabel,
    pair,
    visible_files,
)
from nnunet_partial.dataset_conversion.majority import majority_protocol
from nnunet_partial.labels import ANNOTATION_KEY, Annotation, LabelError
from nnunet_partial.labels.vocabulary import canonical

_NEEDED = ("channel_names", "labels", "file_ending")
_TUMOR = "_tumor"


@cache
def _dataset_json(root: Path) -> dict[str, Any]:
    file = root / "dataset.json"
    if not file.is_file():
        raise ConversionError(f"'{file}' is missing; the path must be one dataset's folder, such as .../Dataset003_Liver")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionError(f"'{file}' is not a JSON file: {error}") from None
    if not isinstance(content, dict) or any(key not in content for key in _NEEDED):
        raise ConversionError(
            f"'{file}' is not a dataset.json of nnU-Net v2: it needs {', '.join(_NEEDED)} (a Decathlon task is source msd)"
        )
    faults = _faults(content)
    if faults:
        raise ConversionError([f"'{file}': {fault}" for fault in faults])
    return content


def _faults(content: dict[str, Any]) -> list[str]:
    """What of a dataset.json this converter cannot keep."""
    faults = []
    channels, numbers = content["channel_names"], content["labels"]
    if len(channels) != 1:
        faults.append(f"the dataset has {len(channels)} channels ({', '.join(channels.values())}); only one is supported")
    if content["file_ending"] not in VOLUME_ENDINGS:
        faults.append(f"files end in '{content['file_ending']}'; only {', '.join(VOLUME_ENDINGS)} are read")
    regions = [name for name, number in numbers.items() if isinstance(number, (list, tuple)) and len(number) > 1]
    if regions:
        faults.append(f"labels {', '.join(regions)} are regions (lists of ids); give each class an id of its own")
    if "ignore" in numbers:
        faults.append(
            f"label 'ignore' ({numbers['ignore']}) cannot be kept: a converted dataset has no ignore label, and 0 would say "
            "that somebody looked there; remove the cases that use it, and the entry"
        )
    if "dataset" in content:
        faults.append("the entry 'dataset' lists files one by one, which is not read; put them into imagesTr and labelsTr")
    return faults


def class_name(name: str) -> str:
    """A name of dataset.json as a class: the vocabulary's name for it, else in lower case with underscores."""
    return canonical(name) or re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def labels(root: Path) -> dict[int, SourceLabel]:
    """The label table: the classes of dataset.json; of an annotated dataset, those that any protocol looked for."""
    annotation = _annotation(root)
    if annotation is None:
        numbers = {name: n[0] if isinstance(n, list) else n for name, n in _dataset_json(root)["labels"].items()}
        return _table({int(n): (class_name(name),) for name, n in sorted(numbers.items(), key=lambda e: int(e[1])) if int(n)})
    looked_for = {name for protocol in annotation.protocols.values() for name in protocol.annotated_classes}
    return _table({annotation.space.id_of(name): (name,) for name in annotation.space.classes if name in looked_for})


def _table(classes: dict[int, tuple[str, ...]]) -> dict[int, SourceLabel]:
    """Classes by id as a label table; a tumor beside its organ lies inside it."""
    single = {names[0] for names in classes.values() if len(names) == 1}
    table = {}
    for number, names in classes.items():
        organ = names[0].removesuffix(_TUMOR)
        if len(names) == 2 and names[1] == organ + _TUMOR:
            names = names[:1]  # an organ whose tumors nobody told apart: the plan says so where the pool has tumors
        is_inside = len(names) == 1 and names[0] != organ and organ in single
        table[number] = SourceLabel((organ,), inside=names[0]) if is_inside else SourceLabel(names)
    return table


@cache
def _annotation(root: Path) -> Annotation | None:
    content = _dataset_json(root)
    try:
        return Annotation.from_dataset_json(content) if ANNOTATION_KEY in content else None
    except LabelError as error:
        raise ConversionError([f"'{root / 'dataset.json'}': {fault}" for fault in error.faults]) from None


def list_cases(root: Path) -> Listing:
    """Pair images and labels by case; with an annotation block, each case gets the labels of its protocol."""
    ending = _dataset_json(root)["file_ending"]
    images = {
        path.name.removesuffix(f"_0000{ending}"): path
        for path in visible_files(root, f"imagesTr/*{ending}")
        if path.name.endswith(f"_0000{ending}")
    }
    drawn = {path.name.removesuffix(ending): path for path in visible_files(root, f"labelsTr/*{ending}")}
    listing = pair(images, drawn, str, Listing(), root=root)
    annotation = _annotation(root)
    return listing if annotation is None else _by_protocol(listing, annotation, root)


def _by_protocol(listing: Listing, annotation: Annotation, root: Path) -> Listing:
    cases, listing.cases = listing.cases, []
    for case in cases:
        if case.name not in annotation.cases:
            listing.faults.append(f"case '{case.name}' is not in dataset.json['annotation']: what was looked for in it?")
            continue
        protocol = annotation.protocol_of(case.name)
        if not protocol.labels:
            listing.unlabelled.append(SourceCase(case.name, case.image))
            continue
        whole, annotators = protocol, _annotators(case.name, annotation, root, listing)
        if annotators:
            own = [annotation.protocols[name] for name in annotation.cases[case.name].annotators.values()]
            try:
                whole = majority_protocol([protocol, *own])
            except ValueError as error:
                listing.skipped.append((f"annotators of {case.name}", f"their protocols are not those of the case: {error}"))
                annotators = ()
        table, looked_for = tuple(_table(whole.labels).items()), None if whole == protocol else tuple(protocol.labels)
        listing.cases.append(SourceCase(case.name, case.image, case.label_files, looked_for, labels=table, annotators=annotators))
    return listing


def _annotators(case: str, annotation: Annotation, root: Path, listing: Listing) -> tuple[CaseAnnotator, ...]:
    """The annotators of a case; a label map that is missing is a fault."""
    ending, protocol_of = _dataset_json(root)["file_ending"], annotation.cases[case].annotators
    files = {name: root / ANNOTATORS_FOLDER / name / f"{case}{ending}" for name in protocol_of}
    listing.faults += [
        f"case '{case}': '{file}' is missing, the label map of annotator '{name}'"
        for name, file in files.items()
        if not file.is_file()
    ]
    looked_for = {name: tuple(annotation.protocols[protocol].labels) for name, protocol in protocol_of.items()}
    return tuple(CaseAnnotator(name, (file,), looked_for[name]) for name, file in files.items() if file.is_file())


SOURCE = Source(
    key="nnunet_raw",
    layout="imagesTr, labelsTr and dataset.json of one Dataset<id>_<name> folder with one channel",
    list_cases=list_cases,
    labels=labels,
    licence=lambda root: f"{_dataset_json(root).get('licence', 'not stated')}, as stated by its dataset.json",
    default_name=lambda root: re.sub(r"^Dataset\d+_", "", root.name),
    channel_names=lambda root: {"0": next(iter(_dataset_json(root)["channel_names"].values()))},
)
