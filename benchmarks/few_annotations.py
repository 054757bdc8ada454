"""Few annotated scans among many that nobody annotated: CoraNet, its peers and its ablation (Shi et al. 2022, tables II and IV).

    python -m benchmarks.few_annotations --data DIR/btcv --out OUT [--annotated 5] [--folds 0 1 2]

DIR/btcv holds img/imgNNNN.nii.gz and label/labelNNNN.nii.gz of BTCV. All scans become one dataset with five organs, of which
`nnunet_partial simulate --like` leaves the labels of a few: the others are images of a second source. Every prediction of a
held-out scan is judged against its untouched labels. What is trained, on each fold:

    supervised     the marginal loss, on the annotated scans alone
    all_annotated  the same on all scans with their labels: what the methods below could reach
    mean_teacher, uncertainty_aware, pi_model, entropy, adversarial, prior_aware, coranet
                   a third of the epochs on the annotated scans alone, then on both sources alike: half of the patches are images
    seg, st, st_mask, mt, mt_mask
                   CoraNet without its terms on images, with self-training everywhere or where its branches agree, with
                   consistency everywhere or where they agree. They and coranet go on from one pretraining: seg's

A rerun skips what is finished and goes on where a training stopped. Everything lies below OUT: nnU-Net's three folders, logs/ (a
file a training), results.csv (a row a method, fold, case and organ) and tables.md (what is printed).
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.few_annotations_tables import write_tables
from benchmarks.trainers.coranet_ablation import PRETRAINED
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
from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.evaluation.tolerance import Tolerances
from nnunet_partial.labels import write_json
from nnunet_partial.training.splits import stratified_splits

CLASSES = ("liver", "spleen", "kidney_left", "kidney_right", "stomach")
FULL, FEW = "Dataset800_Abdomen", "Dataset801_FewAnnotated"
ALONE_PLANS = "nnUNetPlansAlone"  # the annotated scans alone, from the first epoch to the last
METHODS = {  # trainer, dataset, plans
    "supervised": ("nnUNetTrainerMarginal", FEW, ALONE_PLANS),
    "all_annotated": ("nnUNetTrainerMarginal", FULL, PLANS),
    "mean_teacher": ("nnUNetTrainerMeanTeacher", FEW, PLANS),
    "uncertainty_aware": ("nnUNetTrainerUncertaintyAwareMeanTeacher", FEW, PLANS),
    "pi_model": ("nnUNetTrainerPiModel", FEW, PLANS),
    "entropy": ("nnUNetTrainerEntropyMinimization", FEW, PLANS),
    "adversarial": ("nnUNetTrainerAdversarial", FEW, PLANS),
    "prior_aware": ("nnUNetTrainerPriorAware", FEW, PLANS),
    "seg": ("nnUNetTrainerCoraNetSeg", FEW, PLANS),
    "st": ("nnUNetTrainerCoraNetSt", FEW, PLANS),
    "st_mask": ("nnUNetTrainerCoraNetStMask", FEW, PLANS),
    "mt": ("nnUNetTrainerCoraNetMt", FEW, PLANS),
    "mt_mask": ("nnUNetTrainerCoraNetMtMask", FEW, PLANS),
    "coranet": ("nnUNetTrainerCoraNet", FEW, PLANS),
}
PRETRAINING, PRETRAINED_BY_IT = "seg", ("st", "st_mask", "mt", "mt_mask", "coranet")
ALONE_SHARE = 3  # the first third of the epochs is on annotated scans alone


@dataclass(frozen=True)
class Training:
    """One method on one fold."""

    method: str
    fold: int

    @property
    def name(self) -> str:
        """As it stands in logs."""
        return f"{self.method}_fold{self.fold}"

    def folder(self, out: Path) -> Path:
        """Where its checkpoints lie."""
        trainer, dataset, plans = METHODS[self.method]
        return out / "nnUNet_results" / dataset / f"{trainer}__{plans}__{CONFIGURATION}" / f"fold_{self.fold}"

    def is_done(self, out: Path) -> bool:
        """Whether its validation cases are predicted."""
        return (self.folder(out) / "validation" / "summary.json").exists()

    def command(self, out: Path) -> list[str]:
        """What trains it, from the pretraining of another where they share it."""
        folder = self.folder(out)
        if self.method in PRETRAINED_BY_IT and not any(folder.glob("checkpoint_*.pth")):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Training(PRETRAINING, self.fold).folder(out) / PRETRAINED, folder / "checkpoint_latest.pth")
        trainer, dataset, plans = METHODS[self.method]
        return train_command(dataset, self.fold, trainer, folder, plans=plans)


def main() -> None:
    """Run what is missing, write results.csv and the tables."""
    args = build_parser().parse_args()
    out = args.out.resolve()
    trainings = [Training(method, fold) for method in METHODS for fold in args.folds]
    if not args.tables_only:
        out.mkdir(parents=True, exist_ok=True)
        refuse_other_lengths(out, {name: getattr(args, name) for name in ("epochs", "iterations", "annotated")})
        environment = set_up(out, trainer_folders=[Path(__file__).parent / "trainers"])
        lay_out(args.data.resolve(), out, args.annotated, environment)
        plan(out, args.epochs, args.iterations, environment)
        wanted = [training for training in trainings if training.method in args.only]
        for first in (True, False):  # what others go on from, then all of a fold, so that what is there can be compared
            stage = [training for training in wanted if (training.method == PRETRAINING) == first]
            run_all(sorted(stage, key=lambda training: training.fold), out, environment, args.processes)
    write_tables([row for training in trainings if training.is_done(out) for row in judged(training, out)], out)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = study_parser(__doc__, METHODS, epochs=30, iterations=40)
    parser.add_argument("--annotated", type=int, default=5, metavar="N", help="scans that keep their labels (default: 5)")
    return parser


def lay_out(data: Path, out: Path, annotated: int, environment: dict[str, str]) -> None:
    """The dataset as it was annotated, and the one in which most scans are images alone."""
    raw = out / "nnUNet_raw"
    if not (raw / FULL / "dataset.json").exists():
        what = ["-d", FULL[7:10], "--name", FULL[11:], "--classes", *CLASSES, "-np", "2"]
        run(["nnunet_partial", "convert", "btcv", str(data), *what], out, environment)
    if not (raw / FEW / "simulation.json").exists():
        others = len(annotation_of(out, FULL).cases) - annotated
        mix = {"annotated": {"classes": "all", "cases": annotated}, "images": {"classes": "none", "cases": others}}
        (out / "mix.yaml").write_text(yaml.safe_dump(mix, sort_keys=False), encoding="utf-8")
        what = ["-d", FULL[7:10], "--as", FEW[7:10], "--name", FEW[11:], "--like", str(out / "mix.yaml"), "-np", "2"]
        run(["nnunet_partial", "simulate", *what], out, environment)


def plan(out: Path, epochs: int, iterations: int, environment: dict[str, str]) -> None:
    """The same tiny plan and the same folds for both datasets; a second plan of the annotated scans alone."""
    few = annotation_of(out, FEW)
    splits = stratified_splits(few, few.cases)
    lengths = [f"num_epochs={epochs}", f"num_iterations_per_epoch={iterations}", "num_val_iterations_per_epoch=4"]
    alone = max(1, epochs // ALONE_SHARE)
    plan_tiny(FULL, out, environment, lengths, splits)
    stages = [f"stage_one_epochs={alone}", f"consistency_start_epochs={alone}", f"save_every={alone}"]
    plan_tiny(FEW, out, environment, [*lengths, *stages], splits)
    folder = out / "nnUNet_preprocessed" / FEW
    plans = json.loads((folder / f"{PLANS}.json").read_text(encoding="utf-8"))
    plans["plans_name"] = ALONE_PLANS
    plans["partial"]["stage_one_epochs"] = epochs
    write_json(plans, folder / f"{ALONE_PLANS}.json")


def judged(training: Training, out: Path) -> Sequence[dict]:
    """Every validation case and organ, against its untouched label."""
    predictions = training.folder(out) / "validation"
    file = predictions / "full_reference.json"
    if not file.exists() or file.stat().st_mtime < (predictions / "summary.json").stat().st_mtime:
        references, annotation = out / "nnUNet_raw" / FULL / "labelsTr", annotation_of(out, FULL)
        summary = evaluate_folder(
            references, predictions, annotation, full_reference=True, allow_missing=True, tolerances=Tolerances()
        )
        write_summary(summary, file)
    where = {"method": training.method, "fold": training.fold}
    return [
        {**where, "case": case["identifier"], "class": name, **metrics}
        for case in json.loads(file.read_text(encoding="utf-8"))["metric_per_case"]
        for name, metrics in zip(CLASSES, case["metrics"].values(), strict=True)
    ]


if __name__ == "__main__":
    main()
