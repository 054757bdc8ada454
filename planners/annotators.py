"""The votes of several annotators beside nnU-Net's preprocessed cases.

Each annotator's label map is brought on nnU-Net's grid by the host's own resampling; the combinations of votes are formed there,
never by resampling their ids.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import bounding_box_to_slice
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_partial.labels import ANNOTATION_KEY, Annotation
from nnunet_partial.planners.case_work import case_files, run_open_cases, stamp
from nnunet_partial.targets.votes import VOTES_PARTS, Votes, encode_votes, votes_folder
from nnunet_partial.training.arrays import open_array, write_array

ANNOTATORS_FOLDER = "annotators"
OUTSIDE = -1  # nnU-Net's id of voxels outside the body's box, where the image is 0


def preprocess_annotators(raw: Path, cases: Path, plans_file: Path, configuration: str, *, num_processes: int = 1) -> None:
    """Lay the votes of every case that several annotators drew beside the preprocessed cases, in `votes_folder`.

    Args:
        raw: nnUNet_raw/DatasetXXX_Name, with annotators/<annotator>/<case>.nii.gz.
        cases: The folder of the preprocessed cases.
        plans_file: The plans they were made with.
        configuration: 2d, 3d_fullres, ...
        num_processes: Cases worked on at a time.

    Raises:
        FileNotFoundError: an annotator's label map that dataset.json names is not there; all are listed.
        RuntimeError: a case whose votes could not be laid out; the others are kept.
    """
    dataset_json = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    if ANNOTATION_KEY not in dataset_json:
        return
    annotation = Annotation.from_dataset_json(dataset_json)
    ending = dataset_json["file_ending"]
    files = {
        key: {name: raw / ANNOTATORS_FOLDER / name / f"{key}{ending}" for name in case.annotators}
        for key, case in annotation.cases.items()
        if case.annotators and (cases / f"{key}.pkl").exists()
    }
    folder = votes_folder(cases)
    if not files and not folder.exists():
        return
    missing = [str(file) for of_case in files.values() for file in of_case.values() if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{raw.name}: {len(missing)} label maps of single annotators are missing; convert the dataset again:\n  "
            + "\n  ".join(missing)
        )
    stamps, jobs = {}, {}
    for key, of_case in files.items():
        protocols = [annotation.cases[key].annotators[name] for name in of_case]
        recipe = [protocols, annotation.num_label_ids]
        stamps[key] = stamp([*of_case.values(), cases / f"{key}.pkl"], recipe)
        jobs[key] = (cases, key, list(of_case.values()), *recipe, annotation.space.num_classes, plans_file, configuration)
    what = f"votes of annotators {configuration}"
    run_open_cases(folder, VOTES_PARTS, stamps, _lay_votes, jobs, num_processes=num_processes, what=what)


def _lay_votes(
    cases: Path,
    key: str,
    files: list[Path],
    protocols: list[str],
    num_label_ids: int,
    num_classes: int,
    plans_file: Path,
    configuration: str,
) -> None:
    """Write the label map of votes, what its ids stand for, and nnU-Net's properties with where each class got a vote."""
    plans = PlansManager(str(plans_file))
    manager = plans.get_configuration(configuration)
    properties = pickle.loads((cases / f"{key}.pkl").read_bytes())
    own = open_array(cases / f"{key}_seg.b2nd")[:]  # (1, z, y, x)
    maps = [_on_grid(file, own.shape, properties, plans, manager) for file in files]
    labels, votes = encode_votes(maps, protocols, num_label_ids)
    labels[(labels == 0) & (own[0] == OUTSIDE)] = OUTSIDE
    properties["class_locations"] = {**properties["class_locations"], **vote_locations(labels, votes, num_classes)}
    with case_files(votes_folder(cases), key, VOTES_PARTS) as temporary:
        write_array(labels[None], temporary / f"{key}_seg.b2nd", manager.patch_size)
        votes.write(temporary / f"{key}.json")
        (temporary / f"{key}.pkl").write_bytes(pickle.dumps(properties))


def _on_grid(
    file: Path, shape: tuple[int, ...], properties: dict[str, Any], plans: PlansManager, manager: ConfigurationManager
) -> np.ndarray:
    """(z, y, x): an annotator's label map as nnU-Net's preprocessing makes it: transposed, cropped, resampled."""
    drawn, _ = plans.image_reader_writer_class().read_seg(str(file))
    drawn = drawn.transpose(0, *(axis + 1 for axis in plans.transpose_forward))
    if drawn.shape[1:] != tuple(properties["shape_before_cropping"]):
        expected = tuple(properties["shape_before_cropping"])
        raise ValueError(f"{file} has shape {drawn.shape[1:]} (axes of the plans), the image {expected}; convert it again")
    drawn = drawn[(slice(None), *bounding_box_to_slice(properties["bbox_used_for_cropping"]))]
    spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    target_spacing = [*spacing[: len(spacing) - len(manager.spacing)], *manager.spacing]  # in 2d, slices stay
    return manager.resampling_fn_seg(drawn, shape[1:], spacing, target_spacing)[0].astype(np.int16)


def vote_locations(labels: np.ndarray, votes: Votes, num_classes: int) -> dict[int, np.ndarray]:
    """Where each class got at least one vote, as nnU-Net's loader draws patches by: a sample of (0, z, y, x).

    Shape:
        labels (z, y, x), ids of `votes`.
    """
    ids = {c: tuple(np.flatnonzero((votes.ballots == c).any(1)).tolist()) for c in range(1, num_classes)}
    found = DefaultPreprocessor._sample_foreground_locations(labels[None], list(ids.values()))
    return {c: found[of_class] for c, of_class in ids.items()}
