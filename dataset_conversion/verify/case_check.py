"""One case of a converted dataset: its files are read once, and everything that can be said of them is said."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_partial.dataset_conversion.anatomy import intensity_notes, match_notes, position_notes
from nnunet_partial.dataset_conversion.case import UNREADABLE
from nnunet_partial.dataset_conversion.image_files.volume import Volume, has_identity_affine, read_labels, read_nifti, to_ras
from nnunet_partial.dataset_conversion.label_counts import count_voxels
from nnunet_partial.dataset_conversion.verify.annotator_check import (
    AnnotatorFile,
    Pair,
    annotator_findings,
    compare_annotators,
)
from nnunet_partial.dataset_conversion.verify.finding import Finding, fault, remark
from nnunet_partial.dataset_conversion.verify.grid_check import (
    affine_findings,
    geometry_findings,
    place_findings,
    spacing_findings,
)
from nnunet_partial.dataset_conversion.verify.intensity_check import intensity_findings
from nnunet_partial.dataset_conversion.verify.label_check import id_findings, organ_findings, record_findings
from nnunet_partial.labels import AnnotationProtocol, CaseRecord, LabelSpace


@dataclass(frozen=True)
class CheckJob:
    """Everything needed to check one case; small, because it travels to a worker.

    Attributes:
        identifier: nnU-Net's name of the case.
        image_files: Its images, one a channel.
        is_ct: For each channel, whether intensities are HU.
        label_file: Its label map.
        protocol: How it was annotated.
        space: The classes of the dataset.
        record: What the manifest says of it, None where there is no manifest.
        annotators: The label maps of single annotators, where there are several.
    """

    identifier: str
    image_files: tuple[Path, ...]
    is_ct: tuple[bool, ...]
    label_file: Path
    protocol: AnnotationProtocol
    space: LabelSpace
    record: CaseRecord | None
    annotators: tuple[AnnotatorFile, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case."""
        return (*self.image_files, self.label_file, *(annotator.path for annotator in self.annotators))


@dataclass(frozen=True)
class CaseResult:
    """What was found in one case.

    Attributes:
        findings: What is wrong or unusual.
        label_counts: Voxels of each id; None where its label map could not be read.
        pairs: How its annotators' label maps lie to each other.
    """

    findings: tuple[Finding, ...]
    label_counts: dict[int, int] | None
    pairs: tuple[Pair, ...] = ()


def check_case(job: CheckJob) -> CaseResult:
    """Read a case and check it; never raises for what is wrong with the files."""
    findings: list[Finding] = []
    images = [_read(path, read_nifti, findings) for path in job.image_files]
    labels = _read(job.label_file, read_labels, findings)
    for image, path, is_ct in zip(images, job.image_files, job.is_ct, strict=True):
        if image is not None:
            findings += place_findings(image, path)
            findings += spacing_findings(image, path, is_ct=is_ct)
            findings += intensity_findings(image, path.name, is_ct=is_ct)
    counts = None
    if labels is not None:
        findings += place_findings(labels, job.label_file)
        counts, found = _label_findings(job, labels)
        findings += found
    findings += _joint_findings(job, images, labels if counts is not None else None)
    drawn = []
    for annotator in job.annotators:
        own = _read(annotator.path, read_labels, findings)
        if own is not None:
            findings += annotator_findings(annotator, own, images[0], job.image_files[0].name, job.space)
            drawn.append((annotator, own.array))
    return CaseResult(
        tuple(finding._replace(case=job.identifier) for finding in findings), counts, pairs=compare_annotators(drawn)
    )


def _read(path: Path, reader: Callable[[Path], Volume], findings: list[Finding]) -> Volume | None:
    """The volume, or None and why it cannot be used."""
    try:
        wrong = affine_findings(path)
        volume = None if wrong else reader(path)
    except UNREADABLE as error:
        wrong, volume = [fault("unreadable", f"'{path.name}' cannot be read: {error}")], None
    findings += wrong
    return volume


def _label_findings(job: CheckJob, labels: Volume) -> tuple[dict[int, int] | None, list[Finding]]:
    try:
        counts = count_voxels(labels.array)
    except ValueError as error:
        return None, [fault("label ids", f"'{job.label_file.name}': {error}")]
    findings = id_findings(counts, job.protocol, job.space)
    if job.record is not None:
        findings += record_findings(counts, job.record, job.protocol)
    spacing_known = not (any(job.is_ct) and has_identity_affine(labels))
    voxel_ml = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
    return counts, findings + organ_findings(labels.array, job.protocol, voxel_ml=voxel_ml, spacing_known=spacing_known)


def _joint_findings(job: CheckJob, images: list[Volume | None], labels: Volume | None) -> list[Finding]:
    """The files of a case against each other, and the anatomy where image and label map have one grid."""
    readable = [(image, path.name) for image, path in zip(images, job.image_files, strict=True) if image is not None]
    others = [*readable[1:], *([(labels, job.label_file.name)] if labels is not None else [])]
    findings = []
    for other, name in others if readable else []:
        findings += geometry_findings(readable[0][0], other, readable[0][1], name)
    if images[0] is None or labels is None or images[0].array.shape != labels.array.shape:
        return findings
    image, in_ras = to_ras(images[0]), to_ras(Volume(labels.array, images[0].affine)).array
    anatomy = [fault("anatomy", note) for note in position_notes(in_ras, image, job.protocol, is_ct=job.is_ct[0])]
    if job.is_ct[0]:
        anatomy += [fault("mismatch", note) for note in match_notes(in_ras, image, job.protocol)]
        anatomy += [remark("HU in organs", note) for note in intensity_notes(in_ras, image, job.protocol)]
    return findings + anatomy
