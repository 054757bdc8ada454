"""Which cases several annotators drew, with their files; all that is wrong with these is found before the long work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.evaluation.annotators.case import AgreementTask
from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.label_maps import Geometry, geometry_faults, read_geometry
from nnunet_partial.evaluation.probabilities import probability_faults
from nnunet_partial.evaluation.tasks import full_protocol
from nnunet_partial.labels import Annotation, AnnotationProtocol, LabelError, LabelSpace


@dataclass(frozen=True)
class AgreementTasks:
    """The cases to be measured.

    Attributes:
        cases: By identifier.
        with_one_map: Cases of the dataset of which there is one label map only.
        without_prediction: Cases of several annotators that have no prediction and are left out.
        not_of_annotators: Predictions of anything else.
        space: The classes and their label ids.
    """

    cases: Sequence[AgreementTask]
    with_one_map: Sequence[str]
    without_prediction: Sequence[str]
    not_of_annotators: Sequence[str]
    space: LabelSpace

    @property
    def keys(self) -> list[ClassKey]:
        """Every class of the label space, then every union that some case is judged under."""
        unions = {key for task in self.cases for key in task.keys if isinstance(key, tuple)}
        return [*range(1, self.space.num_classes), *sorted(unions)]


def find_agreement_tasks(
    annotators_dir: Path | str,
    annotation: Annotation,
    file_ending: str = ".nii.gz",
    *,
    prediction_dir: Path | str | None = None,
    full_reference: bool = False,
    allow_missing: bool = False,
    surfaces: bool = True,
    variance_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> AgreementTasks:
    """Find the files of every case that has annotators; arguments and errors as in `annotator_agreement`."""
    annotators_dir = Path(annotators_dir)
    if not annotators_dir.is_dir():
        raise FileNotFoundError(f"there is no folder {annotators_dir} with the annotators' label maps; convert the dataset again")
    if full_reference:
        drawn_by = _by_folder(annotators_dir, annotation.space, file_ending)
    else:
        drawn_by = _by_dataset(annotation)
    predicted = set() if prediction_dir is None else _identifiers(Path(prediction_dir), file_ending)
    without = [] if prediction_dir is None else [identifier for identifier in drawn_by if identifier not in predicted]
    if prediction_dir is not None and len(without) == len(drawn_by):
        raise ValueError(
            f"{prediction_dir} ({len(predicted)} files *{file_ending}) has no prediction of any of the {len(drawn_by)} cases "
            f"that several annotators drew, such as {next(iter(drawn_by))}{file_ending}"
        )
    cases = [
        AgreementTask(
            identifier=identifier,
            label_files={annotator: annotators_dir / annotator / f"{identifier}{file_ending}" for annotator in protocols},
            protocols=protocols,
            space=annotation.space,
            prediction_file=None if prediction_dir is None else Path(prediction_dir) / f"{identifier}{file_ending}",
            probability_file=None if prediction_dir is None else Path(prediction_dir) / f"{identifier}.npz",
            surfaces=surfaces,
            variance_dir=None if variance_dir is None else Path(variance_dir),
            cache_dir=None if cache_dir is None else Path(cache_dir),
        )
        for identifier, protocols in drawn_by.items()
        if identifier not in without
    ]
    faults = [] if allow_missing else [f"case '{identifier}' has no prediction in {prediction_dir}" for identifier in without]
    faults += [f"case '{task.identifier}': {fault}" for task in cases for fault in _faults(task)]
    if faults:
        hint = "; --allow-missing leaves out cases without a prediction" if without and not allow_missing else ""
        raise LabelError(faults, where=f"nothing was measured{hint}")
    return AgreementTasks(
        cases=cases,
        with_one_map=[] if full_reference else sorted(set(annotation.cases) - set(drawn_by)),
        without_prediction=without,
        not_of_annotators=sorted(predicted - set(drawn_by)),
        space=annotation.space,
    )


def _by_dataset(annotation: Annotation) -> dict[str, dict[str, AnnotationProtocol]]:
    """Case -> annotator -> what he or she looked for, as the dataset says."""
    found = {
        identifier: {annotator: annotation.protocols[name] for annotator, name in case.annotators.items()}
        for identifier, case in sorted(annotation.cases.items())
        if case.annotators
    }
    if not found:
        raise ValueError(
            "dataset.json['annotation'] names no annotators for any case: this dataset has one label map a case, which "
            "`nnunet_partial evaluate` judges"
        )
    return found


def _by_folder(annotators_dir: Path, space: LabelSpace, file_ending: str) -> dict[str, dict[str, AnnotationProtocol]]:
    """The same of annotators who looked for every class, from the label maps that there are."""
    found: dict[str, dict[str, AnnotationProtocol]] = {}
    for folder in sorted(path for path in annotators_dir.iterdir() if path.is_dir()):
        for identifier in sorted(_identifiers(folder, file_ending)):
            found.setdefault(identifier, {})[folder.name] = full_protocol(space)
    if not found:
        raise ValueError(f"{annotators_dir} holds no label maps <annotator>/<case>{file_ending}")
    return dict(sorted(found.items()))


def _faults(task: AgreementTask) -> list[str]:
    """What is wrong with the files of a case, from their headers."""
    files: Mapping[str, Path] = {f"annotator '{name}'": path for name, path in task.label_files.items()}
    if task.prediction_file is not None:
        files = {**files, "the prediction": task.prediction_file}
    faults, grids = [], {}
    for name, path in files.items():
        try:
            grids[name] = _geometry(path)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if not grids:
        return faults
    first, *others = grids
    for other in others:
        faults += geometry_faults(grids[first], grids[other], names=(first, other))
    if task.probability_file is not None and not task.probability_file.is_file():
        faults.append(f"{task.probability_file} is missing; predict with nnUNetv2_predict --save_probabilities")
    elif task.probability_file is not None:
        faults += probability_faults(task.probability_file, (task.space.num_classes, *grids[first].shape))
    return faults


def _geometry(path: Path) -> Geometry:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    return read_geometry(path)


def _identifiers(folder: Path, file_ending: str) -> set[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return {path.name.removesuffix(file_ending) for path in folder.iterdir() if path.name.endswith(file_ending)}
