"""Runs against each other: paired differences of a metric over the cases that both have judged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunet_partial.evaluation.paired import bootstrap_interval, holm, t_test_p, wilcoxon_p
from nnunet_partial.evaluation.runs import Run

ALL_CLASSES = "mean over classes"


@dataclass(frozen=True)
class Difference:
    """One class of one run against the same class of the first run.

    Attributes:
        metric: What is compared.
        class_name: The class, or `ALL_CLASSES`: of each case the mean over its classes.
        first: Name of the first run.
        run: Name of the other run.
        cases: Pairs in which both have a value.
        one_sided: Cases in which only one of the two has a value; they are left out.
        first_mean: Mean of the first run over the pairs.
        run_mean: Mean of the other run over the pairs.
        difference: Mean of run minus first.
        low: Lower end of the 95 % confidence interval of the difference (bootstrap, BCa).
        high: Upper end.
        wilcoxon_p: Two-sided, signed-rank, uncorrected.
        wilcoxon_holm_p: The same after Holm's correction over all classes and runs; NaN for `ALL_CLASSES`, no test of its own.
        t_test_p: Two-sided, paired, uncorrected.
    """

    metric: str
    class_name: str
    first: str
    run: str
    cases: int
    one_sided: int
    first_mean: float
    run_mean: float
    difference: float
    low: float
    high: float
    wilcoxon_p: float
    wilcoxon_holm_p: float
    t_test_p: float


@dataclass(frozen=True)
class Comparison:
    """All differences of a metric, and what could not be paired.

    Attributes:
        metric: What is compared.
        definition: What it means, where a run says so.
        differences: One row a class and run.
        unpaired: Name of a run -> cases that only it or only the first run has.
    """

    metric: str
    definition: str
    differences: Sequence[Difference]
    unpaired: dict[str, list[str]]

    def as_frame(self) -> pd.DataFrame:
        """One row a class and run."""
        return pd.DataFrame([asdict(difference) for difference in self.differences])


def compare_runs(runs: Sequence[Run], metric: str = "Dice") -> Comparison:
    """Compare each further run with the first one, class by class, over the cases that both have judged.

    Args:
        runs: Two or more, the first of which the others are held against.
        metric: A column that all of them have.

    Raises:
        ValueError: fewer than two runs, two of one name, a metric that is not there or was measured in two ways, or nothing
            to pair.
    """
    _check(runs, metric)
    first = runs[0].rows[metric].unstack("class")
    rows: list[dict[str, Any]] = []
    unpaired = {}
    for run in runs[1:]:
        other = run.rows[metric].unstack("class")
        identifiers = first.index.intersection(other.index)
        classes = [name for name in first.columns if name in other.columns]
        if identifiers.empty or not classes:
            what = "case" if identifiers.empty else "class"
            raise ValueError(f"runs '{runs[0].name}' and '{run.name}' have no {what} in common")
        unpaired[run.name] = sorted(set(first.index) ^ set(other.index))
        pair = first.loc[identifiers, classes], other.loc[identifiers, classes]
        both = pair[0].notna() & pair[1].notna()
        names = {"metric": metric, "first": runs[0].name, "run": run.name}
        sides = {name: (pair[0][name], pair[1][name]) for name in _ordered(runs[0], classes)}
        sides[ALL_CLASSES] = tuple(side.where(both).mean(axis=1) for side in pair)
        rows += [{**names, "class_name": name, **_statistics(*values)} for name, values in sides.items()]
    family = [np.nan if row["class_name"] == ALL_CLASSES else row["wilcoxon_p"] for row in rows]
    differences = [Difference(**row, wilcoxon_holm_p=p) for row, p in zip(rows, holm(family), strict=True)]
    definition = next((run.definitions[metric] for run in runs if metric in run.definitions), "")
    return Comparison(metric, definition, differences, unpaired)


def _check(runs: Sequence[Run], metric: str) -> None:
    if len(runs) < 2:
        raise ValueError("a comparison needs two runs or more")
    names = [run.name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two runs are named {', '.join(twice)}; name them with NAME=PATH")
    for run in runs:
        if metric not in run.rows.columns:
            raise ValueError(f"run '{run.name}' has no metric '{metric}'; it has {', '.join(run.rows.columns)}")
    meanings = {run.definitions[metric]: run.name for run in runs if metric in run.definitions}
    if len(meanings) > 1:
        listed = "".join(f"\n  - {name}: {meaning}" for meaning, name in meanings.items())
        raise ValueError(f"{metric} was not measured alike in all runs; evaluate them anew with the same options:{listed}")


def _ordered(run: Run, classes: Sequence[str]) -> list[str]:
    """The classes in the order of the run's file, which is that of their label ids."""
    return [name for name in run.rows.index.get_level_values("class").unique() if name in classes]


def _statistics(first: pd.Series, other: pd.Series) -> dict[str, float]:
    known = first.notna() & other.notna()
    differences = (other[known] - first[known]).to_numpy(dtype=float)
    low, high = bootstrap_interval(differences)
    return {
        "cases": int(known.sum()),
        "one_sided": int((first.notna() ^ other.notna()).sum()),
        "first_mean": float(first[known].mean()),
        "run_mean": float(other[known].mean()),
        "difference": float(differences.mean()) if len(differences) else float("nan"),
        "low": low,
        "high": high,
        "wilcoxon_p": wilcoxon_p(differences),
        "t_test_p": t_test_p(differences),
    }
