"""Cross-validation splits in which every fold trains and validates every way of annotating."""

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
    Dealing goes on at the next fold from group to group, so that the folds differ by one case at most.

    Args:
        annotation: Protocols and sources of the cases.
        identifiers: The cases to split.
        num_folds: Number of folds.

    Raises:
        ValueError: fewer cases than folds.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for key in sorted(identifiers):
        annotation.protocol_of(key)
        case = annotation.cases[key]
        groups.setdefault((case.protocol, case.source), []).append(key)
    dealt = []
    generator = np.random.RandomState(SEED)
    for _, keys in sorted(groups.items()):
        dealt += [keys[position] for position in generator.permutation(len(keys))]
    if len(dealt) < num_folds:
        raise ValueError(f"{len(dealt)} cases cannot be split into {num_folds} folds; train with fold 'all'")
    folds = [sorted(dealt[fold::num_folds]) for fold in range(num_folds)]
    return [{"train": sorted(set(dealt) - set(validation)), "val": validation} for validation in folds]


def unannotated_anywhere(annotation: Annotation, identifiers: Iterable[str]) -> list[str]:
    """The classes that were looked for in none of these cases: nothing could teach them."""
    identifiers = list(identifiers)
    return [name for name in annotation.space.classes if not annotation.annotated_cases(name, identifiers)]
