"""What a round did with one case: its record, and where there is a reference, which of its pseudo-labels are right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from nnunet_partial.evaluation.calibration import ranking_counts
from nnunet_partial.labels import Annotation, LabelError, first_of
from nnunet_partial.labels.annotation import validation_faults
from nnunet_partial.pseudo_labels.files import RoundFiles
from nnunet_partial.pseudo_labels.references import ReferenceMaps
from nnunet_partial.pseudo_labels.selection import ClassSelection
from nnunet_partial.training.arrays import open_array


class CaseRecord(BaseModel):
    """What a round noted of a case, in the file `RoundFiles.record_of`."""

    model_config = ConfigDict(frozen=True)

    identifier: str
    dropped: bool
    changed_fraction: float | None
    classes: dict[str, ClassSelection]


@dataclass(frozen=True)
class ClassTruth:
    """The pseudo-labels of one class in one case against its reference, in voxels.

    Attributes:
        correct: Pseudo-labels that are right.
        total: Pseudo-labels.
        reference: Voxels of the class.
    """

    correct: int
    total: int
    reference: int


@dataclass(frozen=True)
class CaseAudit:
    """A case, for each class that nobody looked for in it.

    Attributes:
        record: What the round noted.
        source: Source dataset of the case.
        selections: Class -> what was selected of it.
        truths: Class -> what the reference says of it; without a class that it does not tell apart, empty without a reference.
        rankings: Of the same classes: class -> (2, NUM_SCORE_RANKS) candidates wrong and right, by score.
    """

    record: CaseRecord
    source: str
    selections: Mapping[str, ClassSelection]
    truths: Mapping[str, ClassTruth] = field(default_factory=dict)
    rankings: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseAuditor:
    """Audits the cases of one round.

    Attributes:
        files: Of the round.
        previous: Of the round before; None in the first.
        annotation: Label space, protocols and cases.
        human_folder: nnU-Net's preprocessed cases.
        references: Untouched label maps, or None.
    """

    files: RoundFiles
    previous: RoundFiles | None
    annotation: Annotation
    human_folder: Path
    references: ReferenceMaps | None

    def records(self, cases: Sequence[str]) -> list[CaseRecord]:
        """What the round noted of these cases.

        Raises:
            FileNotFoundError: cases have no record.
            LabelError: records that are none, or that contradict the annotation; every fault is listed.
        """
        folder = self.files.record_of("").parent
        missing = [case for case in cases if not self.files.record_of(case).exists()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(cases)} cases have no record in {folder} ({first_of(missing)}); "
                "let the round finish before it is audited"
            )
        found, faults = [], []
        for case in cases:
            try:
                found.append(CaseRecord.model_validate_json(self.files.record_of(case).read_text(encoding="utf-8")))
                faults += self._strange_classes(found[-1])
            except ValidationError as error:
                faults += [f"case '{case}': {fault}" for fault in validation_faults(error)]
        if faults:
            raise LabelError([f"{fault}; remove the record and run the round again" for fault in faults], where=str(folder))
        return found

    def audit(self, record: CaseRecord) -> CaseAudit:
        """Audit a case.

        Raises:
            FileNotFoundError: a file of the case is missing.
            LabelError: the case's label map holds other pseudo-labels than its record says.
            ValueError: a file lies on other voxels than the reference, or scores are NaN.
        """
        case, nothing = record.identifier, ClassSelection(predicted=0, already=0, added=0, total=0, threshold=None)
        source = self.annotation.cases[case].source
        selections = {name: record.classes.get(name, nothing) for name in self._unannotated(case)}
        if self.references is None:
            return CaseAudit(record, source, selections)
        reference = self.references.load(case)
        shown = [name for name in selections if self.references.shows(case, name)]
        truths = self._truths(case, shown, reference)
        for name, truth in truths.items():
            if truth.total != selections[name].total:
                raise LabelError(
                    f"case '{case}': its label map holds {truth.total} pseudo-labels of {name}, its record says "
                    f"{selections[name].total}; remove the record and run the round again",
                    where=str(self.files.preprocessed),
                )
        return CaseAudit(record, source, selections, truths, {} if record.dropped else self._rankings(case, shown, reference))

    def _truths(self, case: str, names: Sequence[str], reference: np.ndarray) -> dict[str, ClassTruth]:
        """Pseudo-labels so far against the reference (1, *S)."""
        pseudo, right = np.zeros(0, dtype=np.int16), np.zeros(0, dtype=bool)
        if self.files.labels_of(case).exists():
            labels = _read(self.files.labels_of(case), reference)
            where = (labels > 0) & (_read(self.human_folder / f"{case}_seg.b2nd", reference) <= 0)
            pseudo, right = labels[where], (reference == labels)[where]
        voxels = (pseudo[right], pseudo, reference[reference > 0])
        counts = np.stack([np.bincount(ids, minlength=2**15) for ids in voxels])
        return {name: ClassTruth(*map(int, counts[:, self.annotation.space.id_of(name)])) for name in names}

    def _rankings(self, case: str, names: Sequence[str], reference: np.ndarray) -> dict[str, np.ndarray]:
        """Candidates by score: predicted, and not labelled by an earlier round."""
        prediction = _read(self.files.prediction_of(case), reference)
        candidates = prediction > 0
        if self.previous is not None and self.previous.labels_of(case).exists():
            candidates &= _read(self.previous.labels_of(case), reference) <= 0  # predictions stand where no human label does
        scores, predicted = _read(self.files.score_of(case), reference)[candidates], prediction[candidates]
        right = (reference == prediction)[candidates]
        found = {}
        for name in names:
            own = predicted == self.annotation.space.id_of(name)
            try:
                found[name] = ranking_counts(scores[own], right[own])
            except ValueError as error:
                raise ValueError(f"{self.files.score_of(case)}: {name}: {error}; run the round again for this case") from None
        return found

    def _unannotated(self, case: str) -> list[str]:
        looked_for = self.annotation.protocol_of(case).annotated_classes
        return [name for name in self.annotation.space.classes if name not in looked_for]

    def _strange_classes(self, record: CaseRecord) -> list[str]:
        strange = sorted(set(record.classes) - set(self._unannotated(record.identifier)))
        listed = ", ".join(strange)
        return [f"case '{record.identifier}': {listed}: looked for in this case, or no class of the dataset"] if strange else []


def _read(file: Path, reference: np.ndarray) -> np.ndarray:
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist, though the round has a record of the case; run the round again")
    array = open_array(file)[:]
    if array.shape != reference.shape:
        raise ValueError(
            f"{file} has shape {array.shape}, the preprocessed reference of its case {reference.shape}; "
            "the dataset was preprocessed again after the round: make the rounds again"
        )
    return array
