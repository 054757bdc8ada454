"""What a fold left behind while it trained: losses and pseudo Dice by epoch, from nnU-Net's logs and our CSV."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_partial.report.class_curves import ALL_SOURCES, CSV_NAME, Curves, read_class_curves

_NUMBER = r"(nan|-?[\d.]+(?:e-?\d+)?)"
_EPOCH = re.compile(r"Epoch (\d+)\s*$")
_VALUES = {
    "train_loss": re.compile(rf"train_loss {_NUMBER}\s*$"),
    "val_loss": re.compile(rf"val_loss {_NUMBER}\s*$"),
    "seconds": re.compile(rf"Epoch time: {_NUMBER} s\s*$"),
}
_DICE = re.compile(r"Pseudo dice \[(.*)\]\s*$")
_DICE_VALUE = re.compile(rf"(?:np\.float\d+\()?{_NUMBER}\)?(?:, |$)")


@dataclass(frozen=True)
class TrainingRun:
    """The course of one fold's training.

    Attributes:
        fold: '0' or 'all'.
        epochs: Epoch numbers that the log has values of.
        train_loss: One value an epoch.
        val_loss: One value an epoch.
        seconds: One value an epoch.
        curves: Pseudo Dice by class and source; by class alone where the training wrote no CSV.
        environment: What nnU-Net noted of the machine.
    """

    fold: str
    epochs: np.ndarray
    train_loss: np.ndarray
    val_loss: np.ndarray
    seconds: np.ndarray
    curves: Curves
    environment: dict[str, str]

    @property
    def has_sources(self) -> bool:
        """Whether pseudo Dice is known by source."""
        return any(set(by_source) - {ALL_SOURCES} for by_source in self.curves.values())


def read_training_run(folder: Path, class_names: Sequence[str]) -> TrainingRun:
    """Read a fold's folder; of epochs that were trained again after a kill, the last time counts."""
    epochs: dict[int, dict] = {}
    for log in sorted(folder.glob("training_log_*.txt")):
        _read_log(log, epochs)
    numbers = sorted(number for number, values in epochs.items() if "train_loss" in values)  # one that has begun has none yet
    columns = {name: np.array([epochs[number].get(name, np.nan) for number in numbers]) for name in _VALUES}
    csv_file = folder / CSV_NAME
    curves = read_class_curves(csv_file) if csv_file.is_file() else _curves_of_log(epochs, class_names)
    return TrainingRun(
        fold=folder.name.removeprefix("fold_"),
        epochs=np.array(numbers),
        curves=curves,
        environment=_environment(folder / "debug.json"),
        **columns,
    )


def _read_log(log: Path, epochs: dict[int, dict]) -> None:
    current: dict | None = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if begun := _EPOCH.search(line):
            current = epochs[int(begun[1])] = {}
        elif current is not None:
            for name, pattern in _VALUES.items():
                if found := pattern.search(line):
                    current[name] = float(found[1])
            if found := _DICE.search(line):
                current["dice"] = [float(value) for value in _DICE_VALUE.findall(found[1])]


def _curves_of_log(epochs: dict[int, dict], class_names: Sequence[str]) -> Curves:
    rows = [
        (number, epochs[number]["dice"]) for number in sorted(epochs) if len(epochs[number].get("dice", ())) == len(class_names)
    ]
    if not rows:
        return {}
    numbers, dice = np.array([number for number, _ in rows], float), np.array([values for _, values in rows])
    return {name: {ALL_SOURCES: np.stack((numbers, dice[:, n]), axis=1)} for n, name in enumerate(class_names)}


def _environment(file: Path) -> dict[str, str]:
    """Device, GPU, torch and cuDNN of the training; nnU-Net writes them as text."""
    if not file.is_file():
        return {}
    noted = json.loads(file.read_text(encoding="utf-8"))
    wanted = {"device": "device", "gpu_name": "GPU", "torch_version": "torch", "cudnn_version": "cuDNN"}
    return {title: str(noted[name]) for name, title in wanted.items() if noted.get(name) not in (None, "None", "")}
