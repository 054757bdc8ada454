"""Criteria of confidence side by side on one network, nothing trained on what they label: figure 3 of Shi et al. 2022 in small.

    python -m benchmarks.uncertainty --data DIR/btcv --out OUT [--networks inerrant0_50 coranet_50] [--folds 0]

Networks are methods of the study (`benchmarks/study/study.yaml`), trained on human labels of which some are missing; an OUT of
the study is taken as it is. Two are ranked if none is named: inerrant0_50, of the ambiguity loss, and coranet_50, with a
conservative and a radical branch beside the network, the only one whose branches can rank.

Then `nnunet_partial rounds relabel` ranks the predictions of missing organs in every training case once by every criterion:
mcp, dropout, augmentation, confidence, aleatoric, and with coranet branches. All criteria of a network rank the same voxels.
Judged by the untouched labels: how well right predictions come before wrong ones, and what of a ranking would become labels.

A rerun skips what is finished and goes on where a job stopped. Everything lies below OUT: nnU-Net's three folders, logs/ (a file
a job), uncertainty.csv (a row a network, fold, criterion and organ) and uncertainty.md (what is printed).
"""

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.special import logit

from benchmarks.study.job import StudyJob
from benchmarks.study.protocol import read_study
from benchmarks.study.train import environment_of, train
from benchmarks.trainings import CONFIGURATION, PLANS, Job, annotation_of, run_all, single_threaded
from benchmarks.uncertainty_tables import FRACTIONS, MEASURES, THRESHOLDS, write_tables
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.pseudo_labels.audit_rows import ALL_SOURCES, MEAN, read_audit
from nnunet_partial.pseudo_labels.confidence_training import CURVES
from nnunet_partial.pseudo_labels.files import RoundFiles, RunFiles
from nnunet_partial.pseudo_labels.references import ReferenceMaps
from nnunet_partial.pseudo_labels.relabel import unannotated_ids
from nnunet_partial.pseudo_labels.request import LEARNED, TAKEN_BY
from nnunet_partial.pseudo_labels.selection import select_pseudo_labels
from nnunet_partial.training.arrays import open_array

NETWORKS = ("inerrant0_50", "coranet_50")
CRITERIA = ("mcp", "dropout", "augmentation", "confidence", "aleatoric", "branches")
SELECTIONS = "selections.json"
Counts = dict[str, dict[str, tuple[int, int, int]]]  # selection -> class -> right, selected, there


@dataclass(frozen=True)
class Ranked(Job):
    """One criterion on one network."""

    parent: StudyJob
    criterion: str
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it stands in logs."""
        return f"{self.parent.name}_rank_{self.criterion}"

    def files(self, out: Path) -> RunFiles:
        """Where predictions, scores and audit lie."""
        files = self.parent.files(out)
        return RunFiles(files.fold, files.dataset, f"rank_{self.criterion}")

    def is_done(self, out: Path) -> bool:
        """Whether every case is ranked, and audited."""
        return (self.files(out).results / "audit.json").exists()

    def command(self, out: Path) -> list[str]:
        """What ranks, or ranks the rest."""
        how = ["--name", self.files(out).name, "--criterion", self.criterion, "--rounds", "1", "--disable_tta", "-device", "cpu"]
        relabel = ["nnunet_partial", "rounds", "relabel", *self.parent.model, *how, *self.options]
        return single_threaded(relabel)


def main() -> None:
    """Run what is missing, write uncertainty.csv and the tables."""
    args = build_parser().parse_args()
    study, out = read_study(), args.out.resolve()
    parents = [StudyJob(study, network, fold) for network in args.networks for fold in args.folds]
    ranked = [
        Ranked(parent, criterion, options_of(criterion, args))
        for parent in parents
        for criterion in args.criteria
        if criterion != "branches" or "CoraNet" in parent.entry.trainer
    ]
    if not args.tables_only:
        out.mkdir(parents=True, exist_ok=True)
        train(parents, args.data.resolve(), out, args.processes)
        run_all(ranked, out, environment_of(out), args.processes)
    write_tables([row for job in ranked if job.is_done(out) for row in judged(job, out)], out)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with img/ and label/ of BTCV")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="METHOD", help=f"to rank ({' '.join(NETWORKS)})")
    parser.add_argument("--folds", type=int, nargs="+", default=[0], metavar="F", help="of five (default: 0)")
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=CRITERIA, metavar="CRITERION", help="rank by these")
    parser.add_argument("--passes", type=int, default=10, help="of dropout, augmentation and aleatoric (default: 10)")
    parser.add_argument("--dropout-rate", type=float, default=0.2, help="default: 0.2")
    parser.add_argument("--noise", type=float, default=0.1, help="of augmentation (default: 0.1)")
    parser.add_argument("--confidence-epochs", type=int, default=2, help="of networks that learn to rank (default: 2)")
    parser.add_argument("--processes", type=int, default=2, help="jobs at a time, a thread each (default: 2)")
    parser.add_argument("--tables-only", action="store_true", help="judge what is there, and run nothing")
    return parser


def options_of(criterion: str, args: argparse.Namespace) -> tuple[str, ...]:
    """What the command line says of a criterion."""
    options = ["--confidence-epochs", str(args.confidence_epochs)] if criterion in LEARNED else []
    for name in (name for name, criteria in TAKEN_BY.items() if criterion in criteria):
        options += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    return tuple(options)


def judged(job: Ranked, out: Path) -> list[dict]:
    """A row an organ: ranking metrics, and of each selection PPV, TPR and CSI over the training cases that miss the organ."""
    files = job.files(out)
    counts, times = (
        selections(job, out),
        {"seconds": seconds_a_case(files.round(1)), "learning": learning_seconds(files.round(1))},
    )
    rows = []
    for audit in read_audit(files):
        if audit.round != 1 or audit.source != ALL_SOURCES or audit.class_name == MEAN:
            continue
        where = {"parent": job.parent.method, "fold": job.parent.fold, "criterion": job.criterion}
        ranking = {"AUC": audit.auc, "AP_success": audit.ap_success, "AP_error": audit.ap_error}
        chosen = {
            f"{measure} {name}": value
            for name, classes in counts.items()
            for measure, value in zip(MEASURES, measures(*classes[audit.class_name]), strict=True)
        }
        rows.append({**where, "class": audit.class_name, **ranking, **chosen, **times})
    return rows


def measures(right: int, selected: int, there: int) -> tuple[float, float, float]:
    """PPV, TPR and CSI (Shi et al. 2022, section IV D); NaN where there is nothing to divide by."""
    missed = there - right
    return tuple(right / whole if whole else np.nan for whole in (selected, there, selected + missed))


def selections(job: Ranked, out: Path) -> Counts:
    """Of each selection and organ: voxels selected rightly, selected, and of the organ; kept in a file beside the audit."""
    file = job.files(out).results / SELECTIONS
    if not file.exists() or file.stat().st_mtime < (job.files(out).results / "audit.json").stat().st_mtime:
        write_json(count_selections(job, out), file)
    return json.loads(file.read_text(encoding="utf-8"))


def count_selections(job: Ranked, out: Path) -> Counts:
    """What of a ranking becomes labels, by fraction (rounds) and by threshold (the paper), against the untouched labels."""
    run, annotation = job.files(out), annotation_of(out, job.parent.dataset)
    plans = PlansManager(str(run.dataset / f"{PLANS}.json"))
    configuration = plans.get_configuration(CONFIGURATION)
    references = ReferenceMaps(out / "nnUNet_raw" / job.parent.dataset, run.dataset, plans, configuration)
    totals = {name: {organ: [0, 0, 0] for organ in annotation.space.classes} for name in (*FRACTIONS, *THRESHOLDS)}
    for record in sorted((run.round(1).preprocessed / "cases").glob("*.json")):
        case, reference = record.stem, references.load(record.stem)
        for name, labels in selected(case, run.round(1), run.dataset / configuration.data_identifier, annotation):
            for number in unannotated_ids(annotation, case):
                organ = annotation.space.classes[number - 1]
                if references.shows(case, organ):
                    own, there = labels == number, reference == number
                    found = [int(np.count_nonzero(voxels)) for voxels in (own & there, own, there)]
                    totals[name][organ] = [before + more for before, more in zip(totals[name][organ], found, strict=True)]
    return totals


def selected(case: str, files: RoundFiles, human_folder: Path, annotation: Annotation) -> list[tuple[str, np.ndarray]]:
    """The pseudo-labels of a case, (1, *S) each, 0 elsewhere, by the name of the selection."""
    human = open_array(human_folder / f"{case}_seg.b2nd")[:]
    prediction, scores = open_array(files.prediction_of(case))[:], open_array(files.score_of(case))[:]
    ids = unannotated_ids(annotation, case)

    def labels(fraction: float) -> np.ndarray:
        return np.where(human == 0, select_pseudo_labels(prediction, scores, human, human, ids, fraction)[0], 0)

    by_fraction = [(name, labels(fraction)) for name, fraction in FRACTIONS.items()]
    return [*by_fraction, *((name, np.where(scores > logit(least), prediction, 0)) for name, least in THRESHOLDS.items())]


def seconds_a_case(files: RoundFiles) -> float:
    """Mean time to predict, rank and write a case."""
    records = (files.preprocessed / "cases").glob("*.json")
    return fmean(json.loads(record.read_text(encoding="utf-8"))["seconds"] for record in records)


def learning_seconds(files: RoundFiles) -> float:
    """Time to train what learns to rank; 0 where nothing does."""
    curves = files.confidence / CURVES
    if not curves.exists():
        return 0.0
    with curves.open(newline="", encoding="utf-8") as stream:
        return sum(float(row["seconds"]) for row in csv.DictReader(stream))


if __name__ == "__main__":
    main()
