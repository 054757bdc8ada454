"""One case that several annotators drew, from its files: they among themselves, and a prediction against all of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from nnunet_partial.evaluation.annotators.between import agreement_of_annotators
from nnunet_partial.evaluation.annotators.class_votes import CaseVotes, case_keys, read_votes
from nnunet_partial.evaluation.annotators.energy import energy_distance
from nnunet_partial.evaluation.annotators.levels import TENTHS, averages_over_levels, metrics_at_levels
from nnunet_partial.evaluation.annotators.overlap import Overlaps
from nnunet_partial.evaluation.annotators.variance import variance_map_files, write_variance_map
from nnunet_partial.evaluation.cache import CaseCache
from nnunet_partial.evaluation.calibration import CalibrationCounts, calibration_metrics
from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.label_maps import LabelMap, read_label_map
from nnunet_partial.evaluation.probabilities import MARGIN_MM, checked_channels, reaches
from nnunet_partial.evaluation.regions import Box, grown_box, joint_box
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

_VERSION = 2  # of these figures: raise it when one of them changes


@dataclass(frozen=True)
class AgreementTask:
    """What is to be measured of which files.

    Attributes:
        identifier: The case.
        label_files: Annotator -> the label map that he or she drew.
        protocols: Annotator -> what he or she looked for.
        space: The classes and their label ids.
        prediction_file: Label map as nnU-Net predicted it; None measures the annotators alone.
        probability_file: nnU-Net's .npz of it.
        surfaces: Whether HD95 is measured.
        variance_dir: Where variance maps are written; None writes none.
        cache_dir: Where finished cases are kept; None keeps nothing.
    """

    identifier: str
    label_files: Mapping[str, Path]
    protocols: Mapping[str, AnnotationProtocol]
    space: LabelSpace
    prediction_file: Path | None = None
    probability_file: Path | None = None
    surfaces: bool = True
    variance_dir: Path | None = None
    cache_dir: Path | None = None

    @property
    def keys(self) -> list[ClassKey]:
        """The classes and unions that any annotator looked for."""
        return case_keys(self.protocols.values(), self.space)

    @property
    def variance_files(self) -> dict[tuple[str, ClassKey], Path]:
        """(whose variance, class) -> where its map lies, for all maps that are asked for."""
        if self.variance_dir is None:
            return {}
        some_file = next(iter(self.label_files.values()))
        ending = some_file.name.removeprefix(self.identifier)
        of_whom = ("annotators",) if self.prediction_file is None else ("annotators", "prediction")
        return variance_map_files(self.variance_dir, of_whom, self.identifier, self.keys, self.space, ending)

    @property
    def cache(self) -> CaseCache | None:
        """The kept results of exactly this task, or None where nothing is to be kept."""
        if self.cache_dir is None:
            return None
        files = [*self.label_files.values(), self.prediction_file, self.probability_file, *self.variance_files.values()]
        options = {
            "agreement": _VERSION,
            "protocols": {annotator: protocol.model_dump(mode="json") for annotator, protocol in self.protocols.items()},
            "space": self.space.model_dump(mode="json"),
            "surfaces": self.surfaces,
        }
        return CaseCache(self.cache_dir, self.identifier, [path for path in files if path is not None], options)


@dataclass(frozen=True)
class CaseAgreement:
    """What was measured of a case.

    Attributes:
        rows: Class or union -> figures, as definitions.py explains them; `levels`, `by_annotator` and `pairs` hold more of them.
        calibration: Class or union -> counts.
    """

    rows: dict[ClassKey, dict[str, Any]]
    calibration: dict[ClassKey, CalibrationCounts] = field(default_factory=dict)


def measure_case(task: AgreementTask) -> CaseAgreement | str:
    """Measure a case or take what was kept of it; a case that cannot be measured gives the sentence that says why."""
    cache = task.cache
    kept = cache.load() if cache else None
    if kept is not None:
        return CaseAgreement(rows=kept["metrics"], calibration=kept["calibration"])
    try:
        result = _measure(task)
    except ValueError as error:
        return f"case '{task.identifier}': {error}"
    if cache:
        cache.store({"metrics": result.rows, "unannotated": {}, "calibration": result.calibration})
    return result


def _measure(task: AgreementTask) -> CaseAgreement:
    votes = read_votes(task.label_files, task.protocols, task.space)
    prediction = None if task.prediction_file is None else read_label_map(task.prediction_file)
    rows, calibration = {}, {}
    for key, probability in _probabilities(task, prediction):
        rows[key] = _row(votes, key, probability, surfaces=task.surfaces)
        if probability is not None:
            counts = _calibration_counts(votes, key, probability, prediction.labels)
            calibration.update({} if counts is None else {key: counts})
            found = calibration_metrics(CalibrationCounts.empty() if counts is None else counts)
            rows[key] |= {name: found[name] for name in ("ECE", "Brier")}
        _write_variance_maps(task, votes, key, probability)
    return CaseAgreement(rows={key: rows[key] for key in task.keys}, calibration=calibration)


def _probabilities(task: AgreementTask, prediction: LabelMap | None) -> Iterator[tuple[ClassKey, np.ndarray | None]]:
    """The probability of each class as the file comes to it, of a union when its last class has come."""
    if prediction is None:
        yield from ((key, None) for key in task.keys)
        return
    sums: dict[ClassKey, np.ndarray] = {}
    for number, channel in enumerate(checked_channels(task.probability_file, prediction.labels, task.space.num_classes)):
        if number in task.keys:
            yield number, channel
        for union in (key for key in task.keys if isinstance(key, tuple) and number in key):
            sums[union] = channel.astype(np.float32) if union not in sums else sums[union] + channel
            if number == max(union):
                yield union, sums.pop(union).astype(channel.dtype)  # rounded as the file is, so that levels are met alike


def _row(votes: CaseVotes, key: ClassKey, probability: np.ndarray | None, *, surfaces: bool) -> dict[str, Any]:
    """Everything but calibration that is measured of a class."""
    spacing_mm = votes.grid.spacing_mm[::-1]  # arrays are (z, y, x), ITK's spacings (x, y, z)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    boxes = [votes.box_of(key), None if probability is None else _box(reaches(probability, TENTHS[0] / 10))]
    # where nobody shows the class, one voxel stands for all: the figures of empty masks need no code of their own
    box = joint_box([found for found in boxes if found is not None]) or (slice(0, 1),) * len(votes.grid.shape)
    drawn = votes.of_class(key, box)
    if probability is None:
        return agreement_of_annotators(drawn, Overlaps.of_masks(drawn.masks), voxel_ml)
    inside = np.where(drawn.known, probability[box], probability.dtype.type(0))
    half = reaches(inside, 0.5)
    overlaps = Overlaps.of_masks(np.concatenate([drawn.masks, half[None]]))
    among = Overlaps(dice=overlaps.dice[:-1, :-1], distance=overlaps.distance[:-1, :-1])
    row = agreement_of_annotators(drawn, among, voxel_ml)
    to_prediction = {"Dice_to_prediction": overlaps.dice[-1, :-1], "IoU_distance_to_prediction": overlaps.distance[-1, :-1]}
    for name, values in to_prediction.items():
        for annotator, value in zip(drawn.annotators, values, strict=True):
            row["by_annotator"][annotator][name] = float(value)
    levels = metrics_at_levels(inside, drawn.votes, len(drawn.annotators), spacing_mm if surfaces else None)
    return {
        **row,
        "volume_pred_ml": float(np.count_nonzero(half) * voxel_ml),
        **energy_distance(overlaps.distance[-1, :-1], among.distance),
        "Dice_expected": float(overlaps.dice[-1, :-1].mean()),
        **averages_over_levels(levels),
        "levels": levels,
    }


def _calibration_counts(
    votes: CaseVotes, key: ClassKey, probability: np.ndarray, prediction: np.ndarray
) -> CalibrationCounts | None:
    """Counts over the box around annotations and prediction grown by MARGIN_MM, as `evaluate` takes it; None for no box."""
    boxes = [votes.box_of(key), _box(np.isin(prediction, key))]
    box = joint_box([found for found in boxes if found is not None])
    if box is None:
        return None
    margin = [int(np.ceil(MARGIN_MM / step)) for step in votes.grid.spacing_mm[::-1]]
    box = grown_box(box, margin, prediction.shape)
    drawn = votes.of_class(key, box)
    return CalibrationCounts.of_voxels(probability[box][drawn.known].astype(np.float32), drawn.share[drawn.known])


def _write_variance_maps(task: AgreementTask, votes: CaseVotes, key: ClassKey, probability: np.ndarray | None) -> None:
    like = next(iter(task.label_files.values()))
    for (of_whom, of_key), file in task.variance_files.items():
        if of_key == key and of_whom == "prediction":
            write_variance_map(probability, like, file)
        elif of_key == key:
            whole = tuple(slice(0, size) for size in votes.grid.shape)
            write_variance_map(votes.of_class(key, whole).share, like, file)


def _box(mask: np.ndarray) -> Box | None:
    found = ndimage.find_objects(mask.view(np.uint8), max_label=1)
    return found[0]
