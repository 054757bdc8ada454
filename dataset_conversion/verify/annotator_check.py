"""The label maps of several annotators: each against its own protocol, and all of them against each other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from nnunet_partial.dataset_conversion.image_files.volume import Volume, bounding_box
from nnunet_partial.dataset_conversion.label_counts import count_voxels
from nnunet_partial.dataset_conversion.verify.finding import Finding, fault, remark
from nnunet_partial.dataset_conversion.verify.grid_check import geometry_findings
from nnunet_partial.dataset_conversion.verify.label_check import id_findings
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

SAME, OVERLAP, APART = "same", "overlap", "apart"
_SURE_CASES = 2  # in one case alone, two annotators may well draw a small thing alike, or one of them another thing


@dataclass(frozen=True)
class AnnotatorFile:
    """The label map of one of several annotators of a case.

    Attributes:
        name: The annotator.
        path: The file.
        protocol: What this annotator looked for.
    """

    name: str
    path: Path
    protocol: AnnotationProtocol


@dataclass(frozen=True)
class Pair:
    """How the label maps of two annotators of a case lie to each other: SAME, OVERLAP or APART."""

    first: str
    second: str
    relation: str


def annotator_findings(
    annotator: AnnotatorFile, labels: Volume, image: Volume | None, image_name: str, space: LabelSpace
) -> list[Finding]:
    """The ids of an annotator's label map, and whether it lies on the image."""
    name = f"{annotator.path.parent.name}/{annotator.path.name}"
    try:
        found = id_findings(count_voxels(labels.array), annotator.protocol, space)
    except ValueError as error:
        found = [fault("label ids", str(error))]
    found = [finding._replace(message=f"'{name}': {finding.message}") for finding in found]
    return found + (geometry_findings(image, labels, image_name, name) if image is not None else [])


def compare_annotators(drawn: Iterable[tuple[AnnotatorFile, np.ndarray]]) -> tuple[Pair, ...]:
    """Every two annotators of a case, over the ids that both looked for; none where one of the two drew none of these.

    Args:
        drawn: The annotators with their label maps; maps of different shapes are not compared.
    """
    pairs = []
    for (one, first), (other, second) in combinations(drawn, 2):
        both = sorted(set(one.protocol.labels) & set(other.protocol.labels))
        if first.shape != second.shape or not both:
            continue
        first_drew, second_drew = np.isin(first, both), np.isin(second, both)
        box = bounding_box(first_drew | second_drew)
        first_drew, second_drew = first_drew[box], second_drew[box]
        if not (first_drew.any() and second_drew.any()):
            continue
        agree = (first[box] == second[box]) & first_drew
        relation = OVERLAP if agree.any() else APART
        pairs.append(Pair(one.name, other.name, SAME if agree.sum() == (first_drew | second_drew).sum() else relation))
    return tuple(pairs)


def agreement_findings(pairs_of: Mapping[str, tuple[Pair, ...]], source_of: Mapping[str, str]) -> list[Finding]:
    """Annotators who agree or disagree too much to be true, over all cases of a source: another's annotator is another person.

    Args:
        pairs_of: Case -> its pairs of annotators.
        source_of: Case -> its source.
    """
    cases_of: dict[str, list[tuple[Pair, ...]]] = {}
    for case, pairs in pairs_of.items():
        cases_of.setdefault(source_of[case], []).append(pairs)
    return [
        finding._replace(message=f"source '{source}': {finding.message}")
        for source, cases in cases_of.items()
        for finding in [*_copies(cases), *_strangers(cases)]
    ]


def _copies(cases: list[tuple[Pair, ...]]) -> list[Finding]:
    """Two annotators who drew the same voxels in every case that both drew: a folder was copied."""
    relations: dict[tuple[str, str], list[str]] = {}
    for pair in (pair for pairs in cases for pair in pairs):
        relations.setdefault((pair.first, pair.second), []).append(pair.relation)
    return [
        _finding(len(found), f"'{first}' and '{second}' drew the same voxels in every case they share ({len(found)}): a copy?")
        for (first, second), found in relations.items()
        if set(found) == {SAME}
    ]


def _strangers(cases: list[tuple[Pair, ...]]) -> list[Finding]:
    """Annotators who in no case drew a voxel as any other one did."""
    names = dict.fromkeys(name for pairs in cases for pair in pairs for name in (pair.first, pair.second))
    found_of = {
        name: [{pair.relation for pair in pairs if name in (pair.first, pair.second)} for pairs in cases] for name in names
    }
    return [
        _finding(
            sum(map(bool, found)),
            f"'{name}' drew no voxel as any other annotator did ({sum(map(bool, found))} cases): other ids, a flip, or maps of "
            "other cases?",
        )
        for name, found in found_of.items()
        if set().union(*found) == {APART}
    ]


def _finding(num_cases: int, message: str) -> Finding:
    return (fault if num_cases >= _SURE_CASES else remark)("annotators", message)
