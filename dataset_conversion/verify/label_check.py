"""What a label map holds, against its protocol, its manifest entry, and what organs are like."""

from dataclasses import dataclass
from itertools import pairwise

import cc3d
import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import bounding_box
from nnunet_partial.dataset_conversion.verify.finding import Finding, fault, remark
from nnunet_partial.dataset_conversion.verify.plausible import Plausible, plausible
from nnunet_partial.labels import AnnotationProtocol, CaseRecord, LabelSpace

_MAIN_PART = 0.1  # of the largest component; between this and a speck lie parts of an organ that thin sections tear off
_SPECK = 0.01  # of the largest component


@dataclass(frozen=True)
class _Organ:
    """One label id of a label map: voxels of its components, largest first, and whether it reaches the scan's border."""

    component_voxels: np.ndarray
    at_border: bool


def id_findings(counts: dict[int, int], protocol: AnnotationProtocol, space: LabelSpace) -> list[Finding]:
    """Ids that the label space or the protocol does not know."""
    findings = []
    for number in sorted(set(counts) - {0, *protocol.labels, space.ignore_id}):
        where = f"label id {number} ({counts[number]} voxels)"
        if 0 < number < space.num_classes:
            name = space.classes[number - 1]
            findings.append(fault("unannotated", f"{where} is '{name}', for which the case's protocol says nobody looked"))
        else:
            findings.append(fault("label ids", f"{where} is no class of this dataset, which has 1 to {len(space.classes)}"))
    if protocol.labels and not set(protocol.labels) & set(counts):
        sought = ", ".join(sorted(protocol.annotated_classes))
        findings.append(remark("empty label map", f"the label map is empty, though {sought} were looked for"))
    return findings


def record_findings(counts: dict[int, int], record: CaseRecord, protocol: AnnotationProtocol) -> list[Finding]:
    """The label map against what the manifest says of it."""
    findings = []
    if record.label_counts and record.label_counts != counts:
        changed = [n for n in sorted(set(counts) | set(record.label_counts)) if counts.get(n, 0) != record.label_counts.get(n, 0)]
        said = ", ".join(f"{record.label_counts.get(n, 0)} of id {n} (now {counts.get(n, 0)})" for n in changed)
        findings.append(
            fault("label counts", f"the manifest counted other voxels: {said}; the file was changed after conversion")
        )
    for number, classes in protocol.labels.items():
        voxels, absent = counts.get(number, 0), [name for name in classes if name in record.absent]
        if voxels and len(absent) == len(classes):
            findings.append(
                fault("absent", f"{' or '.join(classes)} is absent, says the manifest, but id {number} has {voxels} voxels")
            )
        if not voxels and len(absent) < len(classes):
            findings.append(
                remark(
                    "absent", f"{' or '.join(classes)} was looked for and has no voxels, but the manifest does not call it absent"
                )
            )
    return findings


def organ_findings(labels: np.ndarray, protocol: AnnotationProtocol, *, voxel_ml: float, spacing_known: bool) -> list[Finding]:
    """Parts and volume of every organ."""
    organs = _organs(labels)
    findings = []
    for number, classes in protocol.labels.items():
        bounds = plausible(classes)
        if number not in organs or bounds is None:
            continue
        name = " or ".join(classes)
        findings += _part_findings(name, organs[number], bounds)
        if spacing_known:
            findings += _volume_findings(name, organs[number], bounds, voxel_ml)
    return findings


def _part_findings(name: str, organ: _Organ, bounds: Plausible) -> list[Finding]:
    if bounds.parts is None:
        return []
    sizes = organ.component_voxels
    main, specks = sizes[sizes >= _MAIN_PART * sizes[0]], sizes[sizes < _SPECK * sizes[0]]
    findings = []
    if len(main) > bounds.parts:
        shares = ", ".join(f"{size / sizes.sum():.0%}" for size in main[:5])
        findings.append(remark("parts", f"{name} is in {len(main)} parts ({shares} of it), expected {bounds.parts}"))
    if len(specks):
        findings.append(remark("specks", f"specks of {name}: {len(specks)}, with {specks.sum()} of its {sizes.sum()} voxels"))
    return findings


def _volume_findings(name: str, organ: _Organ, bounds: Plausible, voxel_ml: float) -> list[Finding]:
    volume_ml = organ.component_voxels.sum() * voxel_ml
    said = f"{name} has {volume_ml:.3g} ml, plausible are {bounds.low_ml:g} to {bounds.high_ml:g}"
    if volume_ml > bounds.high_ml:
        return [fault("volume", said)]
    if volume_ml >= bounds.low_ml:
        return []
    if organ.at_border:
        return [remark("volume", f"{said}; it touches the scan's border, which cuts it")]
    return [fault("volume", said)]


def _organs(labels: np.ndarray) -> dict[int, _Organ]:
    """The components of every label id, 26 neighbours."""
    box = bounding_box(labels)
    part = np.ascontiguousarray(labels[box].T, dtype=np.int16)  # label maps may hold their whole numbers as floats
    if part.size == 0:
        return {}
    components = cc3d.connected_components(part, connectivity=26)
    voxels = np.bincount(components.ravel())
    number_of = np.zeros(len(voxels), dtype=np.int64)
    number_of[components.ravel()] = part.ravel()
    at_border = _border_ids(labels)
    order = np.lexsort((-voxels, number_of))
    starts = [*np.flatnonzero(np.diff(number_of[order], prepend=-1)), len(order)]
    return {
        int(number_of[order[first]]): _Organ(voxels[order[first:last]], int(number_of[order[first]]) in at_border)
        for first, last in pairwise(starts)
        if number_of[order[first]] != 0
    }


def _border_ids(labels: np.ndarray) -> set[int]:
    """The ids that occur on one of the six faces."""
    faces = [face for end in (0, -1) for face in (labels[end], labels[:, end], labels[:, :, end])]
    return {int(number) for face in faces for number in np.unique(face)}
