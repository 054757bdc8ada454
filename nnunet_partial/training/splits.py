"""Cross-validation splits in which every fold trains and validates every way of annotating."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from nnunet_partial.labels import Annotation

NUM_FOLDS = 5
SEED = 12345  # nnU-Net's


def stratified_splits(
    annotation: Annotation, identifiers: Iterable[str], *, num_folds: int = NUM_FOLDS
) -> list[dict[str, list[str]]]:
    """Deal the cases of each protocol and source out to the folds in turn, in nnU-Net's splits_final.json form.

    nnU-Net's own split is blind to protocols, so a class annotated in few cases can be missing from a fold altogether.
    Every case goes to the fold with the fewest cases of its protocol and source, then with the fewest cases, so that without
    duplicates the folds differ by one case at most. Cases that show the same scan go together, and before the others.

    Args:
        annotation: Protocols and sources of the cases, and which of them show the same scan.
        identifiers: The cases to split.
        num_folds: Number of folds.

    Raises:
        ValueError: fewer cases, or fewer scans, than folds.
    """
    scans = _scans_in_order(annotation, identifiers)
    num_cases = sum(map(len, scans))
    if len(scans) < num_folds:
        what = f"{num_cases} cases" if num_cases == len(scans) else f"{num_cases} cases of {len(scans)} scans"
        raise ValueError(f"{what} cannot be split into {num_folds} folds; train with fold 'all'")
    folds: list[list[str]] = [[] for _ in range(num_folds)]
    alike = [Counter() for _ in range(num_folds)]
    for keys in sorted(scans, key=len, reverse=True):
        strata = [_stratum(annotation, key) for key in keys]
        fold = min(range(num_folds), key=lambda n: (sum(alike[n][stratum] for stratum in strata), len(folds[n]), n))
        folds[fold] += keys
        alike[fold].update(strata)
    everything = {key for fold in folds for key in fold}
    return [{"train": sorted(everything - set(fold)), "val": sorted(fold)} for fold in folds]


def _scans_in_order(annotation: Annotation, identifiers: Iterable[str]) -> list[list[str]]:
    """The cases of each scan, most often one, shuffled within each protocol and source."""
    strata: dict[tuple[str, str], list[str]] = {}
    for key in sorted(identifiers):
        annotation.protocol_of(key)
        strata.setdefault(_stratum(annotation, key), []).append(key)
    scans: dict[tuple[str, str], list[str]] = {}
    generator = np.random.RandomState(SEED)
    for _, keys in sorted(strata.items()):
        for key in [keys[position] for position in generator.permutation(len(keys))]:
            scan = annotation.cases[key].scan
            scans.setdefault(("scan", scan) if scan else ("case", key), []).append(key)
    return list(scans.values())


def _stratum(annotation: Annotation, identifier: str) -> tuple[str, str]:
    return annotation.cases[identifier].protocol, annotation.cases[identifier].source


def separated_scans(annotation: Annotation, splits: Iterable[dict[str, list[str]]]) -> list[tuple[str, ...]]:
    """The groups of cases of one scan of which some split trains on one and validates on another."""
    found = set()
    for split in splits:
        trained = {annotation.cases[key].scan for key in split["train"] if key in annotation.cases} - {""}
        found |= trained & {annotation.cases[key].scan for key in split["val"] if key in annotation.cases}
    return [tuple(key for key, case in annotation.cases.items() if case.scan == scan) for scan in sorted(found)]


def unannotated_anywhere(annotation: Annotation, identifiers: Iterable[str]) -> list[str]:
    """The classes that were looked for in none of these cases: nothing could teach them."""
    identifiers = list(identifiers)
    return [name for name in annotation.space.classes if not annotation.annotated_cases(name, identifiers)]
