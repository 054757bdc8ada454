"""Which cases of a dataset show the same scan: `duplicates.json`, and each case's `scan` in the annotation."""

import json
from collections.abc import Iterable
from pathlib import Path

from nnunet_partial.labels import ANNOTATION_KEY, Annotation, LabelError, write_json

DUPLICATES_NAME = "duplicates.json"


def group_pairs(pairs: Iterable[tuple[str, str]], order: Iterable[str]) -> list[tuple[str, ...]]:
    """Everything that hangs together by pairs, each group and the groups themselves in the given order."""
    order = list(order)
    group_of = {name: {name} for name in order}
    for first, second in pairs:
        joined = group_of[first] | group_of[second]
        group_of.update(dict.fromkeys(joined, joined))
    groups = {tuple(name for name in order if name in group_of[name_]) for name_ in order if len(group_of[name_]) > 1}
    return sorted(groups, key=lambda group: order.index(group[0]))


def record_groups(folder: Path, groups: list[tuple[str, ...]]) -> Annotation:
    """Write `duplicates.json` and each case's `scan` into dataset.json; files that already say so are left as they are.

    Args:
        folder: The dataset in nnUNet_raw.
        groups: The cases of each scan that has several.

    Returns:
        The annotation as it now stands.
    """
    content = {"groups": [{"scan": group[0], "cases": list(group)} for group in groups]}
    path = folder / DUPLICATES_NAME
    if groups or path.exists():
        write_json(content, path)
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    before = Annotation.from_dataset_json(dataset_json)
    annotation = with_recorded_scans(before, folder)
    if annotation != before:
        write_json({**dataset_json, ANNOTATION_KEY: annotation.as_json()}, folder / "dataset.json")
    return annotation


def with_recorded_scans(annotation: Annotation, folder: Path) -> Annotation:
    """The annotation with what `duplicates.json` says of the cases that still exist.

    Raises:
        LabelError: the file cannot be understood.
    """
    path = folder / DUPLICATES_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"groups": []}
        groups = [(str(group["scan"]), [key for key in group["cases"] if key in annotation.cases]) for group in content["groups"]]
    except (ValueError, KeyError, TypeError) as error:
        raise LabelError(
            f"not a list of duplicates ({error}); remove it and run `nnunet_partial duplicates`", where=str(path)
        ) from None
    scan_of = {key: scan for scan, keys in groups if len(keys) > 1 for key in keys}
    cases = {key: case.model_copy(update={"scan": scan_of.get(key, "")}) for key, case in annotation.cases.items()}
    return annotation.model_copy(update={"cases": cases})
