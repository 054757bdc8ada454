"""Pseudo-labels on real CT of which labels were removed: tables 4, 6 and 7 of INERRANT (Petit et al. 2021) in small.

    python -m benchmarks.missing_labels --data DIR/btcv --out OUT [--alpha 50 20] [--folds 0 1 2]

DIR/btcv holds img/imgNNNN.nii.gz and label/labelNNNN.nii.gz of BTCV. All scans become one dataset with the paper's seven organs;
of it, `nnunet_partial simulate` makes a dataset for each alpha, in which alpha percent of the annotations of every organ are
left (nested draws). All of them have the same folds, so alphas and methods are compared case by case, and every prediction is
judged against the untouched labels of all seven organs. What is trained, for each alpha and fold:

    naive       nnU-Net's own loss, for which a missing organ is background
    inerrant0   the ambiguity loss: nothing is learned about an organ where its label is missing
    longer      inerrant0 trained on for as long as the rounds of the following take, without pseudo-labels: what time alone gives
    restarts    the same in three rounds, each with a learning rate that begins anew and falls to zero
    all         inerrant0, then its predictions of missing organs are labels, all at once
    mcp         inerrant0, then three rounds; round t trusts the t/3 of the predictions with the highest class probability
    confidence  the same, ranked by a confidence network that learned where the predictions are right: INERRANT itself
    ce          marginal cross entropy alone, the loss that takes soft labels
    ce_all      ce, then as all
    ce_soft     the same, each pseudo-label with its confidence (`nnunet_partial rounds --soft`)

In two things this is not the paper: nnU-Net's patches and 3D network, tiny here; and a Dice term beside the ambiguity loss, as
naive has one beside its cross entropy. (In a trial of 450 iterations with batches of four, cross entropy alone found nothing but
the liver; with the Dice term, the spleen and a kidney began to appear.)

A rerun skips what is finished and goes on where a training stopped. Everything lies below OUT: nnU-Net's three folders, logs/ (a
file a job), results.csv (the Dice of every case and organ) and tables.md (what is printed).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.missing_labels_tables import PARENT, parent_of, write_tables
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
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.training.splits import stratified_splits, unannotated_anywhere

CLASSES = ("liver", "gallbladder", "spleen", "kidney_left", "kidney_right", "pancreas", "stomach")
TRAINERS = {"naive": "nnUNetTrainerNaive", PARENT: "nnUNetTrainerAmbiguity", "ce": "nnUNetTrainerMajorityLabels"}
ROUNDS = {  # criterion, rounds
    "longer": ("none", 1),
    "restarts": ("none", 3),
    "all": ("all", 1),
    "mcp": ("mcp", 3),
    "confidence": ("confidence", 3),
    "ce_all": ("all", 1),
    "ce_soft": ("all", 1),
}
METHODS = (*TRAINERS, *ROUNDS)
MOST_ROUNDS = 3
CONFIDENCE_EPOCHS = "2"  # of its network, in every round
FULL_ID, FULL_NAME = 700, "Abdomen"  # the dataset with alpha percent of the annotations has the id 700 + alpha


@dataclass(frozen=True)
class Job:
    """One method on one fold of one dataset."""

    alpha: int
    method: str
    fold: int
    round_epochs: int

    @property
    def dataset(self) -> str:
        """Name of the dataset with alpha percent of the annotations."""
        return dataset_name(self.alpha)

    @property
    def rounds(self) -> int:
        """How many rounds follow the training on human labels."""
        return ROUNDS[self.method][1] if self.method in ROUNDS else 0

    @property
    def name(self) -> str:
        """As it stands in logs."""
        return f"alpha{self.alpha}_{self.method}_fold{self.fold}"

    def files(self, out: Path) -> RunFiles:
        """Where checkpoints and predictions lie."""
        trainer = TRAINERS[self.method if self.method in TRAINERS else parent_of(self.method)]
        fold = out / "nnUNet_results" / self.dataset / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{self.fold}"
        return RunFiles(fold, out / "nnUNet_preprocessed" / self.dataset, self.method)

    def is_done(self, out: Path) -> bool:
        """Whether the last predictions are there and judged by the trainer."""
        return (self.files(out).validation(self.rounds) / "summary.json").exists()

    def command(self, out: Path) -> list[str]:
        """What does the job, or what is left of it."""
        if self.method in TRAINERS:
            return train_command(self.dataset, self.fold, TRAINERS[self.method], self.files(out).fold)
        criterion, rounds = ROUNDS[self.method]
        trainer = TRAINERS[parent_of(self.method)]
        model = ["-d", self.dataset, "-c", CONFIGURATION, "-f", str(self.fold), "-tr", trainer, "-p", PLANS]
        epochs = str(self.round_epochs * MOST_ROUNDS // rounds)  # as many iterations in one round as in three
        how = ["--name", self.method, "--criterion", criterion, "--rounds", str(rounds), "--epochs", epochs]
        if criterion == "confidence":
            how += ["--confidence-epochs", CONFIDENCE_EPOCHS]
        if self.method == "ce_soft":
            how += ["--soft"]
        return ["nnunet_partial", "rounds", *model, *how, "--disable_tta", "-device", "cpu"]


def main() -> None:
    """Run what is missing, write results.csv and the tables."""
    args = build_parser().parse_args()
    out = args.out.resolve()
    jobs = [Job(alpha, method, fold, args.round_epochs) for method in METHODS for alpha in args.alpha for fold in args.folds]
    if not args.tables_only:
        out.mkdir(parents=True, exist_ok=True)
        refuse_other_lengths(out, {name: getattr(args, name) for name in ("epochs", "iterations", "round_epochs", "settings")})
        environment = set_up(out)
        lay_out(args.data.resolve(), out, args.alpha, environment)
        plan(out, args.alpha, environment, lengths(args))
        wanted = [job for job in jobs if job.method in args.only]
        for stage in stages(wanted):
            run_all(stage, out, environment, args.processes)
    rows = [row for job in jobs for row in judged(job, out)]
    write_tables(rows, {(job.alpha, job.method, job.fold): job.files(out) for job in jobs if job.rounds}, out)


def stages(jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """What the rounds start from, then everything else, fold by fold, so that what is there can be compared."""
    parents = {parent_of(method) for method in ROUNDS}
    first = [job for job in jobs if job.method in parents]
    return first, sorted((job for job in jobs if job.method not in parents), key=lambda job: job.fold)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = study_parser(__doc__, METHODS, epochs=40)
    parser.add_argument(
        "--alpha", type=int, nargs="+", default=[50, 20], metavar="P", help="percent of annotations that are left (50 20)"
    )
    parser.add_argument(
        "--round-epochs", type=int, default=3, help="epochs of each of three rounds; a single round has three times as many (3)"
    )
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of the plans"
    )
    return parser


def lengths(args: argparse.Namespace) -> list[str]:
    """The settings of the plans."""
    lengths = {"num_epochs": args.epochs, "num_iterations_per_epoch": args.iterations, "num_val_iterations_per_epoch": 4}
    return [*(f"{name}={value}" for name, value in lengths.items()), *args.settings]


def dataset_name(alpha: int | None = None) -> str:
    """Of the dataset with alpha percent of the annotations; without alpha, of the one that has them all."""
    return f"Dataset{FULL_ID + alpha}_{FULL_NAME}_alpha{alpha}" if alpha else f"Dataset{FULL_ID}_{FULL_NAME}"


def lay_out(data: Path, out: Path, alphas: Sequence[int], environment: dict[str, str]) -> None:
    """The fully annotated dataset, and one for each alpha with the untouched labels in references/."""
    raw = out / "nnUNet_raw"
    if not (raw / dataset_name() / "dataset.json").exists():
        what = ["-d", str(FULL_ID), "--name", FULL_NAME, "--classes", *CLASSES]
        run(["nnunet_partial", "convert", "btcv", str(data), *what, "-np", "2"], out, environment)
    for alpha in alphas:
        if not (raw / dataset_name(alpha) / "simulation.json").exists():
            new = ["--as", str(FULL_ID + alpha), "--name", dataset_name(alpha).partition("_")[2], "--missing", str(100 - alpha)]
            run(["nnunet_partial", "simulate", "-d", str(FULL_ID), *new, "-np", "2"], out, environment)


def plan(out: Path, alphas: Sequence[int], environment: dict[str, str], settings: list[str]) -> None:
    """The same tiny plan and the same folds for every alpha."""
    full = annotation_of(out, dataset_name())
    splits = stratified_splits(full, full.cases)
    for alpha in alphas:
        partial = annotation_of(out, dataset_name(alpha))
        for fold, split in enumerate(splits):
            if untaught := unannotated_anywhere(partial, split["train"]):
                raise SystemExit(f"alpha {alpha}, fold {fold}: nobody looked for {', '.join(untaught)} in the training cases")
        plan_tiny(dataset_name(alpha), out, environment, settings, splits)


def judged(job: Job, out: Path) -> list[dict]:
    """Dice of every validation case and organ after every round that is there, all organs looked for in every case."""
    rows = []
    for number in range(1, job.rounds + 1) if job.rounds else [0]:
        predictions = job.files(out).validation(number)
        if not (predictions / "summary.json").exists():
            continue
        for case in full_summary(job, out, predictions)["metric_per_case"]:
            for name, metrics in zip(CLASSES, case["metrics"].values(), strict=True):
                where = {"alpha": job.alpha, "fold": job.fold, "method": job.method, "round": number}
                rows.append({**where, "case": case["identifier"], "class": name, "Dice": metrics["Dice"]})
    return rows


def full_summary(job: Job, out: Path, predictions: Path) -> dict:
    """As `nnunet_partial evaluate --full-reference --allow-missing` says it; kept in a file beside the predictions."""
    file = predictions / "full_reference.json"
    if not file.exists() or file.stat().st_mtime < (predictions / "summary.json").stat().st_mtime:
        references = out / "nnUNet_raw" / job.dataset / "references"
        annotation = annotation_of(out, job.dataset)
        write_summary(evaluate_folder(references, predictions, annotation, full_reference=True, allow_missing=True), file)
    return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
