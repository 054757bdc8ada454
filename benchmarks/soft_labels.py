"""Soft against majority labels on real CT with simulated annotators: tables 2 and 3 of Silva & Oliveira 2021 in small.

    python -m benchmarks.soft_labels --data DIR/btcv --out OUT [--folds 0 1 2]

DIR/btcv holds img/imgNNNN.nii.gz and label/labelNNNN.nii.gz of BTCV. All scans become one dataset with five organs, and
`nnunet_partial simulate --annotators` lets five annotators draw each: every one shifts the boundary of every organ in a way of
his or her own, and overlooks an organ now and then. Predictions of held-out cases are judged against all five annotators by
`nnunet_partial agreement`, and against the truth that the annotators were made from. What is trained, on each fold:

    majority        cross entropy on the map that most annotators drew
    soft            cross entropy with the share of annotators who drew each organ: the paper's
    soft_nearest    the same; on coarser resolutions of deep supervision the nearest voxel's shares, in place of their mean
    majority_dice   cross entropy and Dice on the majority map: nnU-Net's own recipe
    soft_dice       cross entropy and Dice on the shares, of which the paper warns
    tuned_majority  majority_dice, then a quarter of its epochs of cross entropy on the majority map
    tuned_soft      the same on the shares: what soft labels change in a network that has learned to find the organs

A rerun skips what is finished and goes on where a training stopped. Everything lies below OUT: nnU-Net's three folders, logs/ (a
file a training), results.csv (a row a method, fold, case and organ) and tables.md (what is printed).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soft_labels_tables import write_tables
from benchmarks.trainings import (
    CONFIGURATION,
    PLANS,
    annotation_of,
    plan_tiny,
    refuse_other_lengths,
    run,
    run_all,
    set_up,
    study_parser,
    train_command,
)
from nnunet_partial.evaluation import evaluate_folder
from nnunet_partial.evaluation.annotators import SUMMARY_NAME, annotator_agreement, write_agreement
from nnunet_partial.labels import write_json
from nnunet_partial.training.splits import stratified_splits

CLASSES = ("liver", "spleen", "kidney_left", "kidney_right", "stomach")
FULL, READERS = "Dataset750_Abdomen", "Dataset751_Readers"
DICE_PLANS = "nnUNetPlansDice"  # the same plans and data, a Dice term beside the soft cross entropy
TRAINERS = {  # trainer, plans
    "majority": ("nnUNetTrainerMajorityLabels", PLANS),
    "soft": ("nnUNetTrainerSoftLabels", PLANS),
    "soft_nearest": ("nnUNetTrainerNearestSoftLabels", PLANS),
    "majority_dice": ("nnUNetTrainerMajorityLabels", DICE_PLANS),
    "soft_dice": ("nnUNetTrainerSoftLabels", DICE_PLANS),
    "tuned_majority": ("nnUNetTrainerMajorityLabels", PLANS),
    "tuned_soft": ("nnUNetTrainerSoftLabels", PLANS),
}
TUNED = ("tuned_majority", "tuned_soft")
TUNED_FROM, TUNED_SHARE = "majority_dice", 4


@dataclass(frozen=True)
class Training:
    """One method on one fold."""

    method: str
    fold: int
    epochs: int

    @property
    def name(self) -> str:
        """As it stands in logs."""
        return f"{self.method}_fold{self.fold}"

    def folder(self, out: Path) -> Path:
        """Where its checkpoints lie."""
        trainer, plans = TRAINERS[self.method]
        fold = out / "nnUNet_results" / READERS / f"{trainer}__{plans}__{CONFIGURATION}" / f"fold_{self.fold}"
        return fold / "tuned" if self.method in TUNED else fold

    def is_done(self, out: Path) -> bool:
        """Whether its validation cases are predicted."""
        return (self.folder(out) / "validation" / "summary.json").exists()

    def command(self, out: Path) -> list[str]:
        """What trains it and predicts its validation cases with probabilities."""
        trainer, plans = TRAINERS[self.method]
        if self.method in TUNED:
            initial = Training(TUNED_FROM, self.fold, self.epochs).folder(out) / "checkpoint_final.pth"
            epochs = str(max(1, self.epochs // TUNED_SHARE))
            where = [READERS, str(self.fold), trainer, str(initial), str(self.folder(out))]
            return [sys.executable, "-m", "benchmarks.fine_tune", *where, "--epochs", epochs]
        return train_command(READERS, self.fold, trainer, self.folder(out), plans=plans, further=["--npz"])


def main() -> None:
    """Run what is missing, write results.csv and the tables."""
    args = build_parser().parse_args()
    out = args.out.resolve()
    trainings = [Training(method, fold, args.epochs) for method in TRAINERS for fold in args.folds]
    if not args.tables_only:
        out.mkdir(parents=True, exist_ok=True)
        names = ("epochs", "iterations", "annotators", "shift_mm", "miss")
        refuse_other_lengths(out, {name: getattr(args, name) for name in names})
        environment = set_up(out, trainer_folders=[Path(__file__).parent / "trainers"])
        lay_out(args.data.resolve(), out, args, environment)
        lengths = {"num_epochs": args.epochs, "num_iterations_per_epoch": args.iterations, "num_val_iterations_per_epoch": 4}
        full = annotation_of(out, FULL)
        splits = stratified_splits(full, full.cases)
        plan_tiny(READERS, out, environment, [f"{name}={value}" for name, value in lengths.items()], splits)
        with_dice(out / "nnUNet_preprocessed" / READERS)
        wanted = [training for training in trainings if training.method in args.only]
        for stage in (False, True):  # what is tuned is trained first
            of_stage = [training for training in wanted if (training.method in TUNED) == stage]
            run_all(sorted(of_stage, key=lambda training: training.fold), out, environment, args.processes)
    done = [training for training in trainings if training.is_done(out)]
    rows = [row for training in done for row in judged(training, out)]
    write_tables(rows, [row for training in done for row in calibrated(training, out)], out)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = study_parser(__doc__, TRAINERS, epochs=40)
    parser.add_argument("--annotators", type=int, default=5, help="simulated annotators (default: 5)")
    parser.add_argument("--shift-mm", type=float, default=4.0, help="mean distance of their boundaries from it (default: 4)")
    parser.add_argument("--miss", type=float, default=0.1, help="probability to overlook an organ (default: 0.1)")
    return parser


def lay_out(data: Path, out: Path, args: argparse.Namespace, environment: dict[str, str]) -> None:
    """The dataset as it was annotated, and the one that the simulated annotators drew."""
    number, name = FULL[7:10], FULL[11:]
    if not (out / "nnUNet_raw" / FULL / "dataset.json").exists():
        what = ["-d", number, "--name", name, "--classes", *CLASSES, "-np", "2"]
        run(["nnunet_partial", "convert", "btcv", str(data), *what], out, environment)
    if not (out / "nnUNet_raw" / READERS / "simulation.json").exists():
        readers = ["--annotators", str(args.annotators), "--shift-mm", str(args.shift_mm), "--miss", str(args.miss)]
        what = ["-d", number, "--as", READERS[7:10], "--name", READERS[11:], *readers, "-np", "2"]
        run(["nnunet_partial", "simulate", *what], out, environment)


def with_dice(folder: Path) -> None:
    """The same plans under another name, with a Dice term; the preprocessed data serve both."""
    plans = json.loads((folder / f"{PLANS}.json").read_text(encoding="utf-8"))
    plans["plans_name"] = DICE_PLANS
    plans["partial"]["weight_soft_dice"] = 1.0
    write_json(plans, folder / f"{DICE_PLANS}.json")


def judged(training: Training, out: Path) -> Sequence[dict]:
    """Every validation case and organ: against the annotators, and against the truth they were made from."""
    predictions, agreement = training.folder(out) / "validation", agreement_of(training, out)
    references = out / "nnUNet_raw" / READERS / "references"
    truth = evaluate_folder(references, predictions, annotation_of(out, READERS), full_reference=True, allow_missing=True)
    dice = {case["identifier"]: case["metrics"] for case in truth["metric_per_case"]}
    rows = []
    for case in agreement["per_case"]:
        for number, organ in enumerate(CLASSES, 1):
            found = case["classes"][organ]
            where = {"method": training.method, "fold": training.fold, "case": case["identifier"], "class": organ}
            at_levels = {f"Dice_{level}": figures["Dice"] for level, figures in found["levels"].items()}
            rows.append({**where, **found, **at_levels, "Dice_truth": dice[case["identifier"]][number]["Dice"]})
    return rows


def calibrated(training: Training, out: Path) -> list[dict]:
    """Calibration over the voxels of all validation cases, by organ and over all of them."""
    found = agreement_of(training, out)["calibration"]
    where = {"method": training.method, "fold": training.fold}
    return [{**where, "class": name, "ECE": of_class["ECE"], "Brier": of_class["Brier"]} for name, of_class in found.items()]


def agreement_of(training: Training, out: Path) -> dict:
    """What `nnunet_partial agreement --allow-missing` says of the validation cases; kept beside the predictions."""
    predictions = training.folder(out) / "validation"
    file = predictions / "agreement" / SUMMARY_NAME
    if not file.exists():
        annotators = out / "nnUNet_raw" / READERS / "annotators"
        agreement = annotator_agreement(
            annotators, annotation_of(out, READERS), prediction_dir=predictions, allow_missing=True, num_processes=2
        )
        write_agreement(agreement, file.parent, {"made_by": "benchmarks.soft_labels"})
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
