"""A dataset folder as a whole: which files belong to which case, and do dataset.json, manifest and files agree?"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_conversion.case_job import ANNOTATORS_FOLDER
from nnunet_partial.dataset_conversion.image_files.volume import NIFTI_ENDINGS
from nnunet_partial.dataset_conversion.listing import natural_key
from nnunet_partial.dataset_conversion.verify.annotator_check import AnnotatorFile
from nnunet_partial.dataset_conversion.verify.case_check import CheckJob
from nnunet_partial.dataset_conversion.verify.finding import Finding, fault, remark
from nnunet_partial.labels import MANIFEST_NAME, Annotation, LabelError, LabelManifest, read_manifest


@dataclass(frozen=True)
class DatasetFiles:
    """A dataset folder, listed.

    Attributes:
        annotation: Label space, protocols, and each case's.
        jobs: The cases whose files are all there, in natural order.
        findings: What is wrong with the folder as a whole.
    """

    annotation: Annotation
    jobs: list[CheckJob]
    findings: list[Finding]


def list_dataset(folder: Path) -> DatasetFiles:
    """Read dataset.json and the manifest, list the files, and compare them.

    Raises:
        FileNotFoundError: there is no dataset.json.
        LabelError: it has no annotation, or one that contradicts itself: nothing can be checked against it.
        ValueError: its files are not NIfTI, or are listed elsewhere.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        raise FileNotFoundError(f"there is no '{file}'; convert the dataset first (`nnunet_partial convert`)")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise LabelError(f"not a JSON file: {error}", where=str(file)) from None
    ending = content.get("file_ending")
    if ending not in NIFTI_ENDINGS:
        raise ValueError(f"'{file}': file_ending is {ending!r}; only {' and '.join(NIFTI_ENDINGS)} can be verified")
    if not content.get("channel_names"):
        raise ValueError(f"'{file}' has no channel_names, such as {{'0': 'CT'}}")
    if "dataset" in content:
        raise ValueError(f"'{file}' lists its files under 'dataset'; only files in imagesTr and labelsTr can be verified")
    annotation = Annotation.from_dataset_json(content)
    manifest, findings = _manifest(folder, annotation)
    jobs, found = _jobs(folder, content, annotation, manifest, ending)
    return DatasetFiles(annotation, jobs, findings + found)


def _manifest(folder: Path, annotation: Annotation) -> tuple[LabelManifest | None, list[Finding]]:
    file = folder / MANIFEST_NAME
    if not file.is_file():
        return None, [
            fault("manifest", f"there is no {MANIFEST_NAME}: label counts, absent classes and origins cannot be checked")
        ]
    try:
        manifest = read_manifest(file)
    except LabelError as error:
        return None, [fault("manifest", f"{MANIFEST_NAME}: {reason}") for reason in error.faults]
    findings = []
    if manifest.classes != annotation.space.classes:
        findings.append(
            fault("manifest", f"{MANIFEST_NAME} has the classes {manifest.classes}, dataset.json {annotation.space.classes}")
        )
    theirs = manifest.annotation()
    ours = {key: case.model_copy(update={"scan": ""}) for key, case in annotation.cases.items()}  # `duplicates` says the scans
    for what, in_manifest, in_json in (
        ("protocol", theirs.protocols, annotation.protocols),
        ("case", theirs.cases, ours),
    ):
        for name in sorted(set(in_manifest) | set(in_json)):
            if name not in in_manifest or name not in in_json:
                where = MANIFEST_NAME if name in in_manifest else "dataset.json"
                findings.append(fault("manifest", f"{what} '{name}' stands in {where} only"))
            elif in_manifest[name] != in_json[name]:
                findings.append(fault("manifest", f"{what} '{name}' differs between {MANIFEST_NAME} and dataset.json"))
    uncounted = sum(not case.label_counts for case in manifest.cases)
    if uncounted:
        findings.append(remark("manifest", f"{uncounted} cases have no label_counts in {MANIFEST_NAME}: nothing to compare with"))
    return manifest, findings


def _jobs(
    folder: Path, content: dict[str, Any], annotation: Annotation, manifest: LabelManifest | None, ending: str
) -> tuple[list[CheckJob], list[Finding]]:
    """The cases that can be checked, and what is missing or extra."""
    channels = [str(name).upper() == "CT" for name in content["channel_names"].values()]
    present = {part: {path.name for path in (folder / part).glob("*") if path.exists()} for part in ("imagesTr", "labelsTr")}
    records = {case.identifier: case for case in manifest.cases} if manifest else {}
    jobs, findings, expected, drawn = [], [], {"imagesTr": set(), "labelsTr": set()}, set()
    for key in sorted(annotation.cases, key=natural_key):
        images = [f"{key}_{channel:04d}{ending}" for channel in range(len(channels))]
        expected["imagesTr"].update(images)
        expected["labelsTr"].add(f"{key}{ending}")
        missing = [f"imagesTr/{name}" for name in images if name not in present["imagesTr"]]
        missing += [f"labelsTr/{key}{ending}"] if f"{key}{ending}" not in present["labelsTr"] else []
        annotators = tuple(
            AnnotatorFile(name, folder / ANNOTATORS_FOLDER / name / f"{key}{ending}", annotation.protocols[protocol])
            for name, protocol in annotation.cases[key].annotators.items()
        )
        drawn.update(annotator.path for annotator in annotators)
        missing += [who.path.relative_to(folder).as_posix() for who in annotators if not who.path.is_file()]
        findings += [_missing(folder / name, name)._replace(case=key) for name in missing]
        if not missing:
            jobs.append(
                CheckJob(
                    identifier=key,
                    image_files=tuple(folder / "imagesTr" / name for name in images),
                    is_ct=tuple(channels),
                    label_file=folder / "labelsTr" / f"{key}{ending}",
                    protocol=annotation.protocol_of(key),
                    space=annotation.space,
                    record=records.get(key),
                    annotators=annotators,
                )
            )
    findings += [_extra(part, name, ending) for part in present for name in sorted(present[part] - expected[part])]
    findings += [
        remark("other files", f"'{path.relative_to(folder)}' is of no annotator that dataset.json names for its case")
        for path in sorted((folder / ANNOTATORS_FOLDER).glob("*/*"))
        if path not in drawn and path.name.endswith(ending)
    ]
    return jobs, findings + _number_findings(content, present["labelsTr"], ending)


def _missing(path: Path, name: str) -> Finding:
    if path.is_symlink():
        return fault(
            "missing file", f"'{name}' is a link to '{path.readlink()}', which is not there; convert with --copy to be safe"
        )
    return fault("missing file", f"'{name}' is not there")


def _extra(part: str, name: str, ending: str) -> Finding:
    """A file that is no case's: nnU-Net takes whatever has the ending for a case."""
    key = re.sub(r"_\d{4}$", "", name.removesuffix(ending))
    if name.endswith(ending):
        return fault("extra file", f"'{part}/{name}' belongs to no case of dataset.json['annotation']; not checked")._replace(
            case=key
        )
    return remark("other files", f"'{part}/{name}' is no file of nnU-Net's")


def _number_findings(content: dict[str, Any], label_files: set[str], ending: str) -> list[Finding]:
    number, claimed = sum(name.endswith(ending) for name in label_files), content.get("numTraining")
    return [] if number == claimed else [fault("numTraining", f"dataset.json says {claimed} cases, labelsTr holds {number}")]
