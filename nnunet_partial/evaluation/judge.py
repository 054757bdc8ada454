"""One case from its files: everything that is measured of it, kept on disk where asked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.evaluation.cache import CaseCache
from nnunet_partial.evaluation.calibration import CalibrationCounts
from nnunet_partial.evaluation.case import ClassKey, evaluate_case
from nnunet_partial.evaluation.label_maps import LabelMap, geometry_faults, read_label_map
from nnunet_partial.evaluation.probabilities import calibration_counts
from nnunet_partial.evaluation.regions import judged_regions
from nnunet_partial.evaluation.surfaces import SURFACE_NAMES, surface_metrics
from nnunet_partial.evaluation.tolerance import Tolerances
from nnunet_partial.evaluation.unannotated import unannotated_predictions
from nnunet_partial.evaluation.volumes import volume_metrics
from nnunet_partial.labels import AnnotationProtocol, LabelSpace


@dataclass(frozen=True)
class CaseTask:
    """What is to be measured of which files.

    Attributes:
        identifier: The case.
        source: The dataset it came from.
        protocol_name: Under which `protocol` is known.
        reference_file: Label map as it was annotated.
        prediction_file: Label map with the label space's ids.
        protocol: How the reference was annotated.
        space: The classes and their label ids.
        tolerances: For surface metrics; None leaves these out.
        probability_file: nnU-Net's .npz; None leaves calibration out.
        cache_dir: Where finished cases are kept; None keeps nothing.
    """

    identifier: str
    source: str
    protocol_name: str
    reference_file: Path
    prediction_file: Path
    protocol: AnnotationProtocol
    space: LabelSpace
    tolerances: Tolerances | None = None
    probability_file: Path | None = None
    cache_dir: Path | None = None

    @property
    def cache(self) -> CaseCache | None:
        """The kept results of exactly this task, or None where nothing is to be kept."""
        if self.cache_dir is None:
            return None
        files = [path for path in (self.reference_file, self.prediction_file, self.probability_file) if path is not None]
        options = {
            "protocol": self.protocol.model_dump(mode="json"),
            "space": self.space.model_dump(mode="json"),
            "tolerances": None if self.tolerances is None else str(self.tolerances),
        }
        return CaseCache(self.cache_dir, self.identifier, files, options)


@dataclass(frozen=True)
class CaseResult:
    """What was measured of a case.

    Attributes:
        metrics: Class key -> metric -> value.
        unannotated: Label id -> figures of a prediction that nobody can judge.
        calibration: Class key -> counts.
    """

    metrics: dict[ClassKey, dict[str, float]]
    unannotated: dict[int, dict[str, Any]]
    calibration: dict[ClassKey, CalibrationCounts] = field(default_factory=dict)


def judge_case(task: CaseTask) -> CaseResult | str:
    """Measure a case or take what was kept of it; a case that cannot be judged gives the sentence that says why."""
    cache = task.cache
    kept = cache.load() if cache else None
    if kept is not None:
        return CaseResult(**kept)
    try:
        reference, prediction = read_label_map(task.reference_file), read_label_map(task.prediction_file)
        faults = geometry_faults(reference, prediction)
        if faults:
            return f"case '{task.identifier}': {'; '.join(faults)}"
        result = _measure(task, reference, prediction)
    except ValueError as error:
        return f"case '{task.identifier}': {error}"
    if cache:
        cache.store(vars(result))
    return result


def _measure(task: CaseTask, reference: LabelMap, prediction: LabelMap) -> CaseResult:
    spacing_mm = reference.spacing_mm[::-1]  # arrays are (z, y, x), ITK's spacings (x, y, z)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    maps = reference.labels, prediction.labels
    metrics = evaluate_case(*maps, task.protocol, task.space)
    for values in metrics.values():
        values.update(volume_metrics(values["n_ref"], values["n_pred"], voxel_ml))
    if task.tolerances is not None:
        for values in metrics.values():
            values.update(dict.fromkeys(SURFACE_NAMES, float("nan")))
        for key, region in judged_regions(*maps, task.protocol, task.space):
            if region is not None:
                tolerance_mm = task.tolerances.of(key, task.space)
                metrics[key].update(surface_metrics(region.reference, region.prediction, spacing_mm, tolerance_mm=tolerance_mm))
    calibration = {}
    if task.probability_file is not None:
        calibration = calibration_counts(task.probability_file, *maps, spacing_mm, task.protocol, task.space)
    return CaseResult(
        metrics=metrics,
        unannotated=unannotated_predictions(*maps, voxel_ml, task.protocol, task.space),
        calibration=calibration,
    )
