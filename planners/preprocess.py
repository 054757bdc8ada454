"""nnU-Net's preprocessing, case by case, so that a rerun goes on where a killed one stopped.

The host's own `run` empties the folder and starts anew. Here each case is made by the host's preprocessor.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_partial.labels import replacing
from nnunet_partial.planners.annotators import preprocess_annotators
from nnunet_partial.planners.case_work import case_files, run_open_cases, stamp

IRRELEVANT = ("architecture", "batch_size", "batch_dice")  # of a configuration, to a preprocessed case
PARTS = (".b2nd", "_seg.b2nd", ".pkl")


def preprocess_configuration(
    raw: Path, preprocessed: Path, plans_name: str, configuration: str, *, num_processes: int = 1
) -> Path:
    """Preprocess every case of a dataset that is not preprocessed yet, and copy the references beside them.

    Where several annotators drew a case, their votes are laid beside it too.

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
    run_open_cases(
        folder,
        PARTS,
        {key: stamp([*files["images"], files["label"]], recipe) for key, files in dataset.items()},
        _preprocess_case,
        {key: (folder, key, files, str(plans_file), configuration, str(raw / "dataset.json")) for key, files in dataset.items()},
        num_processes=num_processes,
        what=f"preprocessing {configuration}",
    )
    _copy_references(dataset, preprocessed / "gt_segmentations")
    preprocess_annotators(raw, folder, plans_file, configuration, num_processes=num_processes)
    return folder


def _preprocess_case(
    folder: Path, key: str, files: dict[str, Any], plans_file: str, configuration: str, dataset_json: str
) -> None:
    plans = PlansManager(plans_file)
    manager = plans.get_configuration(configuration)
    with case_files(folder, key, PARTS) as temporary:
        manager.preprocessor_class(verbose=False).run_case_save(
            str(temporary / key), files["images"], files["label"], plans, manager, dataset_json
        )


def _copy_references(dataset: dict[str, Any], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for files in dataset.values():
        reference = folder / Path(files["label"]).name
        if not reference.exists() or reference.stat().st_mtime < Path(files["label"]).stat().st_mtime:
            with replacing(reference) as temporary:
                shutil.copyfile(files["label"], temporary)
