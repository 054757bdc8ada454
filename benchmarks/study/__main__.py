"""The study: what each method of this package brings on real CT, all under one protocol.

    python -m benchmarks.study --data DIR/btcv --out OUT                         everything
    python -m benchmarks.study --data DIR/btcv --out OUT --reduced               some methods, on one fold
    python -m benchmarks.study --data DIR/btcv --out OUT --reduced --against docs/study    and beside the figures in the docs
    python -m benchmarks.study --data DIR/btcv --out OUT --parts pooling recipe  two parts of it
    python -m benchmarks.study --data DIR/btcv --out OUT --known docs/study      what has no figures there yet
    python -m benchmarks.study --out OUT --tables-only                           judges what is there, and trains nothing
    python -m benchmarks.study --out OUT --known docs/study --tables-only        the tables of the docs, out of their figures

DIR/btcv holds img/imgNNNN.nii.gz and label/labelNNNN.nii.gz of BTCV, 24 scans here. benchmarks/study/study.yaml says what is
trained: datasets of which labels are taken away or drawn by several annotators, methods, what is compared. All networks have the
tiny plan (5 mm voxels, patches of 32 x 48 x 48, 8 to 64 features) and one thread; all folds are the same cases, and every
held-out scan is judged by its untouched labels.

A rerun skips what is finished and goes on where a job stopped. Everything lies below OUT: nnU-Net's three folders, logs/ (a file
a job), jobs/ (what each took), PART.csv (a row a method, fold, round, case and organ), PART_rounds.csv (what rounds labelled),
PART_calibration.csv (of soft labels, over all cases), PART.png, PART.md (what is printed), repeats.csv and repeats.md (--against:
how far trainings of one method are from each other). A changed entry of study.yaml is noticed: what was trained otherwise is
refused in OUT, and left out of --known and --against.
"""

import argparse
from pathlib import Path

from benchmarks.study.job import StudyJob, in_order
from benchmarks.study.judge import WITH_PROBABILITIES
from benchmarks.study.protocol import STUDY, Study, read_study
from benchmarks.study.results import is_known, known_figures, write_part, write_repeats
from benchmarks.study.train import train


def main() -> None:
    """Run what is missing, write the figures and tables."""
    parser = build_parser()
    args = parser.parse_args()
    if args.data is None and not args.tables_only:
        parser.error("--data is needed to train anything")
    study, out = read_study(args.study), args.out.resolve()
    if args.reduced:
        study = study.shortened()
    names = args.parts or list(study.parts)
    if lacking := [name for name in names if name not in study.parts]:
        parser.error(f"the reduced study has nothing of {', '.join(lacking)}: it has {', '.join(study.parts)}")
    if args.folds:
        study = study.model_copy(update={"folds": tuple(args.folds)})
    jobs = in_order([job for name in study.parts for job in jobs_of(study, name)])
    known = known_figures(args.known, study)
    earlier = {folder: known_figures(folder, study) for folder in args.against or ()}
    for folder, found in [(args.known, known), *earlier.items()]:
        if folder and found.rows.empty:
            parser.error(f"{folder} has no figures of what is trained here: it should hold PART.csv of an earlier run")
    if not args.tables_only:
        out.mkdir(parents=True, exist_ok=True)
        wanted = [job for job in jobs if args.methods is None or job.method in args.methods]
        wanted = [job for job in wanted if any(job.method in study.parts[name].methods for name in names)]
        train([job for job in wanted if not is_known(job, known)], args.data.resolve(), out, args.processes)
    for name in names:
        print(write_part(name, jobs, known, out))
    if args.against:
        print(write_repeats(list(earlier.values()), jobs, out))


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with img/ and label/ of BTCV")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--study", type=Path, default=STUDY, help="another study.yaml")
    parser.add_argument("--reduced", action="store_true", help="some methods, on one fold")
    parser.add_argument("--parts", nargs="+", choices=list(read_study().parts), metavar="PART", help="these alone")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="these alone, and what they go on from")
    parser.add_argument("--folds", type=int, nargs="+", metavar="F", help="of five (default: the study's)")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--known", type=Path, metavar="FOLDER", help="with PART.csv of an earlier run: what is there is not trained again"
    )
    earlier.add_argument(
        "--against",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="with PART.csv of an earlier run, or several: train all the same, and show them side by side",
    )
    parser.add_argument("--processes", type=int, default=2, help="jobs at a time, a thread each (default: 2)")
    parser.add_argument("--tables-only", action="store_true", help="judge what is there, and train nothing")
    return parser


def jobs_of(study: Study, part: str) -> list[StudyJob]:
    """All jobs of a part."""
    probabilities = study.parts[part].judged == WITH_PROBABILITIES
    return [StudyJob(study, method, fold, probabilities) for method in study.parts[part].methods for fold in study.folds]


if __name__ == "__main__":
    main()
