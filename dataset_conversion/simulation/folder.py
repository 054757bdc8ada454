"""The folder of a simulated dataset: whose it is, which cases are finished, and where each file goes."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunet_partial.dataset_conversion.case_job import ANNOTATORS_FOLDER
from nnunet_partial.dataset_conversion.dataset_ids import same_id_faults
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import AnnotatedDataset
from nnunet_partial.dataset_conversion.simulation.plan import SimulationPlan
from nnunet_partial.labels import MANIFEST_NAME, write_json

JOURNAL_FOLDER = ".simulation"
REFERENCES = "references"
TEST_ANNOTATORS_FOLDER = "annotatorsTs"
SIMULATION_NAME = "simulation.json"
SIMULATION_VERSION = 1  # raise it when the same arguments give other output
FINAL_FILES = (SIMULATION_NAME, MANIFEST_NAME, "dataset.json")
"""Written when all cases are, in this order: without dataset.json nnU-Net does not take the folder for a dataset."""


@dataclass(frozen=True)
class SimulationFolder:
    """Where a plan is carried out; nnU-Net looks at imagesTr, labelsTr, imagesTs and dataset.json alone."""

    folder: Path
    source: AnnotatedDataset
    plan: SimulationPlan

    def links_of(self, identifier: str) -> dict[Path, Path]:
        """New path -> the source's file that it is a link to, for everything of a case but its training labels."""
        held_out = identifier in self.plan.held_out
        label = self.source.label_file(identifier)
        images = self.folder / ("imagesTs" if held_out else "imagesTr")
        links = {images / path.name: path for path in self.source.images[identifier]}
        links[self.folder / REFERENCES / label.name] = label
        return {**links, self.folder / "labelsTs" / label.name: label} if held_out else links

    def label_of(self, identifier: str) -> Path:
        """The label map of a training case."""
        return self.folder / "labelsTr" / self.source.label_file(identifier).name

    def drawn_of(self, identifier: str) -> dict[str, Path]:
        """The label maps of a case that simulated annotators drew; those of held-out cases lie where no training looks."""
        parent = self.folder / (TEST_ANNOTATORS_FOLDER if identifier in self.plan.held_out else ANNOTATORS_FOLDER)
        names = self.plan.annotators.names if self.plan.annotators else ()
        return {name: parent / name / self.source.label_file(identifier).name for name in names}

    def files_of(self, identifier: str) -> list[Path]:
        """Every file of a case."""
        own = [] if identifier in self.plan.held_out else [self.label_of(identifier)]
        return [*self.links_of(identifier), *own, *self.drawn_of(identifier).values()]

    @property
    def identifiers(self) -> list[str]:
        """The cases that have files here."""
        return [*(case.identifier for case in self.plan.cases), *self.plan.held_out]

    def faults(self) -> list[str]:
        """Why the dataset cannot be written here."""
        found = same_id_faults(self.folder)
        if not any(path.is_file() and not path.name.startswith(".") for path in self.folder.rglob("*")):
            return found  # not there, empty, or killed before it was claimed
        try:
            request = json.loads(self._request_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return [
                *found,
                f"'{self.folder}' exists and was not made by `nnunet_partial simulate`; choose another id or name, or remove it",
            ]
        if request == self._request:
            return found + self._foreign_files()
        changed = [key for key, value in self._request.items() if request.get(key) != value]
        if changed == ["source_state"]:
            return [*found, f"'{self.folder}' was made before {self.source.folder.name} changed; remove it, or choose another id"]
        return [
            *found,
            f"'{self.folder}' was made with {_said(request, changed)}, not with {_said(self._request, changed)}; "
            "remove it, or choose another id or name",
        ]

    def begin(self) -> None:
        """Claim the folder, and remove half files of a killed run."""
        (self.folder / JOURNAL_FOLDER).mkdir(parents=True, exist_ok=True)
        if not self._request_file.exists():
            write_json(self._request, self._request_file)
        for parent in {path.parent for identifier in self.identifiers for path in self.files_of(identifier)}:
            parent.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("**/.*.tmp*"):
            path.unlink(missing_ok=True)

    def finished(self, identifier: str) -> dict[int, int] | None:
        """Voxels of each label in a finished case's training labels, else None; nothing is counted in a held-out case."""
        try:
            entry = json.loads(self._case_file(identifier).read_text(encoding="utf-8"))
            sizes = {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in self.files_of(identifier)}
        except (OSError, ValueError):
            return None
        return {int(number): count for number, count in entry["label_counts"].items()} if entry["sizes"] == sizes else None

    def finish(self, identifier: str, label_counts: dict[int, int]) -> None:
        """Note that the files of a case are whole."""
        sizes = {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in self.files_of(identifier)}
        write_json({"label_counts": label_counts, "sizes": sizes}, self._case_file(identifier))

    @cached_property
    def _request(self) -> dict[str, Any]:
        """What the content of the folder depends on."""
        paths = [path for files in self.source.images.values() for path in files] + [
            *map(self.source.label_file, self.source.cases)
        ]
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        state = json.dumps([states, self.source.dataset_json, self.source.manifest.model_dump(mode="json")], sort_keys=True)
        return {
            "simulation": SIMULATION_VERSION,
            "source_dataset": self.source.folder.name,
            **self.plan.arguments,
            "held_out": list(self.plan.held_out),
            "source_state": hashlib.sha256(state.encode()).hexdigest(),
        }

    def _foreign_files(self) -> list[str]:
        ours = {path for identifier in self.identifiers for path in self.files_of(identifier)}
        parents = {path.parent for path in ours}
        return [
            f"'{path}' was not made by this simulation; move it away"
            for parent in sorted(parents)
            for path in (sorted(parent.iterdir()) if parent.is_dir() else [])
            if path not in ours and not path.name.startswith(".")
        ]

    @property
    def _request_file(self) -> Path:
        return self.folder / JOURNAL_FOLDER / "request.json"

    def _case_file(self, identifier: str) -> Path:
        return self.folder / JOURNAL_FOLDER / f"case_{identifier}.json"


def write_guard(places: list[SimulationFolder]) -> None:
    """Refuse, before anything is written, all places that cannot be written to.

    Raises:
        ConversionError: ids used twice, folders that are somebody else's; all are listed.
    """
    ids = [place.plan.dataset.id for place in places]
    faults = [
        f"id {number} is asked for twice; give each dataset its own" for number in sorted(set(ids)) if ids.count(number) > 1
    ]
    faults += [fault for place in places for fault in place.faults()]
    if faults:
        raise ConversionError(faults)


def _said(request: dict[str, Any], keys: list[str]) -> str:
    said = ", ".join(f"{key} {request[key]}" for key in keys if key in request and key != "source_state")
    return said or "other arguments"
