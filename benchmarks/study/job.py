"""One method on one fold: what trains it, and where its predictions lie."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study.layout import folder_name, plans_name
from benchmarks.study.protocol import Method, Study
from benchmarks.trainings import CONFIGURATION, Job, single_threaded, train_command
from nnunet_partial.labels import write_json
from nnunet_partial.pseudo_labels.files import RunFiles


@dataclass(frozen=True)
class StudyJob(Job):
    """One method on one fold.

    Attributes:
        study: What all is about.
        method: Its name there.
        fold: Of five.
        probabilities: Keep those of the validation cases.
    """

    study: Study
    method: str
    fold: int
    probabilities: bool = False

    @property
    def name(self) -> str:
        """As it stands in logs."""
        return f"{self.method}_fold{self.fold}"

    @property
    def after(self) -> str:
        """Name of the job that this one goes on from, or nothing."""
        return self.parent.name if self.entry.after else ""

    @property
    def run(self) -> dict[str, str | int]:
        """By which its figures are known: the method, its digest and the fold."""
        return {"method": self.method, "digest": self.study.digest(self.method), "fold": self.fold}

    @property
    def entry(self) -> Method:
        """What the study says of the method."""
        return self.study.methods[self.method]

    @property
    def dataset(self) -> str:
        """nnU-Net's name of the dataset that it is trained on."""
        return folder_name(self.study, self.study.dataset_of(self.method))

    @property
    def model(self) -> list[str]:
        """Arguments of a command that name the model; of rounds, the one they go on from."""
        if self.entry.rounds:
            return self.parent.model
        names = ["-tr", self.entry.trainer, "-p", plans_name(self.method)]
        return ["-d", self.dataset, "-c", CONFIGURATION, "-f", str(self.fold), *names]

    @property
    def parent(self) -> "StudyJob | None":
        """What this one goes on from."""
        return StudyJob(self.study, self.entry.after, self.fold) if self.entry.after else None

    @property
    def rounds(self) -> int:
        """How many rounds of pseudo-labels."""
        return self.entry.rounds.rounds if self.entry.rounds else 0

    def training(self, out: Path) -> Path:
        """The folder of the training on human labels: its own, or for rounds the one they go on from."""
        if self.entry.rounds:
            return self.parent.training(out)
        model = f"{self.entry.trainer}__{plans_name(self.method)}__{CONFIGURATION}"
        return out / "nnUNet_results" / self.dataset / model / f"fold_{self.fold}"

    def files(self, out: Path) -> RunFiles:
        """Where rounds keep theirs; round 0 is the training."""
        return RunFiles(self.training(out), out / "nnUNet_preprocessed" / self.dataset, self.method)

    def validation(self, out: Path, number: int | None = None) -> Path:
        """The predictions of the fold's validation cases, after the last round or another."""
        return self.files(out).validation(self.rounds if number is None else number)

    def is_done(self, out: Path) -> bool:
        """Whether the last predictions are there.

        Raises:
            SystemExit: they are another study's.
        """
        if not (self.validation(out) / "summary.json").exists():
            return False
        self._refuse_another(out)
        return True

    def command(self, out: Path) -> list[str]:
        """What does the job, or what is left of it."""
        self._refuse_another(out)
        command = self._rounds() if self.entry.rounds else self._train(out, self.training(out))
        return single_threaded(command, half=self.study.lengths_of(self.method).half)

    def note_seconds(self, out: Path, seconds: float) -> None:
        """Add to the time that the job has taken so far."""
        self._notes(out).parent.mkdir(exist_ok=True)
        write_json({"digest": self.study.digest(self.method), "seconds": self.seconds(out) + seconds}, self._notes(out))

    def seconds(self, out: Path) -> float:
        """Wall time, of all its runs."""
        return self._read_notes(out).get("seconds", 0.0)

    def _train(self, out: Path, folder: Path) -> Sequence[str]:
        further = ["--npz"] if self.probabilities else []
        trainer, dataset = self.entry.trainer, self.dataset
        if self.entry.tuned_share:
            initial = self.parent.training(out) / "checkpoint_final.pth"
            epochs = self.study.lengths_of(self.method).share(self.entry.tuned_share)
            where = [dataset, str(self.fold), trainer, str(initial), str(folder), "--plans", plans_name(self.method)]
            alone = ["--alone"] if self.entry.alone_share else []
            return ["fine_tune", *where, "--epochs", str(epochs), *alone, *further]
        return [*train_command(dataset, self.fold, trainer, folder, plans=plans_name(self.method)), *further]

    def _rounds(self) -> Sequence[str]:
        rounds = self.entry.rounds
        epochs = max(1, round(self.study.lengths_of(self.method).epochs * rounds.share / rounds.rounds))
        how = ["--name", self.method, "--criterion", rounds.criterion, "--rounds", str(rounds.rounds), "--epochs", str(epochs)]
        if rounds.criterion == "confidence":
            how += ["--confidence-epochs", str(rounds.confidence_epochs)]
        if rounds.soft:
            how += ["--soft"]
        return ["nnunet_partial", "rounds", *self.model, *how, "--disable_tta", "-device", "cpu"]

    def _notes(self, out: Path) -> Path:
        return out / "jobs" / f"{self.name}.json"

    def _read_notes(self, out: Path) -> dict:
        file = self._notes(out)
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def _refuse_another(self, out: Path) -> None:
        digest = self.study.digest(self.method)
        if self._read_notes(out).get("digest", digest) != digest:
            raise SystemExit(
                f"{out} holds {self.name} as another study had it (other lengths, settings or data); take another --out, or "
                f"delete {self.validation(out).parent} and {self._notes(out)}"
            )


def in_order(jobs: Sequence[StudyJob]) -> list[StudyJob]:
    """Fold by fold, so that what is there can be compared; what others go on from first."""
    return sorted(jobs, key=lambda job: (job.fold, bool(job.entry.after)))
