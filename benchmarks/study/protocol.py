"""What the study trains and judges: `study.yaml`, checked before anything runs."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

STUDY = Path(__file__).with_name("study.yaml")


class Entry(BaseModel):
    """A part of the file, as it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lengths(Entry):
    """How long trainings are.

    Attributes:
        epochs: Of a training on human labels; whatever goes on from one lasts a share of it.
        iterations: An epoch.
        half: Convolutions in bfloat16, see `benchmarks.train`.
    """

    epochs: int = Field(30, ge=1)
    iterations: int = Field(32, ge=1)
    half: bool = True

    def share(self, share: float) -> int:
        """A share of the epochs, one at least."""
        return max(1, round(share * self.epochs))


class Dataset(Entry):
    """One nnU-Net dataset: converted from BTCV, or simulated from another.

    Attributes:
        id: nnU-Net's.
        classes: Of BTCV, where it is converted.
        of: The dataset that it is simulated from.
        simulate: Arguments of `nnunet_partial simulate`: missing, annotators, shift_mm, miss, or like with a mix.
        annotated_alone: Train on the cases of which somebody annotated anything; the others are validated only.
    """

    id: int = Field(ge=1, le=999)
    classes: tuple[str, ...] = ()
    of: str = ""
    simulate: dict[str, Any] = {}
    annotated_alone: bool = False


class Rounds(Entry):
    """Pseudo-labels, see `nnunet_partial rounds`.

    Attributes:
        criterion: By which predictions are ranked.
        rounds: How many.
        share: Of the epochs on human labels, in all rounds together.
        confidence_epochs: Of the confidence network, in every round.
        soft: Each pseudo-label counts with its confidence.
    """

    criterion: str
    rounds: int = Field(ge=1)
    share: float = Field(0.225, gt=0)
    confidence_epochs: int = 2
    soft: bool = False


class Method(Entry):
    """One training, or what goes on from one.

    Attributes:
        dataset: Where it is trained; what goes on from another is trained where that is.
        trainer: nnU-Net's name of it; empty for rounds, which take that of what they go on from.
        settings: Of the plans, see `nnunet_partial plan --list-settings`.
        batch: Patches at a time.
        alone_share: First epochs on what is annotated alone, as a share: on fully annotated cases, and without what teaches on
            voxels that the annotation leaves open. In fine-tuning all of them or none.
        after: The method whose network it goes on from.
        tuned_share: Epochs of fine-tuning from `after`, as a share.
        rounds: Pseudo-labels after `after`.
    """

    dataset: str = ""
    trainer: str = ""
    settings: dict[str, Any] = {}
    batch: int = Field(2, ge=1)
    alone_share: float = Field(0, ge=0, le=1)
    after: str = ""
    tuned_share: float = 0
    rounds: Rounds | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Method":
        if bool(self.tuned_share) + (self.rounds is not None) != bool(self.after):
            raise ValueError("what goes on `after` another has either a `tuned_share` or `rounds`; nothing else has these")
        if bool(self.trainer) == (self.rounds is not None):
            raise ValueError("needs a trainer; rounds have that of what they go on from")
        if bool(self.dataset) == bool(self.after):
            raise ValueError("needs a dataset; what goes on after another has that one's")
        return self


class Group(Entry):
    """Methods that stand in one table.

    Attributes:
        title: Above it.
        text: Below the title.
        methods: Shown name -> method; or several methods of a few organs each, which are shown as one.
    """

    title: str
    text: str = ""
    methods: dict[str, str | tuple[str, ...]]


class Part(Entry):
    """Trainings that are judged, shown and compared together.

    In the file it may have `for_each: {name: [values]}`: every method, group and pair in which `{name}` stands is there once for
    each value. A dataset has `for_each` by itself.

    Attributes:
        title: Of its page.
        lengths: Where they differ from the study's.
        methods: Name -> what is trained.
        judged: By labels, or by several annotators' agreement.
        groups: Its tables.
        compared: Pairs of shown names, first and second; differences are second minus first.
    """

    title: str
    lengths: Lengths | None = None
    methods: dict[str, Method]
    judged: Literal["labels", "annotators"] = "labels"
    groups: tuple[Group, ...] = ()
    compared: tuple[tuple[str, str], ...] = ()


class Reduced(Entry):
    """The short version of the study: some methods on some folds, trained as they are in all of it."""

    folds: tuple[int, ...]
    methods: tuple[str, ...]


class Study(Entry):
    """All of it.

    Attributes:
        folds: Of five.
        lengths: Of all trainings, but of parts with lengths of their own.
        datasets: Name -> dataset.
        parts: Name -> part, in the order of the pages.
        reduced: What --reduced runs.
    """

    folds: tuple[int, ...] = (0, 1, 2)
    lengths: Lengths = Lengths()
    datasets: dict[str, Dataset]
    parts: dict[str, Part]
    reduced: Reduced

    @model_validator(mode="after")
    def _names_are_known(self) -> "Study":
        faults = [
            f"dataset '{name}': there is no '{entry.of}'" for name, entry in self.datasets.items() if entry.of not in self._of
        ]
        methods = self.methods
        if len(methods) < sum(len(part.methods) for part in self.parts.values()):
            faults.append("two parts have a method of one name")
        for name, method in methods.items():
            if method.dataset and method.dataset not in self.datasets:
                faults.append(f"method '{name}': there is no dataset '{method.dataset}'")
            if method.after and (method.after not in methods or methods[method.after].after):
                faults.append(f"method '{name}': '{method.after}' is no training on human labels")
        for name, part in self.parts.items():
            shown = [method for group in part.groups for method in group.methods]
            used = [method for group in part.groups for value in group.methods.values() for method in several(value)]
            faults += [f"part '{name}': there is no method '{method}'" for method in used if method not in methods]
            faults += [
                f"part '{name}': '{a}' is compared and not shown" for pair in part.compared for a in pair if a not in shown
            ]
        faults += [f"reduced: there is no method '{name}'" for name in self.reduced.methods if name not in methods]
        needed = {methods[name].after for name in self.reduced.methods if name in methods} - {"", *self.reduced.methods}
        faults += [f"reduced: others go on from '{name}', which is not in it" for name in sorted(needed)]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def _of(self) -> set[str]:
        return {"", *self.datasets}

    @property
    def methods(self) -> dict[str, Method]:
        """All, by name."""
        return {name: method for part in self.parts.values() for name, method in part.methods.items()}

    def lengths_of(self, method: str) -> Lengths:
        """How long a training is."""
        own = next(part.lengths for part in self.parts.values() if method in part.methods)
        return own or self.lengths

    def dataset_of(self, method: str) -> str:
        """Where a method is trained."""
        entry = self.methods[method]
        return self.methods[entry.after].dataset if entry.after else entry.dataset

    def root_of(self, dataset: str) -> str:
        """The dataset with all labels that another is simulated from."""
        entry = self.datasets[dataset]
        return self.root_of(entry.of) if entry.of else dataset

    def lineage(self, dataset: str) -> list[str]:
        """What a dataset is made from, itself last."""
        entry = self.datasets[dataset]
        return [*(self.lineage(entry.of) if entry.of else []), dataset]

    def digest(self, method: str) -> str:
        """Eight letters that differ where a method is trained otherwise, or on other data."""
        entry = self.methods[method]
        what = {
            "method": entry.model_dump(),
            "lengths": self.lengths_of(method).model_dump(),
            "data": [self.datasets[name].model_dump(exclude={"id"}) for name in self.lineage(self.dataset_of(method))],
            "after": self.digest(entry.after) if entry.after else "",
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]

    def shortened(self) -> "Study":
        """The reduced study: its folds and methods alone, each as it was; no table of one method, no part that trains nothing."""
        kept = {*self.reduced.methods}
        parts = {}
        for name, part in self.parts.items():
            methods = {key: method for key, method in part.methods.items() if key in kept}
            if not methods:
                continue
            groups = [group.model_copy(update={"methods": dict(_trained(group, kept))}) for group in part.groups]
            groups = tuple(group for group in groups if len(group.methods) > 1)
            shown = {key for group in groups for key in group.methods}
            compared = tuple(pair for pair in part.compared if shown.issuperset(pair))
            parts[name] = part.model_copy(update={"methods": methods, "groups": groups, "compared": compared})
        return self.model_copy(update={"folds": self.reduced.folds, "parts": parts})


def several(methods: str | Iterable[str]) -> tuple[str, ...]:
    """The methods that are shown under one name."""
    return (methods,) if isinstance(methods, str) else tuple(methods)


def read_study(path: Path = STUDY) -> Study:
    """Read and check the file.

    Raises:
        pydantic.ValidationError: it names a thing that is not there, or has an entry that nobody knows.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"] = dict(_expanded(content["datasets"]))
    for part in content["parts"].values():
        values = part.pop("for_each", {})
        part["methods"] = dict(_expanded(part["methods"], values))
        for key in ("groups", "compared"):
            part[key] = [copy for entry in part.get(key, []) for copy in _copies(entry, values)]
    return Study.model_validate(content)


def _expanded(entries: Mapping[str, Any], values: Mapping[str, list] | None = None) -> Iterator[tuple[str, Any]]:
    """Entries, those with `for_each` (their own, or `values`) once for every value."""
    for name, entry in entries.items():
        entry = dict(entry)
        own = entry.pop("for_each", values or {}) if "{" in name else {}
        for copy in _copies({"name": name, "entry": entry}, own):
            yield copy["name"], copy["entry"]


def _copies(entry: Any, values: Mapping[str, list]) -> list[Any]:
    """An entry once for every value, or as it is where it names none."""
    if not any("{" + key + "}" in json.dumps(entry) for key in values):
        return [entry]
    (key, found) = next(iter(values.items()))
    return [_filled(entry, key, value) for value in found]


def _filled(entry: Any, key: str, value: Any) -> Any:
    """An entry with `{key}` replaced in all its strings; a string that is nothing else becomes the value itself."""
    if isinstance(entry, dict):
        return {_filled(name, key, value): _filled(of, key, value) for name, of in entry.items()}
    if isinstance(entry, list):
        return [_filled(of, key, value) for of in entry]
    if isinstance(entry, str):
        return value if entry == f"{{{key}}}" else entry.replace(f"{{{key}}}", str(value))
    return entry


def _trained(group: Group, kept: set[str]) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    for shown, methods in group.methods.items():
        if kept.issuperset(several(methods)):
            yield shown, methods
