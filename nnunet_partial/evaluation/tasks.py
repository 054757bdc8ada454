"""Which prediction is judged against which reference, and by which protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.evaluation.case import ClassKey, judged_keys
from nnunet_partial.evaluation.judge import CaseTask
from nnunet_partial.evaluation.tolerance import Tolerances
from nnunet_partial.labels import Annotation, AnnotationProtocol, LabelSpace

UNLISTED_SOURCE = "unlisted"
FULL_PROTOCOL = "full reference"


@dataclass(frozen=True)
class EvaluationTasks:
    """All pairs of a folder of predictions and a folder of references.

    Attributes:
        cases: One task a pair, by identifier.
        without_prediction: References that have no prediction.
        without_reference: Predictions that have no reference.
        space: The classes and their label ids.
    """

    cases: Sequence[CaseTask]
    without_prediction: Sequence[str]
    without_reference: Sequence[str]
    space: LabelSpace

    @property
    def keys(self) -> list[ClassKey]:
        """Every class of the label space, then every union that some case is judged under."""
        unions = {key for task in self.cases for key in judged_keys(task.protocol, self.space) if isinstance(key, tuple)}
        return [*range(1, self.space.num_classes), *sorted(unions)]


def find_tasks(
    reference_dir: Path | str,
    prediction_dir: Path | str,
    annotation: Annotation,
    file_ending: str = ".nii.gz",
    *,
    full_reference: bool = False,
    allow_missing: bool = True,
    tolerances: Tolerances | None = None,
    probability_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> EvaluationTasks:
    """Pair predictions with references; arguments and errors as in `evaluate_folder`."""
    reference_dir, prediction_dir = Path(reference_dir), Path(prediction_dir)
    references, predictions = _identifiers(reference_dir, file_ending), _identifiers(prediction_dir, file_ending)
    pairs = sorted(references & predictions)
    without_prediction = sorted(references - predictions)
    if not pairs:
        raise ValueError(
            f"no prediction in {prediction_dir} ({len(predictions)} files *{file_ending}) has a reference of the same name "
            f"in {reference_dir} ({len(references)} files)"
        )
    if without_prediction and not allow_missing:
        listed = ", ".join(without_prediction)
        raise ValueError(f"{len(without_prediction)} references have no prediction in {prediction_dir}: {listed}")
    unknown = [identifier for identifier in pairs if identifier not in annotation.cases]
    if unknown and not full_reference:
        raise ValueError(
            f"nobody can tell what was looked for in {len(unknown)} cases that are not in dataset.json['annotation']: "
            f"{', '.join(unknown)}; if every class was, say so (--full-reference)"
        )
    if tolerances is not None:
        tolerances.check(annotation.space)
    probability_files = {identifier: Path(probability_dir or "") / f"{identifier}.npz" for identifier in pairs}
    absent = [path.name for path in probability_files.values() if probability_dir is not None and not path.is_file()]
    if absent:
        raise FileNotFoundError(
            f"{probability_dir} lacks {len(absent)} of {len(pairs)} probability files: {', '.join(absent)}; "
            "predict with nnUNetv2_predict --save_probabilities"
        )
    cases = []
    for identifier in pairs:
        listed_case = annotation.cases.get(identifier)
        cases.append(
            CaseTask(
                identifier=identifier,
                source=listed_case.source if listed_case else UNLISTED_SOURCE,
                protocol_name=FULL_PROTOCOL if full_reference else listed_case.protocol,
                reference_file=reference_dir / f"{identifier}{file_ending}",
                prediction_file=prediction_dir / f"{identifier}{file_ending}",
                protocol=full_protocol(annotation.space) if full_reference else annotation.protocol_of(identifier),
                space=annotation.space,
                tolerances=tolerances,
                probability_file=probability_files[identifier] if probability_dir is not None else None,
                cache_dir=None if cache_dir is None else Path(cache_dir),
            )
        )
    return EvaluationTasks(cases, without_prediction, sorted(predictions - references), annotation.space)


def _identifiers(folder: Path, file_ending: str) -> set[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return {path.name.removesuffix(file_ending) for path in folder.iterdir() if path.name.endswith(file_ending)}


def full_protocol(space: LabelSpace) -> AnnotationProtocol:
    """Every class was looked for, each under its own label id."""
    return AnnotationProtocol(labels={number: (name,) for number, name in enumerate(space.classes, 1)})
