"""`nnunet_partial duplicates`: scans that occur twice, in a dataset or in it and among held-out scans."""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.dataset_conversion.duplicates.find import Duplicate
    from nnunet_partial.labels import Annotation, DatasetRecord

DESCRIPTION = """\
Find scans that occur twice in a dataset, whatever their files look like: public datasets contain one another, and a scan that is
trained on and validated on makes every result too good.

Groups of cases that show the same scan are recorded in duplicates.json and in dataset.json, and our splits keep each on one side.
Run it before `nnunet_partial plan`, which hands dataset.json on; `nnunet_partial convert` keeps what is recorded.

exact      the same voxels, whatever data type, storage order, compression or origin
mirrored   the same voxels along other axes: one of the two headers is wrong
near       resampled, cropped, clipped or made noisy: perceptual hashes, then a correlation of at least 0.96"""

EPILOG = """\
examples:
  nnunet_partial duplicates -d 500                               find and record
  nnunet_partial duplicates -d 500 --dry-run --json -            find only; exit status 1 where there are any
  nnunet_partial duplicates -d 500 --held-out ~/test/images      no training case may be among these; exit status 1 if one is
  nnunet_partial duplicates -d 500 --merge -o 501                one case of each scan, with the annotations of all of them
  nnunet_partial duplicates -d 500 --drop most_classes -o 501 AbdomenOnce

-o writes a new dataset beside the old one, which is not touched; images are linked. Of cases that are merged, the first in the
order of the pool wins where they disagree; what disagreed is counted in label_manifest.json. --merge needs voxels that lie on one
another: a cropped or resampled copy is said and stays a case of its own.
Hashes are kept in .scan_hashes/ in the dataset's folder, so a killed or repeated run goes on where it stopped.

exit status: 0 nothing found, or all dealt with; 1 a held-out scan is among the training cases, splits_final.json separates a
group, or duplicates were found with --dry-run."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "duplicates",
        help="find scans that occur twice, and keep them from leaking",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument("-d", dest="dataset", required=True, metavar="ID", help="dataset id or name")
    parser.add_argument(
        "--held-out", nargs="+", type=Path, default=[], metavar="FOLDER", help="NIfTI images that must not be trained on"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--drop", choices=("most_classes", "first"), help="write a dataset with one case of each scan; which one")
    what.add_argument("--merge", action="store_true", help="write a dataset in which the cases of one scan are one case")
    what.add_argument("--dry-run", action="store_true", help="say what was found, and record nothing")
    parser.add_argument("-o", dest="output", nargs="+", metavar=("ID", "NAME"), help="id and name (default: the old one) of it")
    parser.add_argument("--json", metavar="FILE|-", help="also write what was found as JSON; - prints it in place of the table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write one row a pair")
    parser.add_argument("-np", dest="num_processes", type=int, default=4, metavar="N", help="scans read at a time (default: 4)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find, report, record or write a new dataset."""
    if bool(args.output) != bool(args.drop or args.merge) or len(args.output or ()) > 2:
        raise ValueError("--drop and --merge write a new dataset, and need its id (and name): -o ID [NAME]")

    from nnunet_partial.dataset_conversion.duplicates.search import search_dataset
    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.paths import nnunet_folder

    folder = nnunet_folder("nnUNet_raw") / dataset_name(args.dataset)
    target = _target(args, folder) if args.output else None
    quiet = args.json == "-"
    found = search_dataset(folder, args.held_out, num_processes=args.num_processes, progress=not quiet)
    _report(args, found.pairs, found.groups)
    print(found.in_words, file=sys.stderr if quiet else sys.stdout)
    status = int(any(pair.held_out for pair in found.pairs))
    if status:
        print("training cases are among the held-out scans: leave them out of the pool, or hold out others", file=sys.stderr)
    if args.dry_run:
        return int(bool(found.pairs))
    if target:
        lines = _write_new(args, folder, target, found.pairs, found.groups)
    else:
        separated, lines = _record(folder, found.groups)
        status = max(status, separated)
    for line in lines:
        print(line, file=sys.stderr if quiet else sys.stdout)
    return status


def _report(args: argparse.Namespace, pairs: list["Duplicate"], groups: list[tuple[str, ...]]) -> None:
    rows = [vars(pair) for pair in pairs]
    content = {"groups": [list(group) for group in groups], "pairs": rows}
    if args.json == "-":
        print(json.dumps(content, indent=2))
    elif args.json:
        from nnunet_partial.labels import write_json

        write_json(content, Path(args.json))
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["first", "second", "kind", "correlation", "held_out", "remark"])
            writer.writeheader()
            writer.writerows(rows)
    if rows and args.json != "-":
        widths = [max(len(row[key]) for row in rows) for key in ("first", "second")]
        for row in rows:
            remark = "; ".join(part for part in ("HELD OUT" if row["held_out"] else "", row["remark"]) if part)
            line = f"{row['first']:{widths[0]}}  {row['second']:{widths[1]}}  {row['kind']:8}  {row['correlation']:.4f}  {remark}"
            print(line.rstrip())


def _record(folder: Path, groups: list[tuple[str, ...]]) -> tuple[int, list[str]]:
    """Record the groups; a splits file that separates one is a fault."""
    from nnunet_partial.dataset_conversion.duplicates.scan_groups import DUPLICATES_NAME, record_groups
    from nnunet_partial.paths import nnunet_folder

    annotation = record_groups(folder, groups)
    if not groups:
        return 0, []
    lines = [f"recorded in {folder / DUPLICATES_NAME} and dataset.json: our splits keep each group on one side"]
    preprocessed = nnunet_folder("nnUNet_preprocessed") / folder.name
    if (preprocessed / "dataset.json").exists():
        lines.append(f"{preprocessed / 'dataset.json'} is a copy from before: run `nnunet_partial plan -d {folder.name}` again")
    else:
        lines.append(f"next: nnunet_partial plan -d {folder.name}")
    return _separated(annotation, preprocessed / "splits_final.json", lines)


def _separated(annotation: "Annotation", splits_file: Path, lines: list[str]) -> tuple[int, list[str]]:
    from nnunet_partial.training.splits import separated_scans

    splits = json.loads(splits_file.read_text(encoding="utf-8")) if splits_file.exists() else []
    separated = separated_scans(annotation, splits)
    for group in separated:
        lines.append(f"{splits_file} trains and validates on one scan: {', '.join(group)}")
    if separated:
        lines.append("remove that file and train the folds again; our trainers then write one that keeps each group together")
    return int(bool(separated)), lines


def _target(args: argparse.Namespace, folder: Path) -> "DatasetRecord":
    """Id and name of the new dataset, refused before the long work where they cannot be had."""
    from nnunet_partial.dataset_conversion.duplicates.deduplicate import refuse_taken_id
    from nnunet_partial.labels import DatasetRecord

    number, name = (*args.output, folder.name.split("_", 1)[1])[:2]
    try:
        target = DatasetRecord(id=number, name=name)
    except ValueError:
        raise ValueError(
            f"-o {number} {name}: the id of the new dataset is a number from 1 to 999, its name letters, digits, '_' and '-'"
        ) from None
    refuse_taken_id(folder.parent, target)
    return target


def _write_new(
    args: argparse.Namespace,
    folder: Path,
    target: "DatasetRecord",
    pairs: list["Duplicate"],
    groups: list[tuple[str, ...]],
) -> list[str]:
    """Write the dataset without duplicates beside the old one; what was done, in words."""
    if not groups:
        return [f"no scan occurs twice, so {target.folder_name} was not written"]
    from nnunet_partial.dataset_conversion.duplicates.deduplicate import drop_duplicates, merge_duplicates

    if args.drop:
        written, lines = drop_duplicates(folder, target, groups, args.drop)
    else:
        exact = {frozenset((pair.first, pair.second)) for pair in pairs if pair.kind == "exact"}
        written, lines = merge_duplicates(folder, target, groups, exact)
    return [*lines, f"the new dataset lies in {written}", f"next: nnunet_partial plan -d {target.id}"]
