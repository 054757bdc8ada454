"""Rounds of pseudo-labels: train, train the confidence network, relabel, train on (Petit et al. 2021, algorithm 2).

Every step leaves files that say that it is done; a run that is called again does what is not done yet. Several processes may
share the relabelling: part 0 trains, and all of them relabel their share of the cases as soon as a round's network is there.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from nnunet_partial.evaluation import evaluate_folder
from nnunet_partial.labels import Annotation, first_of
from nnunet_partial.paths import nnunet_folder
from nnunet_partial.pseudo_labels.audit import AuditRow, audit_round, read_audit, write_audit
from nnunet_partial.pseudo_labels.confidence_training import FINAL, ConfidenceSettings, train_confidence
from nnunet_partial.pseudo_labels.criteria import make_ranking
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.pseudo_labels.provenance import claim_round, claim_run, refuse_orphans, refuse_other_plan
from nnunet_partial.pseudo_labels.references import ReferenceMaps
from nnunet_partial.pseudo_labels.relabel import Relabeller, unannotated_ids
from nnunet_partial.pseudo_labels.request import RoundsRequest
from nnunet_partial.pseudo_labels.sliding_window import SlidingWindow
from nnunet_partial.pseudo_labels.stages import (
    fine_tune,
    make_trainer,
    mirror_axes,
    planned,
    ranking_trainer,
    train_first,
    training_cases,
)
from nnunet_partial.report.audit_figure import draw_audit
from nnunet_partial.training.planned_trainer import PlannedTrainer
from nnunet_partial.training.splits import unannotated_anywhere

POLL_SECONDS = 5.0


@dataclass(frozen=True)
class Part:
    """Which share of the cases a process relabels."""

    number: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            raise ValueError(f"-part_id {self.number} of -num_parts {self.of} does not exist; parts are counted from 0")


def run_files(request: RoundsRequest) -> RunFiles:
    """Where a run keeps its files."""
    model = f"{request.trainer}__{request.plans}__{request.configuration}"
    return RunFiles(
        fold=nnunet_folder("nnUNet_results") / request.dataset / model / f"fold_{request.fold}",
        dataset=nnunet_folder("nnUNet_preprocessed") / request.dataset,
        name=request.name,
    )


class Rounds:
    """A run of rounds on one fold.

    Args:
        request: What is asked for.
        device: Where networks are trained and predict.
        part: The share of the relabelling that this process takes; part 0 also trains.

    Raises:
        FileNotFoundError: the dataset is not planned, or the network that a round was made from is missing.
        ValueError: a class that nobody annotated, nothing to relabel, other plans, labels or arguments than it was begun with.
        NotImplementedError: the trainer or configuration cannot be relabelled.
    """

    def __init__(self, request: RoundsRequest, *, device: torch.device, part: Part | None = None):
        self.request, self.device, self.part = request, device, part or Part()
        self.run = run_files(request)
        dataset_json, plans = planned(self.run.dataset, request.plans)
        self.annotation = Annotation.from_dataset_json(dataset_json)
        self.file_ending = dataset_json["file_ending"]
        trainer = make_trainer(request, device)
        self.human = Path(trainer.preprocessed_dataset_folder)
        self.plans_manager, self.configuration_manager = trainer.plans_manager, trainer.configuration_manager
        cases = training_cases(trainer)
        Path(trainer.log_file).unlink(missing_ok=True)  # it was made to look at the split
        self._refuse_pointless(cases)
        self.cases = [case for case in cases if request.relabels and unannotated_ids(self.annotation, case)]
        refuse_orphans(self.run, request.rounds)
        if self.run.checkpoint(0).exists():
            refuse_other_plan(self.run.checkpoint(0), plans, request.configuration)
        if self.part.number:
            self._wait(self.run.description.exists, "part 0 to begin the run")
        claim_run(self.run, request, self.annotation, plans, cases)
        references = ReferenceMaps(
            nnunet_folder("nnUNet_raw") / request.dataset, self.run.dataset, self.plans_manager, self.configuration_manager
        )
        self.references = references if references.available else None

    def execute(self) -> list[AuditRow]:
        """Do what is not done yet; returns the audit of all rounds (of part 0; the others audit nothing)."""
        if self.part.number:
            for number in range(1, self.request.rounds + 1):
                self._relabel(number)
            return []
        self._say(
            "training on human labels" if not self.run.checkpoint(0).exists() else f"going on from {self.run.checkpoint(0)}"
        )
        train_first(self.run, self.request, self.device)
        rows = self._audit(0)
        for number in range(1, self.request.rounds + 1):
            files = self.run.round(number)
            claim_round(files, number, self.run.checkpoint(number - 1))
            if self.request.relabels:
                self._relabel(number)
            self._say(f"round {number}/{self.request.rounds}: training on {len(self._labelled(number))} relabelled cases")
            fine_tune(self.run, self.request, number, self.device)
            rows += self._audit(number)
            self._publish(rows)
        return rows

    def relabel_only(self) -> list[AuditRow]:
        """Do the first round's relabelling and nothing that learns from it, as `execute` would; `execute` goes on from there.

        Returns:
            The audit so far (of part 0; the others audit nothing).

        Raises:
            ValueError: the criterion relabels nothing.
        """
        if not self.request.relabels:
            raise ValueError(f"criterion '{self.request.criterion}' relabels nothing; let the rounds run")
        if self.part.number:
            self._relabel(1)
            return []
        train_first(self.run, self.request, self.device)
        claim_round(self.run.round(1), 1, self.run.checkpoint(0))
        self._relabel(1)
        if self.run.checkpoint(1).exists():  # the rounds have gone on, and their audit says more
            return read_audit(self.run)
        rows = [*self._audit(0), *self._audit_labels(1)]
        self._publish(rows)
        return rows

    def _relabel(self, number: int) -> None:
        """Relabel this part's cases of a round; part 0 trains the network that ranks first and waits for the other parts."""
        files = self.run.round(number)
        todo = [case for case in self.cases[self.part.number :: self.part.of] if not files.record_of(case).exists()]
        learned = self.request.learns
        if not todo and (self.part.number or not learned or (files.confidence / FINAL).exists()):
            self._wait_for_cases(number)
            return
        if self.part.number:
            ready = files.confidence / FINAL if learned else self.run.checkpoint(number - 1)
            self._wait(ready.exists, f"round {number}: part 0 to finish training")
        trainer = ranking_trainer(self.run, self.request, number, self.device)
        if learned and not self.part.number:
            self._say(f"round {number}/{self.request.rounds}: training the network that ranks")
            train_confidence(trainer, ConfidenceSettings.of(self.request), files.confidence)
        if self.part.of == 1:
            for leftover in files.preprocessed.glob("*/.*.tmp*"):  # half files of a killed run; other parts may be writing theirs
                leftover.unlink()
        relabeller = self._relabeller(trainer, number)
        share = f", part {self.part.number} of {self.part.of}" if self.part.of > 1 else ""
        for case in tqdm(todo, desc=f"round {number}/{self.request.rounds}: relabelling{share}", unit="case"):
            relabeller.relabel(case)
        self._wait_for_cases(number)

    def _relabeller(self, trainer: PlannedTrainer, number: int) -> Relabeller:
        files, axes = self.run.round(number), mirror_axes(self.run.checkpoint(number - 1))
        trainer.set_deep_supervision_enabled(False)
        window = SlidingWindow(
            self.configuration_manager.patch_size,
            mirror_axes=axes if self.request.mirroring else (),
            step_size=self.request.step_size,
            device=trainer.device,
        )
        return Relabeller(
            annotation=self.annotation,
            human=self.human,
            files=files,
            previous=self.run.round(number - 1) if number > 1 else None,
            segmentation=trainer.network.eval(),
            log_odds=trainer.log_odds,
            ranking=make_ranking(self.request, trainer, files.confidence, window, axes),
            window=window,
            fraction=self.request.fraction(number),
            max_changed=self.request.max_changed,
            soft=self.request.soft,
        )

    def _audit(self, number: int) -> list[AuditRow]:
        known = self.run.results / "audit.json"
        if known.exists() and known.stat().st_mtime > self.run.checkpoint(number).stat().st_mtime:
            rows = [row for row in read_audit(self.run) if row.round == number]
            if rows:
                return rows
        return self._audit_labels(number, self._dice(number))

    def _audit_labels(self, number: int, dice: dict[str, float] | None = None) -> list[AuditRow]:
        return audit_round(self.run.round(number), number, self.annotation, self.human, self.references, self.cases, dice)

    def _dice(self, number: int) -> dict[str, float]:
        """Dice of each class over the fold's validation cases; over all that the untouched labels show where they are there."""
        predictions = self.run.validation(number)
        if self.request.fold == "all":
            return {}
        folder = self.references.folder if self.references else self.run.dataset / "gt_segmentations"
        shown = self.references.annotation if self.references else None  # references that are not full say what they show
        is_full = self.references is not None and shown is None
        summary = evaluate_folder(folder, predictions, shown or self.annotation, self.file_ending, full_reference=is_full)
        return {name: summary["mean"][number]["Dice"] for number, name in enumerate(self.annotation.space.classes, 1)}

    def _publish(self, rows: list[AuditRow]) -> None:
        write_audit(self.run, rows)
        draw_audit([row.as_dict() for row in rows], self.run.results / "audit.png")

    def _labelled(self, number: int) -> list[Path]:
        return sorted(self.run.round(number).labels.glob("*.pkl"))

    def _refuse_pointless(self, cases: list[str]) -> None:
        untaught = unannotated_anywhere(self.annotation, cases)
        if untaught:
            raise ValueError(
                f"in the training cases of fold {self.request.fold} nobody looked for {', '.join(untaught)}: nothing could learn "
                "to find it; leave the class out of the label space, add a source, or mend splits_final.json"
            )
        if self.request.relabels and not any(unannotated_ids(self.annotation, case) for case in cases):
            raise ValueError(
                f"every class was looked for in all {len(cases)} training cases of fold {self.request.fold}: there is nothing to "
                "relabel; train it with nnUNetv2_train alone"
            )

    def _wait_for_cases(self, number: int) -> None:
        if self.part.number or self.part.of == 1:
            return
        files = self.run.round(number)

        def missing() -> list[str]:
            return [case for case in self.cases if not files.record_of(case).exists()]

        self._wait(lambda: not missing(), f"round {number}: the other parts to relabel {first_of(missing())}")

    def _wait(self, is_done: object, what: str) -> None:
        if not is_done():
            self._say(f"waiting for {what}")
        while not is_done():
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _say(text: str) -> None:
        print(text, flush=True)


def read_request(run: RunFiles) -> RoundsRequest:
    """What a run was begun with.

    Raises:
        FileNotFoundError: there is no such run; those that are there are named.
    """
    if not run.description.exists():
        others = sorted(path.parent.name for path in run.results.parent.glob("*/rounds.json"))
        there = f"there are {', '.join(others)}" if others else "there is none"
        raise FileNotFoundError(f"no run '{run.name}' in {run.results.parent} ({there}); begin it with `nnunet_partial rounds`")
    return RoundsRequest.model_validate(json.loads(run.description.read_text(encoding="utf-8"))["arguments"])
