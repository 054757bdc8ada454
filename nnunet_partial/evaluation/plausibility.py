"""All predictions of unannotated classes of a run, held against the volumes of annotated references."""

from collections.abc import Mapping, Sequence
from typing import Any

from nnunet_partial.evaluation.unannotated import implausible, volume_ranges_ml
from nnunet_partial.labels import LabelSpace


def unannotated_report(
    cases: Sequence[dict[str, Any]], found: Mapping[str, Mapping[int, dict[str, Any]]], space: LabelSpace
) -> dict[str, Any]:
    """Every prediction of an unannotated class, apart from the errors, and how many of them are plausible.

    Args:
        cases: Entries of `metric_per_case`; their annotated references say which volumes to expect.
        found: Identifier -> label id -> what `unannotated_predictions` returns.
        space: The classes and their label ids.

    Returns:
        `per_class`: label id -> `cases`, `plausible_cases` and `volume_range_ml` (None from too few references);
        `per_case`: one entry a case and class, with its `faults`.
    """
    volumes_ml = {
        number: [
            volume
            for case in cases
            if (volume := case["metrics"][number]["volume_ref_ml"]) > 0  # NaN is not
        ]
        for number in range(1, space.num_classes)
    }
    ranges = volume_ranges_ml(volumes_ml)
    per_case = [
        {
            "identifier": identifier,
            "class": space.classes[number - 1],
            **figures,
            "faults": (faults := implausible(figures, ranges.get(number))),
            "plausible": not faults,
        }
        for identifier, classes in found.items()
        for number, figures in classes.items()
    ]
    per_class = {}
    for number, name in enumerate(space.classes, 1):
        listed = [entry for entry in per_case if entry["class"] == name]
        if listed:
            per_class[number] = {
                "cases": len(listed),
                "plausible_cases": sum(entry["plausible"] for entry in listed),
                "volume_range_ml": list(ranges[number]) if number in ranges else None,
            }
    return {"per_class": per_class, "per_case": per_case}
