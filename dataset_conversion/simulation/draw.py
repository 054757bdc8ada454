"""Seeded draws that do not move: which cases are drawn for one purpose depends on the seed and their names alone."""

import hashlib
import json
from collections.abc import Collection, Iterable


def seeded_order(identifiers: Iterable[str], seed: int, *purpose: str) -> list[str]:
    """The identifiers in an order drawn from the seed.

    Each is ranked by a hash of seed, purpose and its own name, so that the order is the same on every machine and with every
    release of numpy, and leaving a case out or adding one does not reorder the others.
    """

    def rank(identifier: str) -> tuple[bytes, str]:
        return hashlib.sha256(json.dumps([seed, *purpose, identifier]).encode()).digest(), identifier

    return sorted(identifiers, key=rank)


def num_dropped(num_annotated: int, missing_percent: int) -> int:
    """How many of the cases in which a class is annotated lose it: the percentage, halves rounded up."""
    return (num_annotated * missing_percent * 2 + 100) // 200


def kept_cases(
    annotated: Collection[str], present: Collection[str], missing_percent: int, seed: int, group: str
) -> tuple[frozenset[str], str]:
    """The cases that keep one annotation, and what had to be done so that it can be learnt at all ('' where nothing).

    Cases keep it in a drawn order, so that what is kept at a higher percentage is a part of what is kept at a lower one. The
    first place belongs to the first drawn case in whose label map the organ is there: a dataset always keeps one such case.

    Args:
        annotated: The cases in which somebody looked for it.
        present: Those of them whose label map shows it.
        missing_percent: Percentage of the annotated cases that lose it, 0 to 99.
        seed: Of the draw.
        group: Its name; every class is drawn on its own.

    Source: Petit et al. 2021 (INERRANT), section 4.1.2: labels are removed "at a volume level", for every organ
        independently, and nested over the proportions. Their alpha is what stays: alpha = 100 - missing_percent.
    """
    order = seeded_order(annotated, seed, "missing", group)
    if not order:
        return frozenset(), ""
    drawn = len(order) - num_dropped(len(order), missing_percent)
    num_kept = max(1, drawn)
    first = next((identifier for identifier in order if identifier in present), order[0])
    kept = frozenset([first, *[identifier for identifier in order if identifier != first][: num_kept - 1]])
    if num_kept > drawn:
        return kept, f"{group}: the draw would have kept none of {len(order)} annotations; kept that of '{first}'"
    if present and not any(identifier in present for identifier in order[:num_kept]):
        said = ", ".join(f"'{identifier}'" for identifier in order[:num_kept])
        return kept, f"{group}: the draw would have kept only cases without it ({said}); kept '{first}' in place of the last"
    return kept, ""
