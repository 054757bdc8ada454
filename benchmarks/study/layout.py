"""The study's datasets on disk: converted or simulated once, planned alike, split alike."""

import json
from pathlib import Path

import yaml

from benchmarks.study.protocol import Dataset, Study
from benchmarks.trainings import CONFIGURATION, PLANS, annotation_of, plan_tiny, run
from nnunet_partial.labels import write_json
from nnunet_partial.training.splits import stratified_splits, unannotated_anywhere


def folder_name(study: Study, dataset: str) -> str:
    """nnU-Net's name of a dataset."""
    return f"Dataset{study.datasets[dataset].id:03d}_{dataset}"


def lay_out(study: Study, dataset: str, data: Path, out: Path, environment: dict[str, str]) -> None:
    """Make a dataset, and before it what it is made from; nothing where that is done.

    Args:
        study: Says what the dataset is.
        dataset: Its name in the study.
        data: Folder with img/ and label/ of BTCV.
        out: The study's folder.
        environment: Of the commands.
    """
    for name in study.lineage(dataset):
        entry, folder = study.datasets[name], out / "nnUNet_raw" / folder_name(study, name)
        if entry.of and not (folder / "simulation.json").exists():
            where = ["-d", str(study.datasets[entry.of].id), "--as", str(entry.id), "--name", name]
            run(["nnunet_partial", "simulate", *where, *simulate_arguments(name, entry, out), "-np", "2"], out, environment)
        elif not entry.of and not (folder / "dataset.json").exists():
            where = [str(data), "-d", str(entry.id), "--name", name]
            run(["nnunet_partial", "convert", "btcv", *where, "--classes", *entry.classes, "-np", "2"], out, environment)
    plan_tiny(folder_name(study, dataset), out, environment, splits_of(study, dataset, out))


def simulate_arguments(name: str, entry: Dataset, out: Path) -> list[str]:
    """Of `nnunet_partial simulate`; a mix is written to a file."""
    arguments = []
    for key, value in entry.simulate.items():
        if key == "like":
            file = out / f"mix_{name}.yaml"
            file.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
            value = file
        arguments += [f"--{key.replace('_', '-')}", str(value)]
    return arguments


def splits_of(study: Study, dataset: str, out: Path) -> list[dict[str, list[str]]]:
    """The folds, the same cases for every dataset.

    Raises:
        SystemExit: a fold of the study trains on no case in which somebody looked for a class.
    """
    full = annotation_of(out, folder_name(study, study.root_of(dataset)))
    own = annotation_of(out, folder_name(study, dataset))
    splits = stratified_splits(full, full.cases)
    if study.datasets[dataset].annotated_alone:
        annotated = {key for key in own.cases if own.protocol_of(key).annotated_classes}
        splits = [{**split, "train": [key for key in split["train"] if key in annotated]} for split in splits]
    for fold in study.folds:
        if untaught := unannotated_anywhere(own, splits[fold]["train"]):
            raise SystemExit(f"{dataset}, fold {fold}: nobody looked for {', '.join(untaught)} in the training cases")
    return splits


def write_plans(study: Study, method: str, out: Path) -> str:
    """A plan of the method's own beside the common one, whose preprocessed data it shares; its name."""
    lengths, entry = study.lengths_of(method), study.methods[method]
    settings = {
        "num_epochs": lengths.epochs,
        "num_iterations_per_epoch": lengths.iterations,
        "num_val_iterations_per_epoch": 4,
    }
    if entry.alone_share:
        alone = lengths.share(entry.alone_share)
        settings |= {"stage_one_epochs": alone, "consistency_start_epochs": min(alone, lengths.epochs - 1), "save_every": alone}
    folder = out / "nnUNet_preprocessed" / folder_name(study, study.dataset_of(method))
    plans = json.loads((folder / f"{PLANS}.json").read_text(encoding="utf-8"))
    plans["plans_name"] = plans_name(method)
    plans["partial"] |= settings | entry.settings
    plans["configurations"][CONFIGURATION]["batch_size"] = entry.batch
    write_json(plans, folder / f"{plans_name(method)}.json")
    return plans_name(method)


def plans_name(method: str) -> str:
    """Of the plan that `write_plans` writes."""
    return f"{PLANS}_{method}"
