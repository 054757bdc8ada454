"""Pseudo-labels as NIfTI files on the grid of the raw images, for a viewer, a second reader or another program."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from scipy.special import expit
from tqdm import tqdm

from nnunet_partial.evaluation import read_label_map
from nnunet_partial.labels import first_of, replacing, write_json
from nnunet_partial.paths import nnunet_folder
from nnunet_partial.pseudo_labels.files import RoundFiles, RunFiles
from nnunet_partial.pseudo_labels.geometry import CaseGeometry
from nnunet_partial.pseudo_labels.rounds import read_request
from nnunet_partial.pseudo_labels.stages import planned
from nnunet_partial.training.arrays import open_array

DESCRIPTION = "export.json"
_CANONICAL = "RAS"  # where nnU-Net's readers "WithReorient" turn every image


def export_run(
    run: RunFiles,
    number: int | None,
    cases: Sequence[str] | None,
    output: Path,
    *,
    progress: bool = True,
    num_parts: int = 1,
    part_id: int = 0,
) -> int:
    """Write a round of a run, as `export_round` does, with what the run was begun with.

    Args:
        run: The run's files.
        number: The round; None takes the last one that labelled anything.
        cases: Cases; None takes every one that has pseudo-labels.
        output: Folder to write to.
        progress: Show a progress bar.
        num_parts: Into how many parts the cases are dealt.
        part_id: Which part is written, counted from 0.

    Returns:
        Number of cases that have files.

    Raises:
        FileNotFoundError: there is no such run, or its dataset is gone.
        ValueError: the round or a case has no pseudo-labels, and what `export_round` raises.
    """
    request = read_request(run)
    labelled = [n for n in range(1, request.rounds + 1) if any(run.round(n).labels.glob("*.pkl"))]
    number = max(labelled, default=None) if number is None else number
    if number not in labelled:
        there = f"those with some are {', '.join(map(str, labelled))}" if labelled else "no round has any"
        raise ValueError(f"round {number or request.rounds} of run '{run.name}' has no pseudo-labels; {there}")
    files = run.round(number)
    empty = [case for case in cases or () if not files.labels_of(case).exists()]
    if empty:
        raise ValueError(f"{first_of(empty)}: no pseudo-labels after round {number} of run '{run.name}'")
    plans_manager = PlansManager(planned(run.dataset, request.plans)[1])
    return export_round(
        files,
        cases or [path.stem for path in files.labels.glob("*.pkl")],
        nnunet_folder("nnUNet_raw") / request.dataset,
        run.dataset,
        plans_manager,
        plans_manager.get_configuration(request.configuration),
        output,
        progress=progress,
        num_parts=num_parts,
        part_id=part_id,
    )


def export_round(
    files: RoundFiles,
    cases: Sequence[str],
    raw_dataset: Path,
    preprocessed_dataset: Path,
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    output: Path,
    *,
    progress: bool = True,
    num_parts: int = 1,
    part_id: int = 0,
) -> int:
    """Write three files for each case that has pseudo-labels after a round, with the geometry of its raw image.

    <case>.nii.gz: the pseudo-labels alone, all rounds' so far.
    <case>_confidence.nii.gz: the criterion's confidence in [0, 1] where this round predicts an unannotated class, else 0.
    <case>_merged.nii.gz: the raw label map, unchanged, and pseudo-labels where it is 0.

    Finished files are not made again, unless the round's labels are newer.

    Args:
        files: Of the round.
        cases: Cases; those without pseudo-labels are passed over.
        raw_dataset: <raw>/<dataset>.
        preprocessed_dataset: <preprocessed>/<dataset>.
        plans_manager: The plans the cases were preprocessed with.
        configuration_manager: Their configuration.
        output: Folder to write to.
        progress: Show a progress bar.
        num_parts: Into how many parts the cases are dealt, so that machines can share the work.
        part_id: Which part is written, counted from 0.

    Returns:
        Number of cases of this part that have pseudo-labels, and so have files.

    Raises:
        FileNotFoundError: files of a case are missing.
        ValueError: a part that does not exist, cases the dataset does not have, an output that holds another round, or files
            that do not lie on one another.
    """
    if not 0 <= part_id < num_parts:
        raise ValueError(f"part {part_id} of {num_parts} does not exist; parts are counted from 0")
    raw_files = get_filenames_of_train_images_and_targets(str(raw_dataset))
    unknown = sorted(set(cases) - set(raw_files))
    if unknown:
        raise ValueError(f"{len(unknown)} cases have no image in {raw_dataset} ({first_of(unknown)})")
    _claim(output, files, preprocessed_dataset)
    own = [case for case in sorted(set(cases)) if files.labels_of(case).exists()][part_id::num_parts]
    for case in tqdm(own, "exporting", unit="case", disable=not progress):
        properties = preprocessed_dataset / configuration_manager.data_identifier / f"{case}.pkl"
        geometry = CaseGeometry.read(properties, plans_manager, configuration_manager)
        image, labels = Path(raw_files[case]["images"][0]), Path(raw_files[case]["label"])
        _CaseExport(case, files, geometry, properties.with_name(f"{case}_seg.b2nd"), image, labels, output).write()
    return len(own)


@dataclass(frozen=True)
class _CaseExport:
    """One case: where its arrays and raw files lie."""

    case: str
    files: RoundFiles
    geometry: CaseGeometry
    human_file: Path
    raw_image: Path
    raw_labels: Path
    output: Path

    def write(self) -> None:
        """Write what is not finished."""
        paths = {kind: self.output / f"{self.case}{kind}.nii.gz" for kind in ("", "_confidence", "_merged")}
        made = self.files.labels_of(self.case).stat().st_mtime_ns
        if all(path.exists() and path.stat().st_mtime_ns > made for path in paths.values()):
            return
        grid = _read_image(self.raw_image)
        raw_labels = read_label_map(self.raw_labels).labels
        pseudo = self._on_grid(self.geometry.labels_to_raw(self._pseudo_labels()), grid)
        if pseudo.shape != raw_labels.shape:
            raise ValueError(
                f"{self.raw_labels} has shape {raw_labels.shape}, the image of case '{self.case}' has {pseudo.shape}"
            )
        pseudo[raw_labels != 0] = 0  # resampling may move a border by a voxel; a human label is never touched
        _write(_smallest_integers(pseudo), grid, paths[""])
        _write(_smallest_integers(np.where(raw_labels == 0, pseudo, raw_labels)), grid, paths["_merged"])
        del pseudo, raw_labels
        _write(self._on_grid(self._confidence(), grid), grid, paths["_confidence"])

    def _pseudo_labels(self) -> np.ndarray:
        labels, human = open_array(self.files.labels_of(self.case))[:], open_array(self.human_file)[:]
        return np.where(human <= 0, np.maximum(labels, 0), 0).astype(np.int16)

    def _confidence(self) -> np.ndarray:
        """Interpolated between the predicted voxels, and cut off where they end."""
        prediction = open_array(self.files.prediction_of(self.case))[:]
        confidence = expit(open_array(self.files.score_of(self.case))[:])
        values = self.geometry.values_to_raw(confidence, prediction > 0)
        return np.where(self.geometry.labels_to_raw((prediction > 0).astype(np.int16)) > 0, values.clip(0, 1), np.float32(0))

    def _on_grid(self, array: np.ndarray, grid: SimpleITK.Image) -> np.ndarray:
        """From the axes of nnU-Net's reader to those of the file."""
        read = SimpleITK.DICOMOrient(grid, _CANONICAL) if self._is_reoriented else grid
        array = array[0] if grid.GetDimension() == 2 else array
        if array.shape != read.GetSize()[::-1]:
            raise ValueError(
                f"case '{self.case}' was preprocessed from an image of shape {array.shape}, {self.raw_image} has "
                f"{read.GetSize()[::-1]}; preprocess the dataset and make the rounds again"
            )
        if not self._is_reoriented:
            return array
        return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(_image(array, read), _orientation(grid)))

    @property
    def _is_reoriented(self) -> bool:
        stuff = {**self.geometry.properties.get("sitk_stuff", {}), **self.geometry.properties.get("nibabel_stuff", {})}
        return bool({"original_orientation", "reoriented_affine"} & set(stuff))


def _claim(output: Path, files: RoundFiles, preprocessed_dataset: Path) -> None:
    """Say which round the folder holds, or refuse to put another round's files among them."""
    origin = {"dataset": preprocessed_dataset.name, "round": "/".join(files.preprocessed.parts[-4:])}
    note = output / DESCRIPTION
    output.mkdir(parents=True, exist_ok=True)
    if not note.exists():
        write_json(origin, note)
        return
    known = json.loads(note.read_text(encoding="utf-8"))
    if known != origin:
        raise ValueError(f"{output} holds {known['round']} of {known['dataset']}; give {origin['round']} another folder")


def _read_image(path: Path) -> SimpleITK.Image:
    try:
        return SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read: {str(error).strip().splitlines()[-1]}") from None


def _orientation(image: SimpleITK.Image) -> str:
    return SimpleITK.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(image.GetDirection())


def _image(array: np.ndarray, grid: SimpleITK.Image) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    image.CopyInformation(grid)
    return image


def _write(array: np.ndarray, grid: SimpleITK.Image, path: Path) -> None:
    with replacing(path) as temporary:
        SimpleITK.WriteImage(_image(array, grid), str(temporary), True)


def _smallest_integers(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint8 if labels.min(initial=0) >= 0 and labels.max(initial=0) <= 255 else np.int16)
