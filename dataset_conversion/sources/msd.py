"""Medical Segmentation Decathlon: ten tasks in one layout; those with one 3D channel are read.

Licence: from each task's dataset.json (CC BY-SA 4.0 in all public tasks).
From: http://medicaldecathlon.com
Layout: `TaskXX_Name/{imagesTr,labelsTr,imagesTs}/<name>.nii.gz` and `dataset.json`; the path is the task's folder. imagesTs
has no labels.
Annotated: what dataset.json lists under `labels`. Names become ours by `SOURCE_LABELS`; others are put in lower case with
underscores.
Known to be wrong: AppleDouble files (`._x`) among the images; Task01 and Task05 have several channels in 4D and are refused;
Task03 holds the scans of LiTS. Tumors belong to their organ (policy `tumor`), but where a task draws only the tumor (Task06,
Task08, Task10) it is a class of its own, because nobody looked for the organ.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_conversion.listing import (
    ConversionError,
    Listing,
    Source,
    SourceCase,
    SourceLabel,
    natural_key,
    pair,
    visible_files,
)

# (task, label) as dataset.json has them, in lower case
SOURCE_LABELS = {
    ("heart", "left atrium"): SourceLabel(("left_atrium",)),
    ("liver", "liver"): SourceLabel(("liver",)),
    ("liver", "cancer"): SourceLabel(("liver",), inside="liver_tumor"),
    ("liver", "tumour"): SourceLabel(("liver",), inside="liver_tumor"),
    ("hippocampus", "anterior"): SourceLabel(("hippocampus_anterior",)),
    ("hippocampus", "posterior"): SourceLabel(("hippocampus_posterior",)),
    ("lung", "cancer"): SourceLabel(("lung_tumor",)),
    ("lung", "tumour"): SourceLabel(("lung_tumor",)),
    ("pancreas", "pancreas"): SourceLabel(("pancreas",)),
    ("pancreas", "cancer"): SourceLabel(("pancreas",), inside="pancreas_tumor"),
    ("hepaticvessel", "vessel"): SourceLabel(("hepatic_vessel",)),
    ("hepaticvessel", "tumour"): SourceLabel(("liver_tumor",)),
    ("spleen", "spleen"): SourceLabel(("spleen",)),
    ("colon", "colon cancer primaries"): SourceLabel(("colon_tumor",)),
}

_PUBLIC_TASKS = ("Heart", "Hippocampus", "Lung", "Pancreas", "HepaticVessel", "Spleen", "Colon")


@cache
def _dataset_json(root: Path) -> dict[str, Any]:
    file = root / "dataset.json"
    if not file.is_file():
        raise ConversionError(f"'{file}' is missing; the path must be one task's folder, such as .../Task09_Spleen")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        channels = content["modality"]
        content["labels"] = {int(number): name for number, name in content["labels"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise ConversionError(
            f"'{file}' is not a Decathlon dataset.json with 'labels' (id: name) and 'modality': {error!r}"
        ) from None
    if len(channels) != 1:
        raise ConversionError(
            f"'{file}': the task has {len(channels)} channels ({', '.join(channels.values())}); only one is supported"
        )
    return content


def task_name(root: Path) -> str:
    """The task without its number: 'Spleen'."""
    return re.sub(r"^Task\d+_", "", root.name)


def scans_of_task(task: str) -> frozenset[str]:
    """The collection a public task's scans belong to; Task03 took over LiTS. Nothing is known of a user's own task."""
    if task.lower() == "liver":
        return frozenset({"LiTS"})
    return frozenset(f"Decathlon {name}" for name in _PUBLIC_TASKS if name.lower() == task.lower())


def labels(root: Path) -> dict[int, SourceLabel]:
    """The label table, from dataset.json."""
    task = task_name(root).lower()
    names = {number: name.lower().strip() for number, name in _dataset_json(root)["labels"].items() if number != 0}
    return {
        number: SOURCE_LABELS.get((task, name), SourceLabel((re.sub(r"[^a-z0-9]+", "_", name).strip("_"),)))
        for number, name in names.items()
    }


def list_cases(root: Path) -> Listing:
    """Pair imagesTr and labelsTr by file name; nobody labelled imagesTs."""
    images, labels, tests = (
        {path.name.removesuffix(".nii.gz"): path for path in visible_files(root, f"{kind}/*.nii.gz")}
        for kind in ("imagesTr", "labelsTr", "imagesTs")
    )
    listing = pair(images, labels, str, Listing(), root=root)
    listing.unlabelled += [SourceCase(name, tests[name]) for name in sorted(tests, key=natural_key)]
    return listing


SOURCE = Source(
    key="msd",
    layout="imagesTr, labelsTr and dataset.json of one Decathlon task",
    list_cases=list_cases,
    labels=labels,
    licence=lambda root: f"{_dataset_json(root).get('licence', 'not stated')}, as stated by its dataset.json",
    default_name=lambda root: f"MSD_{task_name(root)}",
    scans=lambda root: scans_of_task(task_name(root)),
    channel_names=lambda root: {"0": _dataset_json(root)["modality"]["0"]},
)
