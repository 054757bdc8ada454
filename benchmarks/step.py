"""One training iteration of each trainer in multiples of stock nnU-Net's: network, loss, optimiser, and whatever helps.

    python -m benchmarks.step --classes 5 14 --patch 64 --reps 5
    python -m benchmarks.step --trainers nnUNetTrainerMeanTeacher nnUNetTrainerCoraNet --features 8 16 32 64

All trainers take the same batch of two: noise, and the label maps of `benchmarks.loss`, of a fully annotated case and of one in
which four fifths of the organs are unannotated. Those with helpers take their steps after these have begun. Loading and
augmentation, which are the same for all, are not in it. Trainers run in one process in shuffled order; a ratio is formed within
each repetition, and the median and quartiles of the ratios are shown. *memory* is what a process rises to in an iteration above
what it holds when it is loaded, weights and helpers included, in multiples of stock's; each trainer in a process of its own,
Linux only. The plan is nnU-Net's kind of U-Net with five stages, not mirrored, in float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.loss import example
from benchmarks.loss_memory import rise_of
from benchmarks.ratios import CLOCKS, alternate, machine, show, under_both_allocators
from nnunet_partial.labels import write_json

STOCK = "nnUNetTrainer"
DATASET, PLANS, CONFIGURATION = "Dataset990_Step", "nnUNetPlans", "3d_fullres"
FULL, PARTIAL = "full", "partial"  # the two cases of the batch
SMALL_PATCH = 32


def set_nnunet_folders(root: Path) -> None:
    """Point nnU-Net at folders below `root`, before it is imported."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / variable).mkdir()
        os.environ[variable] = str(root / variable)


def write_dataset(root: Path, num_organs: int, patch: int, features: list[int]) -> None:
    """What nnU-Net reads of a dataset before it loads a case: plans, dataset.json, a split, the votes of one case."""
    from nnunet_partial.targets import Votes

    folder = root / "nnUNet_preprocessed" / DATASET
    cases, votes = folder / f"{PLANS}_{CONFIGURATION}", folder / f"{PLANS}_{CONFIGURATION}_votes"
    for part in (cases, votes):
        part.mkdir(parents=True, exist_ok=True)
    for key in (FULL, PARTIAL):
        for name in (f"{key}.b2nd", f"{key}.pkl"):
            (cases / name).touch()
    (votes / f"{FULL}.pkl").touch()
    Votes.unanimous([FULL] * 3, num_organs + 1).write(votes / f"{FULL}.json")
    organs = [f"organ_{number}" for number in range(1, num_organs + 1)]
    known = organs[: max(1, num_organs // 5)]
    protocols = {
        FULL: {"labels": {str(number): [name] for number, name in enumerate(organs, 1)}},
        PARTIAL: {"labels": {str(number): [name] for number, name in enumerate(known, 1)}},
    }
    annotated = {key: {"protocol": key, "source": key} for key in (FULL, PARTIAL)}
    annotated[FULL]["annotators"] = dict.fromkeys("abc", FULL)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: number for number, name in enumerate(organs, 1)}},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "annotation": {"classes": organs, "protocols": protocols, "cases": annotated},
    }
    write_json(dataset, folder / "dataset.json")
    write_json([{"train": [FULL, PARTIAL], "val": [FULL, PARTIAL]}], folder / "splits_final.json")
    write_json(plans_of(patch, features), folder / f"{PLANS}.json")


def plans_of(patch: int, features: list[int]) -> dict[str, Any]:
    """Plans of a plain U-Net, two convolutions a stage, as nnU-Net would write them."""
    stages = len(features)
    network = {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": f"{PLANS}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch] * 3,
        "spacing": [1.0] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": PLANS,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {CONFIGURATION: configuration},
        "partial": {"consistency_start_epochs": 0, "num_epochs": 1000},
    }


def step_of(name: str, root: Path, num_organs: int, patch: int) -> Callable[[], Any]:
    """An iteration of a trainer that is set up and on its first epoch; the dataset has been written."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_partial import trainers

    folder = root / "nnUNet_preprocessed" / DATASET
    plans, dataset = (json.loads((folder / file).read_text(encoding="utf-8")) for file in (f"{PLANS}.json", "dataset.json"))
    cls = nnUNetTrainer if name == STOCK else getattr(trainers, name)
    trainer = cls({**plans, "continue_training": False}, CONFIGURATION, 0, dataset, torch.device("cpu"))
    trainer.print_to_log_file = lambda *args, **kwargs: None
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.on_train_epoch_start()
    _, target = example(num_organs, patch)
    scales = [round(1 / scale[0]) for scale in trainer._get_deep_supervision_scales()]
    data = torch.randn(2, 1, *[patch] * 3, generator=torch.Generator().manual_seed(0))
    labels = [target.labels[:, :, ::step, ::step, ::step].contiguous() for step in scales]
    batch = {"data": data, "target": labels, "keys": [FULL, PARTIAL]}
    return lambda: trainer.train_step(batch)


def measure(root: Path, num_organs: int, args: argparse.Namespace) -> list[dict]:
    """Rows of all trainers, by time."""
    write_dataset(root, num_organs, args.patch, args.features)
    steps = {name: step_of(name, root, num_organs, args.patch) for name in (STOCK, *args.trainers)}
    rows = alternate(steps, STOCK, args.reps, args.clock)
    return [{**row, "name": f"{row['name']} K={num_organs}"} for row in rows]


def peak_bytes(name: str, root: Path, num_organs: int, args: argparse.Namespace) -> int:
    """How far this process rises while a trainer is made and takes two steps."""

    def two_steps(patch: int) -> None:
        step = step_of(name, root, num_organs, patch)
        step(), step()

    write_dataset(root, num_organs, SMALL_PATCH, [4] * len(args.features))
    two_steps(SMALL_PATCH)  # libraries load their threads and code
    write_dataset(root, num_organs, args.patch, args.features)
    return rise_of(lambda: two_steps(args.patch))


def memory_ratios(num_organs: int, args: argparse.Namespace) -> dict[str, float]:
    """Row name -> memory in multiples of stock's, each trainer in a process of its own."""

    def of(name: str) -> int:
        command = [sys.executable, "-m", "benchmarks.step", "--one", name, *sys.argv[1:], "--classes", str(num_organs)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])

    stock = of(STOCK)
    return {f"{name} K={num_organs}": of(name) / stock for name in args.trainers} | {f"{STOCK} K={num_organs}": 1.0}


def main() -> None:
    """Measure under both allocator settings, print one table, write JSON where asked."""
    from nnunet_partial.trainers import __all__ as ours

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 14], help="organs K (default: 5 14)")
    parser.add_argument("--patch", type=int, default=64, help="edge of the patch in voxels (default: 64)")
    parser.add_argument(
        "--features", type=int, nargs="+", default=[32, 64, 128, 256, 320], help="of each stage (default: 32 64 128 256 320)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--trainers", choices=ours, nargs="+", default=sorted(ours), metavar="TRAINER", help="default: all")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--one-allocator", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one or args.one_allocator:
        with tempfile.TemporaryDirectory() as root:
            set_nnunet_folders(Path(root))
            if args.one:
                print(peak_bytes(args.one, Path(root), args.classes[0], args))
            else:
                print(json.dumps([row for number in args.classes for row in measure(Path(root), number, args)]))
        return
    facts = machine() | {name: getattr(args, name) for name in ("threads", "clock", "patch", "features", "reps")}
    memory = {}
    for number in [] if args.no_memory else args.classes:
        memory |= memory_ratios(number, args)
    rows = under_both_allocators("benchmarks.step", sys.argv[1:])
    rows = [row | ({"memory_ratio": memory[row["name"]]} if memory else {}) for row in rows]
    show(facts | {"load_after": round(os.getloadavg()[0], 1)}, rows, "trainer", "stock", args.json)


if __name__ == "__main__":
    main()
