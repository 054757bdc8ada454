"""Label maps out of probabilities, cut at confidence levels that the application asks for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.evaluation.case_pool import over_cases
from nnunet_partial.evaluation.label_maps import read_geometry, read_label_map
from nnunet_partial.evaluation.probabilities import checked_channels, probability_faults, reaches
from nnunet_partial.evaluation.write_like import write_like
from nnunet_partial.labels import LabelError, LabelSpace, write_json

RECORD_NAME = "threshold.json"
RULE = (
    "A voxel is class k where p_k is at least its level. Where several classes reach theirs, it is the one with the largest "
    "p_k / level_k, and of equal ones the first. Background is what no class reaches."
)


@dataclass(frozen=True)
class ConfidenceLevels:
    """From which probability on a voxel is given to a class.

    Attributes:
        default: For classes that are not named, between 0 and 1.
        by_class: For named classes.
    """

    default: float
    by_class: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, level in (("", self.default), *self.by_class.items()):
            if not 0 < level < 1:
                raise ValueError(f"confidence level {level:g}{f' of {name}' if name else ''} is not between 0 and 1")

    @classmethod
    def parse(cls, default: float, texts: Sequence[str]) -> "ConfidenceLevels":
        """Levels from a number and words such as 'pancreas=0.2'.

        Raises:
            ValueError: a word that says no class or no number, a class that is named twice, a level outside (0, 1).
        """
        by_class = {}
        for text in texts:
            name, _, value = text.rpartition("=")
            try:
                level = float(value)
            except ValueError:
                level = None
            if not name or level is None:
                raise ValueError(f"level '{text}': CLASS=LEVEL is expected, such as pancreas=0.2")
            if name in by_class:
                raise ValueError(f"class '{name}' has two levels, {by_class[name]:g} and {level:g}")
            by_class[name] = level
        return cls(default, by_class)

    def of_space(self, space: LabelSpace) -> dict[str, float]:
        """The level of every class; a name that is not a class raises ValueError with the nearest one that is."""
        unknown = [space.unknown(name) for name in self.by_class if name not in space.classes]
        if unknown:
            raise LabelError(unknown)
        return {name: self.by_class.get(name, self.default) for name in space.classes}


def labels_at(channels: Iterable[np.ndarray], levels: Sequence[float], dtype: np.typing.DTypeLike = np.uint8) -> np.ndarray:
    """The label map at the given levels.

    Where several classes reach their levels, the ratio to the level decides, not the probability: a tumour that is looked for
    from 0.1 on would else lose every voxel to the organ around it. With one level for all the two are the same, and at levels
    of 0.5 and more, hardly ever do two classes reach theirs.

    Args:
        channels: Probabilities of background and each class, one after another.
        levels: Of the classes, in their order.
        dtype: Of the label map.

    Shape:
        channels (*S) each, floating; levels (C - 1,); returns (*S).
    """
    labels, best = None, None
    for number, channel in enumerate(channels):
        if labels is None:
            labels, best = np.zeros(channel.shape, dtype), np.zeros(channel.shape, np.float32)
            continue  # background
        level = levels[number - 1]
        ratio = channel / np.float32(level)
        wins = reaches(channel, level) & (ratio > best)
        labels[wins] = number
        best[wins] = ratio[wins]
    return labels


@dataclass(frozen=True)
class CutTask:
    """One case to be cut.

    Attributes:
        identifier: The case.
        prediction_file: Label map as nnU-Net predicted it.
        probability_file: nnU-Net's .npz of it.
        output_file: Where the new label map goes.
        levels: Class -> level, for all classes.
        space: The classes and their label ids.
    """

    identifier: str
    prediction_file: Path
    probability_file: Path
    output_file: Path
    levels: Mapping[str, float]
    space: LabelSpace


def cut_folder(
    prediction_dir: Path | str,
    output_dir: Path | str,
    space: LabelSpace,
    levels: ConfidenceLevels,
    file_ending: str = ".nii.gz",
    num_processes: int = 1,
    progress: bool = False,
) -> dict[str, Any]:
    """Cut every prediction of a folder, and write beside the new label maps what was done (threshold.json).

    A rerun with the same levels keeps what was cut from the same files.

    Args:
        prediction_dir: <identifier><file_ending> and <identifier>.npz of `nnUNetv2_predict --save_probabilities`.
        output_dir: Where the label maps go; it is made.
        space: The classes of the model.
        levels: Of the classes.
        file_ending: As in dataset.json.
        num_processes: Cases cut at a time; 1 stays in this process.
        progress: Show a progress bar.

    Returns:
        `predictions`, `levels`, `rule`, and `cases`: identifier -> class -> ml as predicted and at the level.

    Raises:
        ValueError: nothing to cut, an unknown class, missing probabilities or such of another shape (all are listed before
            anything is written), or an output folder that holds other label maps. Later: probabilities that are not those of
            the predictions; every case is named.
        FileNotFoundError: there is no folder of predictions.
    """
    prediction_dir, output_dir = Path(prediction_dir), Path(output_dir)
    tasks = _tasks(prediction_dir, output_dir, space, levels.of_space(space), file_ending)
    _check_output(prediction_dir, output_dir, file_ending)
    record: dict[str, Any] = {"predictions": str(prediction_dir), "levels": levels.of_space(space), "rule": RULE, "cases": {}}
    cases = _cut_before(tasks, record, output_dir / RECORD_NAME)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json({**record, "cases": cases}, output_dir / RECORD_NAME)  # first, so that a run that was stopped is known as ours
    left = [task for task in tasks if task.identifier not in cases]
    for task, volumes_ml in over_cases(_cut, left, num_processes=num_processes, progress=progress, doing="cutting", done="cut"):
        cases[task.identifier] = volumes_ml
        write_json({**record, "cases": cases}, output_dir / RECORD_NAME)
    record["cases"] = {task.identifier: cases[task.identifier] for task in tasks}
    write_json(record, output_dir / RECORD_NAME)
    return record


def _cut_before(tasks: Sequence[CutTask], record: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The cases that an earlier run cut alike, from files that have not changed since."""
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        found = earlier["cases"] if {**earlier, "cases": {}} == json.loads(json.dumps(record)) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {task.identifier: found[task.identifier] for task in tasks if task.identifier in found and _is_newer(task)}


def _is_newer(task: CutTask) -> bool:
    made_from = max(file.stat().st_mtime_ns for file in (task.prediction_file, task.probability_file))
    return task.output_file.is_file() and task.output_file.stat().st_mtime_ns >= made_from


def _tasks(
    prediction_dir: Path, output_dir: Path, space: LabelSpace, levels: Mapping[str, float], file_ending: str
) -> list[CutTask]:
    if not prediction_dir.is_dir():
        raise FileNotFoundError(f"there is no folder {prediction_dir}")
    files = sorted(path for path in prediction_dir.iterdir() if path.name.endswith(file_ending))
    if not files:
        raise ValueError(f"{prediction_dir} holds no predictions *{file_ending}")
    tasks, faults = [], []
    for file in files:
        identifier = file.name.removesuffix(file_ending)
        task = CutTask(identifier, file, prediction_dir / f"{identifier}.npz", output_dir / file.name, levels, space)
        tasks.append(task)
        faults += [f"case '{identifier}': {fault}" for fault in _faults(task)]
    if faults:
        raise LabelError(faults, where="nothing was cut")
    return tasks


def _faults(task: CutTask) -> list[str]:
    if not task.probability_file.is_file():
        return [f"{task.probability_file.name} is missing; predict with nnUNetv2_predict --save_probabilities"]
    try:
        shape = read_geometry(task.prediction_file).shape
    except ValueError as error:
        return [str(error)]
    return probability_faults(task.probability_file, (task.space.num_classes, *shape))


def _check_output(prediction_dir: Path, output_dir: Path, file_ending: str) -> None:
    """Refuse a folder in which label maps of another kind would be overwritten."""
    if output_dir.resolve() == prediction_dir.resolve():
        raise ValueError(f"{output_dir} holds the predictions themselves; give another folder for the new label maps")
    ours = (output_dir / RECORD_NAME).is_file()
    if output_dir.is_dir() and not ours and any(path.name.endswith(file_ending) for path in output_dir.iterdir()):
        raise ValueError(f"{output_dir} holds label maps that are not from this command; give an empty folder")


def _cut(task: CutTask) -> dict[str, dict[str, float]] | str:
    """Class -> ml as predicted and at its level; or what is wrong with the case."""
    try:
        prediction = read_label_map(task.prediction_file)
        channels = checked_channels(task.probability_file, prediction.labels, task.space.num_classes)
        dtype = np.uint8 if task.space.num_classes <= 256 else np.int16
        labels = labels_at(channels, [task.levels[name] for name in task.space.classes], dtype)
    except ValueError as error:
        return f"case '{task.identifier}': {error}"
    write_like(labels, task.prediction_file, task.output_file)
    voxel_ml = float(np.prod(prediction.spacing_mm)) / 1000
    counts = [np.bincount(array.ravel(), minlength=task.space.num_classes) for array in (prediction.labels, labels)]
    return {
        name: {"predicted_ml": float(counts[0][number] * voxel_ml), "at_level_ml": float(counts[1][number] * voxel_ml)}
        for number, name in enumerate(task.space.classes, 1)
    }
