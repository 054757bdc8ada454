"""A round's relabelling from the command line, beside the two stock commands that go by way of raw images.

    python -m benchmarks.relabel --out OUT --method mean_teacher --fold 0 --reps 3

OUT is a folder of `benchmarks.study` in which the method is trained on the fold. *stock*: nnUNetv2_predict of the fold's training
images in which some organ is unannotated, then nnUNetv2_preprocess of the same cases; painting predictions into label maps, what
comes between, is left out. *ours*: nnunet_partial rounds relabel --criterion mcp. Whole processes of one worker and one thread,
wall clock, no mirrored copies, alternating in shuffled order; the network is the same.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from benchmarks.ratios import alternate, machine, show
from benchmarks.study.job import StudyJob
from benchmarks.study.layout import plans_name
from benchmarks.study.protocol import read_study
from benchmarks.study.train import environment_of
from benchmarks.trainings import CONFIGURATION, annotation_of, run
from nnunet_partial.labels import write_json
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.pseudo_labels.relabel import unannotated_ids

NAME = "benchmark"  # of the run of rounds
COPIED = ("dataset.json", "dataset_fingerprint.json")


class Stock:
    """The two stock commands on a copy of the dataset that holds the relabelled cases alone; the original stays as it is."""

    def __init__(self, job: StudyJob, cases: list[str], out: Path, scratch: Path):
        self.dataset, self.plans, self.model, self.scratch = job.dataset, plans_name(job.method), job.model, scratch
        folders = {"nnUNet_raw": str(scratch / "raw"), "nnUNet_preprocessed": str(scratch / "preprocessed")}
        self.environment = {**environment_of(out), **folders}
        raw, of_out = scratch / "raw" / self.dataset, out / "nnUNet_raw" / self.dataset
        for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
            (raw / folder).mkdir(parents=True)
            for case in cases:
                (raw / folder / f"{case}{ending}").symlink_to(of_out / folder / f"{case}{ending}")
        dataset_json = json.loads((of_out / "dataset.json").read_text(encoding="utf-8"))
        write_json({**dataset_json, "numTraining": len(cases)}, raw / "dataset.json")
        (scratch / "preprocessed" / self.dataset).mkdir(parents=True)
        for name in (*COPIED, f"{self.plans}.json"):
            shutil.copyfile(out / "nnUNet_preprocessed" / self.dataset / name, scratch / "preprocessed" / self.dataset / name)

    def relabel(self) -> None:
        """Predict, preprocess."""
        images, predictions = self.scratch / "raw" / self.dataset / "imagesTr", self.scratch / "predictions"
        where = ["-i", str(images), "-o", str(predictions), "-device", "cpu", "--disable_tta", "-npp", "1", "-nps", "1"]
        run(["nnUNetv2_predict", *where, *self.model], self.scratch, self.environment)
        what = ["-d", self.dataset[7:10], "-plans_name", self.plans, "-c", CONFIGURATION, "-np", "1"]
        run(["nnUNetv2_preprocess", *what], self.scratch, self.environment)


class Ours:
    """Relabelling in preprocessed space."""

    def __init__(self, job: StudyJob, out: Path):
        self.job, self.out = job, out
        self.files = RunFiles(job.training(out), job.files(out).dataset, NAME)

    def forget(self) -> None:
        """Remove what an earlier repetition wrote."""
        for folder in (self.files.results, self.files.preprocessed):
            shutil.rmtree(folder, ignore_errors=True)

    def relabel(self) -> None:
        """Label what nobody annotated in the fold's training cases."""
        how = ["--name", NAME, "--criterion", "mcp", "--rounds", "1", "--disable_tta", "-device", "cpu"]
        run(["nnunet_partial", "rounds", "relabel", *self.job.model, *how], self.out, environment_of(self.out))


def relabelled_cases(job: StudyJob, out: Path) -> list[str]:
    """The fold's training cases in which some organ is unannotated."""
    annotation = annotation_of(out, job.dataset)
    splits = json.loads((job.files(out).dataset / "splits_final.json").read_text(encoding="utf-8"))
    return [case for case in splits[job.fold]["train"] if unannotated_ids(annotation, case)]


def main() -> None:
    """Measure, print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--method", default="exclusion", help="of the study, trained there (default: exclusion)")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    out = args.out.resolve()
    job = StudyJob(read_study(), args.method, args.fold)
    if not job.is_done(out):
        raise SystemExit(f"{job.name} is not trained in {out}; python -m benchmarks.study --out {out} --methods {args.method}")
    cases = relabelled_cases(job, out)
    with tempfile.TemporaryDirectory() as scratch:
        stock, ours = Stock(job, cases, out, Path(scratch)), Ours(job, out)
        runs = {"stock": stock.relabel, "ours": ours.relabel}
        rows = alternate(runs, "stock", args.reps, "wall", before=ours.forget)
        ours.forget()
    rows = [{"allocator": "default", **row} for row in rows]
    show(machine() | {"cases": len(cases), "reps": args.reps}, rows, "relabelling", "stock", args.json)


if __name__ == "__main__":
    main()
