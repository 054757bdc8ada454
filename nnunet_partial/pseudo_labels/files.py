"""Where a run of pseudo-label rounds keeps its files.

Networks, curves and the audit lie in the results, beside the fold's model; label maps lie beside the preprocessed cases, in a
folder of their own, because nnU-Net empties a configuration's folder when it preprocesses again.
"""

from dataclasses import dataclass
from pathlib import Path

RESULTS_FOLDER = "rounds"
PREPROCESSED_FOLDER = "pseudo_labels"


@dataclass(frozen=True)
class RoundFiles:
    """The files of one round of a run.

    Attributes:
        results: <results>/<dataset>/<trainer>__<plans>__<configuration>/fold_<f>/rounds/<name>/round_<t>.
        preprocessed: <preprocessed>/<dataset>/pseudo_labels/<trainer>__<plans>__<configuration>/fold_<f>/<name>/round_<t>.
    """

    results: Path
    preprocessed: Path

    @property
    def confidence(self) -> Path:
        """Folder of the confidence network that ranked this round's predictions."""
        return self.results / "confidence"

    @property
    def training(self) -> Path:
        """Folder that nnU-Net's trainer writes while it learns from this round's labels."""
        return self.results / "training"

    @property
    def checkpoint(self) -> Path:
        """The network after this round."""
        return self.training / "checkpoint_final.pth"

    @property
    def labels(self) -> Path:
        """Label maps with the pseudo-labels in them, <case>_seg.b2nd, and their properties, <case>.pkl."""
        return self.preprocessed / "labels"

    @property
    def soft_labels(self) -> Path:
        """The same files, pseudo-labels with their confidence in the id (`targets.confident_labels`); there only if asked for."""
        return self.preprocessed / "soft_labels"

    def prediction_of(self, case: str) -> Path:
        """(1, *S) int16, the id of an unannotated class where it is predicted and no human label stands, else 0."""
        return self.preprocessed / "predictions" / f"{case}.b2nd"

    def score_of(self, case: str) -> Path:
        """(1, *S) float32, log-odds of the criterion where `prediction_of` is not 0, else 0; sigmoid makes it a confidence."""
        return self.preprocessed / "scores" / f"{case}.b2nd"

    def labels_of(self, case: str) -> Path:
        """(1, *S) int16, human labels and pseudo-labels; there only where the case has pseudo-labels."""
        return self.labels / f"{case}_seg.b2nd"

    def soft_labels_of(self, case: str) -> Path:
        """The same with confidences."""
        return self.soft_labels / f"{case}_seg.b2nd"

    def record_of(self, case: str) -> Path:
        """JSON; what was done with the case. Written last: a case without it is done again."""
        return self.preprocessed / "cases" / f"{case}.json"


@dataclass(frozen=True)
class RunFiles:
    """The files of one run of rounds: a name, a fold, a trainer.

    Attributes:
        fold: The fold's folder in the results: <results>/<dataset>/<trainer>__<plans>__<configuration>/fold_<f>.
        dataset: <preprocessed>/<dataset>.
        name: The run's name.
    """

    fold: Path
    dataset: Path
    name: str

    @property
    def results(self) -> Path:
        """Networks, curves, audit."""
        return self.fold / RESULTS_FOLDER / self.name

    @property
    def preprocessed(self) -> Path:
        """Label maps."""
        return self.dataset / PREPROCESSED_FOLDER / self.fold.parent.name / self.fold.name / self.name

    @property
    def description(self) -> Path:
        """JSON; what was asked for and what it was made from."""
        return self.results / "rounds.json"

    def round(self, number: int) -> RoundFiles:
        """The files of a round, counted from 1."""
        return RoundFiles(self.results / f"round_{number}", self.preprocessed / f"round_{number}")

    def checkpoint(self, number: int) -> Path:
        """The network after a round; round 0 is the training on human labels alone."""
        return self.round(number).checkpoint if number else self.fold / "checkpoint_final.pth"

    def offered_checkpoint(self, number: int) -> Path:
        """The same where `nnUNetv2_predict -chk` finds it."""
        return self.fold / f"checkpoint_{self.name}_round_{number}.pth"

    def validation(self, number: int) -> Path:
        """The predictions of the fold's validation cases after a round."""
        return (self.round(number).training if number else self.fold) / "validation"
