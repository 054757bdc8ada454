"""nnU-Net's preprocessing, case by case, so that a rerun goes on where a killed one stopped.

The host's own `run` empties the folder and starts anew. Here each case is made by the host's preprocessor under a temporary
name and renamed; `.pkl` comes last, and is what says that the case is whole.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

from nnunet_partial.labels import replacing, write_json

IRRELEVANT = ("architecture", "batch_size", "batch_dice")  # of a configuration, to a preprocessed case
PARTS = (".b2nd", "_seg.b2nd", ".pkl")


def preprocess_configuration(
    raw: Path, preprocessed: Path, plans_name: str, configuration: str, *, num_processes: int = 1
) -> Path:
    """Preprocess every case of a dataset that is not preprocessed yet, and copy the references beside them.

    Args:
        raw: nnUNet_raw/DatasetXXX_Name.
        preprocessed: nnUNet_preprocessed/DatasetXXX_Name, with the plans.
        plans_name: Name of the plans file, without ending.
        configuration: 2d, 3d_fullres, ...
        num_processes: Cases worked on at a time; each holds one case in memory several times over.

    Returns:
        The folder of the preprocessed cases.

    Raises:
        RuntimeError: a case that could not be preprocessed, with the host's error; the others are kept.
    """
    plans_file = preprocessed / f"{plans_name}.json"
    plans = PlansManager(str(plans_file))
    manager = plans.get_configuration(configuration)
    folder = preprocessed / manager.data_identifier
    dataset = get_filenames_of_train_images_and_targets(str(raw), json.loads((raw / "dataset.json").read_text(encoding="utf-8")))
    recipe = {key: value for key, value in manager.configuration.items() if key not in IRRELEVANT}
    recipe |= {key: plans.plans[key] for key in ("transpose_forward", "foreground_intensity_properties_per_channel")}
    stamps = {key: _stamp(files, recipe) for key, files in dataset.items()}
    stamps_file = folder.with_name(
        f".{folder.name}.preprocessed_with.json"
    )  # in the folder it would confuse nnU-Net's infer_dataset_class
    known = json.loads(stamps_file.read_text(encoding="utf-8")) if stamps_file.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in [
        *folder.glob(".*.tmp*"),
        *(path for path in folder.glob("*.pkl") if known.get(path.stem) != stamps.get(path.stem)),
    ]:
        _remove(leftover)
    todo = [key for key in dataset if not (folder / f"{key}.pkl").exists()]
    write_json(stamps, stamps_file)
    if len(todo) < len(dataset):
        print(f"{configuration}: {len(dataset) - len(todo)} of {len(dataset)} cases are already preprocessed")
    _run(
        todo,
        [(str(folder), key, dataset[key], str(plans_file), configuration, str(raw / "dataset.json")) for key in todo],
        num_processes,
        configuration,
    )
    _copy_references(dataset, preprocessed / "gt_segmentations")
    return folder


def _run(todo: list[str], jobs: list[tuple], num_processes: int, configuration: str) -> None:
    failed = {}
    # spawned, as the host does: forking a process that has used torch can hang
    with ProcessPoolExecutor(max(1, min(num_processes, len(jobs))), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_preprocess_case, *job): key for key, job in zip(todo, jobs, strict=True)}
        for future in tqdm(
            as_completed(futures), total=len(futures), desc=f"preprocessing {configuration}", unit="case", disable=not futures
        ):
            if error := future.exception():
                failed[futures[future]] = error
    if failed:
        lines = "\n".join(f"  case '{key}': {type(error).__name__}: {error}" for key, error in sorted(failed.items()))
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} cases could not be preprocessed; mend them and run the same command again:\n{lines}"
        )


def _preprocess_case(
    folder: str, key: str, files: dict[str, Any], plans_file: str, configuration: str, dataset_json: str
) -> None:
    plans = PlansManager(plans_file)
    manager = plans.get_configuration(configuration)
    temporary = Path(folder) / f".{key}.{os.getpid()}.tmp"
    temporary.mkdir(exist_ok=True)
    manager.preprocessor_class(verbose=False).run_case_save(
        str(temporary / key), files["images"], files["label"], plans, manager, dataset_json
    )
    for part in PARTS:
        (temporary / f"{key}{part}").replace(Path(folder) / f"{key}{part}")
    temporary.rmdir()


def _stamp(files: dict[str, Any], recipe: dict[str, Any]) -> str:
    """What a preprocessed case depends on: its files, and what of the plans it was made with."""
    states = [(path, Path(path).stat()) for path in [*files["images"], files["label"]]]
    facts = [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return hashlib.sha256(json.dumps([facts, recipe], sort_keys=True, default=str).encode()).hexdigest()[:16]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        return
    for part in reversed(PARTS):
        path.with_name(path.stem + part).unlink(missing_ok=True)


def _copy_references(dataset: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for files in dataset.values():
        reference = folder / Path(files["label"]).name
        if not reference.exists() or reference.stat().st_mtime < Path(files["label"]).stat().st_mtime:
            with replacing(reference) as temporary:
                shutil.copyfile(files["label"], temporary)
