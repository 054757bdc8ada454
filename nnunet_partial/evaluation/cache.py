"""Finished cases on disk, so that a stopped evaluation goes on and several machines can share one."""

import ast
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_partial.evaluation.calibration import CalibrationCounts
from nnunet_partial.labels import replacing, write_json

_VERSION = 2  # of the metrics: raise it when one of them changes
_ARRAYS = tuple(vars(CalibrationCounts.empty()))


@dataclass(frozen=True)
class CaseCache:
    """What was measured of one case, valid as long as files and options are the same.

    Attributes:
        folder: Where it lies: <identifier>.json, and <identifier>.npz with what calibration counts.
        identifier: The case.
        files: What it was measured from; size and time of change are compared.
        options: What else the numbers depend on; JSON.
    """

    folder: Path
    identifier: str
    files: Sequence[Path]
    options: dict[str, Any]

    def load(self) -> dict[str, Any] | None:
        """`metrics`, `unannotated` and `calibration` as they were stored; None where nothing valid is there."""
        try:
            kept = json.loads(self._json.read_text(encoding="utf-8"))
            if kept["made_from"] != self._made_from():
                return None
            return {
                "metrics": _with_keys(kept["metrics"]),
                "unannotated": _with_keys(kept["unannotated"]),
                "calibration": self._load_counts(kept["calibrated"]),
            }
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None  # not there, or not ours: measured again

    def is_valid(self) -> bool:
        """Whether `load` would find something; a look at the JSON only."""
        try:
            return json.loads(self._json.read_text(encoding="utf-8"))["made_from"] == self._made_from()
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def store(self, measured: dict[str, Any]) -> None:
        """Write what was measured; the JSON, which makes it valid, last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        calibration = measured["calibration"]
        if calibration:
            arrays = {f"{key}/{name}": vars(counts)[name] for key, counts in calibration.items() for name in _ARRAYS}
            with replacing(self._npz) as temporary:
                np.savez_compressed(temporary, **arrays)
        content = {
            "made_from": self._made_from(),
            "metrics": {str(key): values for key, values in measured["metrics"].items()},
            "unannotated": {str(key): values for key, values in measured["unannotated"].items()},
            "calibrated": [str(key) for key in calibration],
        }
        write_json(content, self._json)

    def _load_counts(self, keys: Sequence[str]) -> dict[Any, CalibrationCounts]:
        if not keys:
            return {}
        with np.load(self._npz) as arrays:
            return {
                ast.literal_eval(key): CalibrationCounts(**{name: arrays[f"{key}/{name}"] for name in _ARRAYS}) for key in keys
            }

    def _made_from(self) -> dict[str, Any]:
        states = [path.stat() for path in self.files]
        files = [[state.st_size, state.st_mtime_ns] for state in states]
        return json.loads(json.dumps({"version": _VERSION, "files": files, **self.options}))

    @property
    def _json(self) -> Path:
        return self.folder / f"{self.identifier}.json"

    @property
    def _npz(self) -> Path:
        return self.folder / f"{self.identifier}.npz"


def _with_keys(values: dict[str, Any]) -> dict[Any, Any]:
    """JSON's text keys as label ids and unions."""
    return {ast.literal_eval(key): value for key, value in values.items()}
