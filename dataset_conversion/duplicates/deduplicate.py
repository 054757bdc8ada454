"""A dataset without its duplicates, written beside the old one: one case of each scan kept, or all of them merged into one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nibabel as nib

from nnunet_partial.dataset_conversion.case_job import FILE_ENDING
from nnunet_partial.dataset_conversion.duplicates.merge_cases import merge_fault, merge_labels, plan_merge
from nnunet_partial.dataset_conversion.duplicates.scan_groups import record_groups
from nnunet_partial.dataset_conversion.image_files.nifti import write_labels
from nnunet_partial.dataset_conversion.image_files.volume import read_labels, to_ras
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.labels import (
    ANNOTATION_KEY,
    MANIFEST_NAME,
    AnnotationProtocol,
    CaseRecord,
    DatasetRecord,
    LabelManifest,
    SkippedRecord,
    count_labels,
    read_manifest,
    write_json,
    write_manifest,
)
from nnunet_partial.labels.manifest import protocols_in_use

KeepRule = Literal["most_classes", "first"]
Groups = Sequence[tuple[str, ...]]


def drop_duplicates(folder: Path, target: DatasetRecord, groups: Groups, rule: KeepRule) -> tuple[Path, list[str]]:
    """Write a dataset with one case of each group.

    Args:
        folder: The dataset in nnUNet_raw.
        target: Id and name of the new one, which goes beside it.
        groups: The cases of each scan, in the order of their sources.
        rule: Keep the case with the most annotated classes (the first of several), or the first.

    Returns:
        The new folder, and what was done in words.
    """
    manifest, building = _begin(folder, target)
    records = {record.identifier: record for record in manifest.cases}
    kept_of, said = {}, []
    for group in groups:
        kept = group[0]
        if rule == "most_classes":
            kept = max(group, key=lambda key: len(manifest.protocols[records[key].protocol].annotated_classes))
        others = [key for key in group if key != kept]
        kept_of.update(dict.fromkeys(others, kept))
        said.append(f"kept '{kept}', dropped {_quoted(others)}")
    skipped = [
        SkippedRecord(source=records[key].source, item=key, reason=f"shows the same scan as '{kept}', which was kept")
        for key, kept in kept_of.items()
    ]
    cases = [record for record in manifest.cases if record.identifier not in kept_of]
    for record in cases:
        _link_case(folder, building, record.identifier)
    return _finish(folder, building, manifest, target, cases, skipped, []), said


def merge_duplicates(folder: Path, target: DatasetRecord, groups: Groups, exact: set[frozenset[str]]) -> tuple[Path, list[str]]:
    """Write a dataset in which the cases of each group are one, with the union of their annotations.

    A group whose voxels do not lie on one another stays apart, with a sentence; its cases stay on one side of every split.

    Args:
        folder: The dataset in nnUNet_raw.
        target: Id and name of the new one, which goes beside it.
        groups: The cases of each scan, in the order of their sources: where they disagree, the first wins.
        exact: Pairs of cases whose images are the same voxel by voxel.

    Returns:
        The new folder, and what was done in words.
    """
    manifest, building = _begin(folder, target)
    records = {record.identifier: record for record in manifest.cases}
    merged, protocols, apart, said = {}, {}, [], []
    for group in groups:
        same_voxels = all(frozenset((group[0], other)) in exact for other in group[1:])
        result = _merge_group(folder, building, manifest, [records[key] for key in group], same_voxels=same_voxels)
        if isinstance(result, str):
            apart.append(group)
            said.append(f"{_quoted(group)} are not merged: {result}; they stay on one side of every split")
            continue
        merged[group[0]], protocols[result[0].protocol] = result
        said.append(f"merged {_quoted(group)} into '{group[0]}', protocol '{result[0].protocol}'")
        said += [f"note on case '{group[0]}': {note}" for note in result[0].notes if note not in records[group[0]].notes]
    gone = {key for record in merged.values() for key in record.merged_from[1:]}
    cases = [merged.get(record.identifier, record) for record in manifest.cases if record.identifier not in gone]
    for record in cases:
        _link_case(folder, building, record.identifier, labels=record.identifier not in merged)
    manifest = manifest.model_copy(update={"protocols": {**manifest.protocols, **protocols}})
    return _finish(folder, building, manifest, target, cases, [], apart), said


def refuse_taken_id(raw: Path, target: DatasetRecord) -> None:
    """Raise ConversionError where a dataset in nnUNet_raw has the id of the new one."""
    taken = sorted(raw.glob(f"Dataset{target.id:03d}_*"))
    if taken:
        raise ConversionError(f"'{taken[0]}' has the same id; choose another id with -o, or remove it")


def _merge_group(
    folder: Path, building: Path, manifest: LabelManifest, records: list[CaseRecord], *, same_voxels: bool
) -> tuple[CaseRecord, AnnotationProtocol] | str:
    """The merged case, its label map written, or why there is none."""
    files = [folder / "labelsTr" / f"{record.identifier}{FILE_ENDING}" for record in records]
    volumes = [to_ras(read_labels(file)) for file in files]
    fault = merge_fault(volumes, same_voxels=same_voxels)
    if fault:
        return fault
    protocols = [manifest.protocols[record.protocol] for record in records]
    plan = plan_merge(protocols, manifest.space)
    labels, notes = merge_labels([volume.array for volume in volumes], protocols, plan)
    behind = [record.identifier for record in records[1:] if record.annotators]
    notes += [f"the label maps of single annotators of {_quoted(behind)} are left behind"] if behind else []
    write_labels(labels, nib.load(files[0]).header, building / "labelsTr" / files[0].name)
    counts = count_labels(labels)
    counts.pop(0, None)
    record = records[0].model_copy(
        update={
            "protocol": "+".join(dict.fromkeys(record.protocol for record in records)),
            "label_counts": counts,
            "absent": tuple(name for number, names in plan.protocol.labels.items() if number not in counts for name in names),
            "notes": (*records[0].notes, *notes),
            "merged_from": tuple(record.identifier for record in records),
        }
    )
    return record, plan.protocol


def _begin(folder: Path, target: DatasetRecord) -> tuple[LabelManifest, Path]:
    """The old manifest, and an empty folder in which the new dataset is built."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    refuse_taken_id(folder.parent, target)
    building = folder.parent / f".{target.folder_name}.tmp"
    shutil.rmtree(building, ignore_errors=True)
    for name in ("imagesTr", "labelsTr"):
        (building / name).mkdir(parents=True)
    return manifest, building


def _finish(
    folder: Path,
    building: Path,
    manifest: LabelManifest,
    target: DatasetRecord,
    cases: list[CaseRecord],
    skipped: list[SkippedRecord],
    groups: Groups,
) -> Path:
    """Write manifest and dataset.json, and give the folder its name."""
    in_use = protocols_in_use(cases)
    manifest = LabelManifest(
        dataset=target,
        classes=manifest.classes,
        protocols={name: protocol for name, protocol in manifest.protocols.items() if name in in_use},
        sources=manifest.sources,
        cases=tuple(cases),
        skipped=(*manifest.skipped, *skipped),
    )
    write_manifest(manifest, building / MANIFEST_NAME)
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    content.update({"numTraining": len(cases), ANNOTATION_KEY: manifest.annotation().as_json()})
    write_json(content, building / "dataset.json")
    record_groups(building, list(groups))
    return building.rename(folder.parent / target.folder_name)


def _link_case(folder: Path, building: Path, identifier: str, *, labels: bool = True) -> None:
    """Hard links to a case's files, or copies where the file system has no links."""
    files = sorted((folder / "imagesTr").glob(f"{identifier}_[0-9][0-9][0-9][0-9]{FILE_ENDING}"))
    if labels:
        files.append(folder / "labelsTr" / f"{identifier}{FILE_ENDING}")
    files += sorted(folder.glob(f"annotators/*/{identifier}{FILE_ENDING}"))
    for file in files:
        place = building / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.hardlink_to(file.resolve())
        except OSError:
            shutil.copyfile(file, place)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
