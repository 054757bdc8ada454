"""What a run was made from, so that a rerun on something else is refused in words and not mixed in silently."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nnunet_partial import __version__
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.pseudo_labels.files import RoundFiles, RunFiles
from nnunet_partial.pseudo_labels.request import RoundsRequest

MADE_FROM = "made_from.json"


def claim_run(run: RunFiles, request: RoundsRequest, annotation: Annotation, plans: dict[str, Any], cases: Sequence[str]) -> None:
    """Write what the run is and is made from, or hold it against what an earlier call wrote.

    Raises:
        ValueError: the run was begun with other arguments, labels, plans or cases; all differences are named.
    """
    made_from = {
        "annotation": _digest(annotation.as_json()),
        "classes": list(annotation.space.classes),
        "plans": _digest(plan_of(plans, request.configuration)),
        "training_cases": _digest(sorted(cases)),
    }
    if not run.description.exists():
        run.results.mkdir(parents=True, exist_ok=True)
        versions = {"nnunet_partial": __version__, **{name: version(name) for name in ("nnunetv2", "torch")}}
        write_json({"arguments": request.model_dump(mode="json"), "made_from": made_from, "versions": versions}, run.description)
        return
    known = json.loads(run.description.read_text(encoding="utf-8"))
    faults = request.differences(known["arguments"])
    said = {
        "annotation": "the annotation in dataset.json (protocols, or who annotated what) has changed",
        "classes": "the label space has changed",
        "plans": "the plans have changed (network, patch or spacing)",
        "training_cases": "the fold's training cases have changed (splits_final.json, or cases were added)",
    }
    faults += [said[key] for key, value in made_from.items() if known["made_from"].get(key) != value]
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise ValueError(
            f"run '{request.name}' was begun otherwise:{listed}\ngive this one another --name, or remove {run.results} "
            f"and {run.preprocessed} to begin again"
        )


def claim_round(files: RoundFiles, number: int, parent: Path) -> None:
    """Note which network a round was made from, or refuse when it is another one now.

    Raises:
        ValueError: the round was made from other weights than the parent has.
    """
    digest = _file_digest(parent)
    note = files.results / MADE_FROM
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json({"parent": digest}, note)
    elif json.loads(note.read_text(encoding="utf-8"))["parent"] != digest:
        raise ValueError(
            f"round {number} was made from another network than {parent} is now (trained again?); remove {files.results} and "
            f"{files.preprocessed}, and those of later rounds, to make them again"
        )


def refuse_orphans(run: RunFiles, rounds: int) -> None:
    """Refuse a run in which a round is there but the network it was made from is not.

    Raises:
        FileNotFoundError: the parent of a round is missing.
    """
    for number in range(1, rounds + 1):
        if run.round(number).results.exists() and not run.checkpoint(number - 1).exists():
            raise FileNotFoundError(
                f"round {number} is there, but the network it was made from is missing: {run.checkpoint(number - 1)}; put it "
                f"back, or remove {run.round(number).results} and {run.round(number).preprocessed} (and later rounds)"
            )


def refuse_other_plan(checkpoint: Path, plans: dict[str, Any], configuration: str) -> None:
    """Refuse to go on from a network that was trained by other plans.

    Raises:
        ValueError: network, patch, spacing or intensities differ.
    """
    known = torch.load(checkpoint, map_location="cpu", weights_only=False)["init_args"]["plans"]
    trained, asked = plan_of(known, configuration), plan_of(plans, configuration)
    if trained != asked:
        different = [key for key in asked if trained.get(key) != asked[key]]
        raise ValueError(
            f"{checkpoint} was trained by other plans ({', '.join(different)} differ); train the fold again, or name the plans "
            "it was trained by with -p"
        )


def plan_of(plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """What of the plans a network and its predictions depend on; lengths and weights of training are not in it."""
    own, names = {}, [configuration]
    while (inherits := plans["configurations"].get(names[-1], {}).get("inherits_from")) is not None:
        names.append(inherits)
    for name in reversed(names):
        own |= plans["configurations"].get(name, {})
    keys = ("spacing", "patch_size", "architecture", "normalization_schemes", "data_identifier")
    found = {key: own.get(key) for key in keys}
    found |= {key: plans.get(key) for key in ("transpose_forward", "foreground_intensity_properties_per_channel")}
    return json.loads(json.dumps(found, default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _digest(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True, default=_plain).encode(), digest_size=16).hexdigest()


def _file_digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Any) -> Iterable[bytes]:
    return iter(lambda: file.read(2**20), b"")
