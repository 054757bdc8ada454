"""The judged cases of a run, read back from summary.json."""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.evaluation import ClassKey, judged_keys
from nnunet_partial.labels import Annotation, AnnotationProtocol

COUNTS = ("FP", "TP", "FN", "TN", "n_pred", "n_ref", "volume_ref_ml", "volume_pred_ml")  # describe a case, not its quality
NOT_STATED = "not stated"
UNLISTED = "unlisted"  # what `evaluate` writes where the annotation does not know a case
OUTSIDE = "not in the dataset"


@dataclass(frozen=True)
class JudgedCase:
    """One case of a summary.

    Attributes:
        identifier: Its name.
        source: The dataset it came from.
        reference_file: What it was judged against.
        prediction_file: What was judged.
        metrics: Class key -> metric -> value, NaN where the class was not looked for.
    """

    identifier: str
    source: str
    reference_file: Path
    prediction_file: Path
    metrics: dict[ClassKey, dict[str, float]]

    @property
    def judged(self) -> list[ClassKey]:
        """The classes and unions that were looked for."""
        return [key for key, values in self.metrics.items() if not np.isnan(values["TP"])]

    def value(self, key: ClassKey, name: str) -> float:
        """A metric of a class; NaN where this case does not have it."""
        return self.metrics.get(key, {}).get(name, float("nan"))

    @property
    def mean_dice(self) -> float:
        """Mean Dice over what has one; NaN where nothing has."""
        known = [value for key in self.metrics if not np.isnan(value := self.value(key, "Dice"))]
        return float(np.mean(known)) if known else float("nan")


def read_cases(summary_files: Sequence[Path]) -> list[JudgedCase]:
    """The cases of one or more summaries (folds), in the order of their identifiers.

    Raises:
        FileNotFoundError: a summary is not there.
        ValueError: a summary is not nnU-Net's or ours, or two judge the same case.
    """
    cases = [case for file in summary_files for case in _cases_of(file)]
    names = [case.identifier for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"judged twice in {', '.join(map(str, summary_files))}: {', '.join(twice)}")
    return sorted(cases, key=lambda case: case.identifier)


def class_keys(cases: Sequence[JudgedCase]) -> list[ClassKey]:
    """Classes, then unions, that any case was judged for."""
    keys = {key for case in cases for key in case.judged}
    return sorted(keys, key=lambda key: (isinstance(key, tuple), key))


def metric_names(cases: Sequence[JudgedCase]) -> list[str]:
    """The metrics that say how good a prediction is, Dice first, in the summary's order."""
    names = dict.fromkeys(name for case in cases for values in case.metrics.values() for name in values)
    return [name for name in names if name not in COUNTS]


def foreground_keys(cases: Sequence[JudgedCase]) -> list[ClassKey]:
    """What enters the mean over classes: every class, and a union only where none of its classes has a Dice of its own."""
    known = [key for key in class_keys(cases) if any(not np.isnan(case.value(key, "Dice")) for case in cases)]
    return [key for key in known if isinstance(key, int) or not any(number in known for number in key)]


def below_class_means(cases: Sequence[JudgedCase]) -> dict[str, float]:
    """Identifier -> how far the case's Dice lies from its classes' means, on average; none without a Dice.

    Mean Dice alone would call every case worst that was annotated for a hard class only.
    """
    keys = class_keys(cases)
    values = np.array([[case.value(key, "Dice") for key in keys] for case in cases]).reshape(len(cases), len(keys))
    known = ~np.isnan(values)
    means = np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)
    differences = np.where(known, values - means, 0).sum(1) / np.maximum(known.sum(1), 1)
    return {case.identifier: float(differences[n]) for n, case in enumerate(cases) if known[n].any()}


def worst_first(cases: Sequence[JudgedCase]) -> list[JudgedCase]:
    """Cases that have a Dice, the one furthest below its classes' means first."""
    below = below_class_means(cases)
    ranked = [case for case in cases if case.identifier in below]
    return sorted(ranked, key=lambda case: (round(below[case.identifier], 9), case.identifier))


def protocol_of(case: JudgedCase, annotation: Annotation) -> AnnotationProtocol:
    """The protocol a case was judged by: its own, or every class where its reference was taken as a full one."""
    if case.identifier in annotation.cases:
        own = annotation.protocol_of(case.identifier)
        if set(judged_keys(own, annotation.space)) == set(case.judged):
            return own
    names = annotation.space.classes
    return AnnotationProtocol(labels={key: (names[key - 1],) for key in case.judged if isinstance(key, int)})


def _cases_of(file: Path) -> list[JudgedCase]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}; make it with `nnunet_partial evaluate`")
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["metric_per_case"]
        return [_case_of(entry) for entry in entries]
    except (KeyError, TypeError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file} is no summary of nnU-Net's shape ({type(error).__name__}: {error})") from None


def _case_of(entry: dict[str, Any]) -> JudgedCase:
    prediction = Path(entry["prediction_file"])
    source = entry.get("source", NOT_STATED)
    return JudgedCase(
        identifier=entry.get("identifier") or prediction.name.split(".")[0],
        source=OUTSIDE if source == UNLISTED else source,
        reference_file=Path(entry["reference_file"]),
        prediction_file=prediction,
        metrics={_key(text): _numbers(values) for text, values in entry["metrics"].items()},
    )


def _key(text: str) -> ClassKey:
    """nnU-Net writes the label id 4 as '4' and the union of 4 and 5 as '(4, 5)'."""
    key = ast.literal_eval(text)
    return tuple(key) if isinstance(key, (tuple, list)) else int(key)


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}
