"""`nnunet_partial verify`: is the converted dataset fit to be trained on, and who annotated what?"""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.dataset_conversion.verify import Report

DESCRIPTION = """\
Check a dataset in $nnUNet_raw before anything is trained on it: images and label maps against each other, against protocols and
manifest, and against the anatomy. Says in how many cases of each source each class was looked for, is there, or is absent.

Results are kept beside the dataset (.verification.json): a second run reads only the cases that are new or changed."""

EPILOG = """\
a fault is something training would suffer from; the exit status is then 1:
  missing file, extra file, numTraining, manifest, unreadable, affine, orientation, geometry, spacing below 0.1 mm, NaN,
  constant image, rescaled, label ids, unannotated, label counts, absent, volume, anatomy, mismatch,
  annotators (two that are copies, or one who never meets the others)
a remark is unusual and may well be right; the exit status stays 0, or is 1 with --strict:
  unknown spacing, spacing, intensity range, no air, empty label map, absent, parts, specks, volume (cut by the scan),
  HU in organs, other files, annotators (in one case only)
docs/verify.md says what each one means and what to do.

examples:
  nnunet_partial verify -d 500 -np 8
  nnunet_partial verify -d 500 --picture coverage.png --coverage-csv coverage.csv
  nnunet_partial verify -d 500 --json - | jq '.findings[] | select(.severity == "fault")'
  nnunet_partial verify -d 500 --strict && nnunet_partial plan -d 500"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "verify",
        help="is the dataset fit to be trained on, and who annotated what?",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, such as 500 or Dataset500_Abdomen"
    )
    parser.add_argument(
        "-np",
        dest="num_processes",
        type=int,
        default=None,
        metavar="N",
        help="cases checked at a time (default: one a core, at most 8)",
    )
    parser.add_argument("--fresh", action="store_true", help="read every case, whatever an earlier run found")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 for remarks as well")
    parser.add_argument(
        "-n", "--examples", type=int, default=3, metavar="N", help="examples printed of each kind (default: 3); files have all"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; '-' prints it in place of the report")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row per finding")
    parser.add_argument("--coverage-csv", type=Path, metavar="FILE", help="write one row per class and source")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the coverage, .png or .svg")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify, write what was asked for, print; 1 where there are faults."""
    if args.num_processes is not None and args.num_processes < 1:
        raise ValueError(f"-np {args.num_processes}: at least one process is needed")
    if args.examples < 0:
        raise ValueError(f"-n {args.examples}: a number of examples is not negative")

    from nnunet_partial.dataset_conversion.verify import FAULT, report_json, report_text, verify_dataset
    from nnunet_partial.dataset_conversion.verify.coverage_picture import check_picture_path
    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.paths import nnunet_folder

    if args.picture:
        check_picture_path(args.picture)  # before the long work
    folder = nnunet_folder("nnUNet_raw") / dataset_name(args.dataset)
    num_processes = args.num_processes or min(8, os.cpu_count() or 1)
    report = verify_dataset(folder, num_processes, fresh=args.fresh, progress=args.json != "-")
    written = _write_files(args, report)
    if args.json == "-":
        print(json.dumps(report_json(report), indent=2, ensure_ascii=False))
    else:
        print("\n".join([report_text(report, max_examples=args.examples), *(f"{what}: {path}" for what, path in written)]))
    return int(bool(report.of(FAULT) or (args.strict and report.findings)))


def _write_files(args: argparse.Namespace, report: "Report") -> list[tuple[str, Path]]:
    """Write the files that were asked for; returns what each one is."""
    from nnunet_partial.dataset_conversion.verify import coverage_rows, draw_coverage, finding_rows, report_json
    from nnunet_partial.dataset_conversion.verify.report import write_rows
    from nnunet_partial.labels import write_json

    written = []
    if args.json and args.json != "-":
        write_json(report_json(report), Path(args.json))
        written.append(("everything", Path(args.json)))
    if args.csv:
        write_rows(finding_rows(report), ("severity", "kind", "case", "source", "message"), args.csv)
        written.append(("findings", args.csv))
    if args.coverage_csv:
        rows = coverage_rows(report.coverage)
        write_rows(rows, tuple(rows[0]), args.coverage_csv)
        written.append(("coverage", args.coverage_csv))
    if args.picture:
        draw_coverage(report.coverage, args.picture, title=report.dataset)
        written.append(("picture", args.picture))
    return written
