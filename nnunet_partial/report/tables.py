"""The tables of a report, as plain values that a template prints."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_partial.evaluation import ClassKey, class_name
from nnunet_partial.labels import Annotation
from nnunet_partial.report.cases import JudgedCase, below_class_means, class_keys, foreground_keys, metric_names, worst_first
from nnunet_partial.report.intervals import MeanInterval, mean_interval, mean_of_means_interval


def headline(cases: Sequence[JudgedCase], annotation: Annotation) -> dict[str, Any]:
    """The mean over classes, and the classes that do best and worst."""
    keys = foreground_keys(cases)
    values = np.array([[case.value(key, "Dice") for key in keys] for case in cases]).reshape(len(cases), len(keys))
    means = {class_name(key, annotation.space): mean_interval([case.value(key, "Dice") for case in cases]) for key in keys}
    ordered = sorted(means, key=lambda name: means[name].mean)
    return {
        "mean": mean_of_means_interval(values, [case.source for case in cases]) if keys else mean_interval([]),
        "worst": (ordered[0], means[ordered[0]]) if ordered else None,
        "best": (ordered[-1], means[ordered[-1]]) if ordered else None,
        "num_cases": len(cases),
        "num_classes": len(keys),
        "num_sources": len({case.source for case in cases}),
    }


def class_rows(cases: Sequence[JudgedCase], annotation: Annotation) -> list[dict[str, Any]]:
    """A row a class: every metric's mean with its interval, and median and lowest Dice."""
    rows = []
    for key in class_keys(cases):
        dice = known(cases, key, "Dice")
        rows.append(
            {
                "name": class_name(key, annotation.space),
                "number": key if isinstance(key, int) else key[0],
                "judged": sum(key in case.judged for case in cases),
                "metrics": {name: mean_interval(known(cases, key, name)) for name in metric_names(cases)},
                "median": float(np.median(dice)) if dice else float("nan"),
                "lowest": min(dice, default=float("nan")),
            }
        )
    return rows


def source_rows(cases: Sequence[JudgedCase], annotation: Annotation) -> dict[str, Any]:
    """Mean Dice of each class in each source, with the number of cases; None where no case of the source was judged for it."""
    sources = sorted({case.source for case in cases})

    def cell(key: ClassKey, source: str) -> MeanInterval | None:
        judged = [case for case in cases if case.source == source and key in case.judged]
        return mean_interval(known(judged, key, "Dice")) if judged else None

    rows = [
        {"name": class_name(key, annotation.space), "cells": [cell(key, source) for source in sources]}
        for key in class_keys(cases)
    ]
    return {"sources": sources, "rows": rows}


def case_rows(cases: Sequence[JudgedCase], annotation: Annotation) -> dict[str, Any]:
    """Dice of every case and class, worst first; None where nobody looked, NaN where the class is in neither."""
    keys = class_keys(cases)
    ordered, below = worst_first(cases), below_class_means(cases)
    ordered += [case for case in cases if case not in ordered]
    rows = [
        {
            "identifier": case.identifier,
            "source": case.source,
            "mean": case.mean_dice,
            "below": below.get(case.identifier, float("nan")),
            "cells": [case.value(key, "Dice") if key in case.judged else None for key in keys],
        }
        for case in ordered
    ]
    return {"classes": [class_name(key, annotation.space) for key in keys], "rows": rows}


def coverage(annotation: Annotation, licences: dict[str, str]) -> dict[str, Any]:
    """In how many of each source's training cases each class was looked for, on its own and as part of a union."""
    sources = sorted({case.source for case in annotation.cases.values()})
    rows = []
    for source in sources:
        protocols = [annotation.protocol_of(key) for key, case in annotation.cases.items() if case.source == source]
        cells = []
        for name in annotation.space.classes:
            groups = [group for protocol in protocols for group in protocol.labels.values() if name in group]
            unions = sorted({" + ".join(group) for group in groups if len(group) > 1})
            cells.append({"looked": len(groups), "alone": sum(len(group) == 1 for group in groups), "unions": unions})
        rows.append({"source": source, "cases": len(protocols), "cells": cells, "licence": licences.get(source, "")})
    totals = [sum(row["cells"][n]["looked"] for row in rows) for n in range(len(annotation.space.classes))]
    return {"classes": annotation.space.classes, "rows": rows, "totals": totals, "cases": len(annotation.cases)}


def known(cases: Sequence[JudgedCase], key: ClassKey, name: str) -> list[float]:
    """The values of a metric that are not NaN."""
    return [value for case in cases if not np.isnan(value := case.value(key, name))]
