"""`nnunet_partial agreement`: cases that several annotators drew, they among themselves and predictions against all of them."""

import argparse
import json
from pathlib import Path

from nnunet_partial import __version__
from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
How far do the annotators of a case agree, and does a prediction match all of them?

Without -i the annotators alone, class by class: volumes, Dice and IoU distance of every two of them, the share of voxels on which
they differ, and how far each lies from the others (an annotator far from the others who agree is worth a look).

With -i the predictions of nnUNetv2_predict --save_probabilities as well:
  probabilities cut at 10 %, 20 %, ... 90 % against the averaged annotation cut there: Dice, precision, recall, HD95
  what is predicted at 50 % against each annotator: generalized energy distance, IoU distance, Dice
  calibration: ECE, Brier score and reliability diagrams, where the truth of a voxel is its share of votes

An annotator who did not look for a class, or not under an id of its own, says nothing about it and is left out there."""

EPILOG = """\
examples:
  nnunet_partial agreement -d 500                        the annotators alone; annotators_agreement/ beside annotators/
  nnunet_partial agreement -d 500 -i PREDICTIONS -np 4   predictions too, four cases at a time; agreement/ in their folder
  nnunet_partial agreement -d 500 -i fold_0/validation --allow-missing -o agreement_0
                                                         the cases of one fold only
  nnunet_partial agreement -d 517 -i PREDICTIONS -r $nnUNet_raw/Dataset517_X/annotatorsTs --full-reference
                                                         held-out cases, all of whose annotators looked for every class
  nnunet_partial agreement -d 500 -i PREDICTIONS --variance-maps
                                                         and p (1 - p) of each voxel as images, of annotators and prediction

written: agreement.json (everything), agreement.csv (a row a case and class), agreement_annotators.csv (and annotator),
agreement_levels.csv (and confidence level), reliability.png. Each says what its figures mean; docs/evaluation.md does too.

stopped? the same command goes on: finished cases lie in cases/ beside the results, which may be deleted when all is done.

next: nnunet_partial threshold, for label maps at the confidence level that suits the application."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "agreement",
        help="several annotators a case: they among themselves, and predictions against all of them",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, such as 500 or Dataset500_Abdomen"
    )
    parser.add_argument("-i", dest="predictions", type=Path, metavar="FOLDER", help="of nnUNetv2_predict --save_probabilities")
    parser.add_argument(
        "-r", dest="references", type=Path, metavar="FOLDER", help="<annotator>/<case> (default: annotators/ of the dataset)"
    )
    parser.add_argument(
        "--full-reference",
        action="store_true",
        help="every annotator looked for every class, and every subfolder is one; its cases need not be in the dataset",
    )
    parser.add_argument(
        "-o", dest="output", type=Path, metavar="FOLDER", help="default: agreement/ in that of -i, else beside the annotators"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="with -i: leave out cases without a prediction, as in one fold's validation"
    )
    parser.add_argument("--no-surface", dest="surface", action="store_false", help="with -i: leave out HD95")
    parser.add_argument("--variance-maps", action="store_true", help="write p (1 - p) of every case and class as an image")
    parser.add_argument("-np", dest="num_processes", type=int, default=1, metavar="N", help="cases at a time (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the means as JSON in place of the tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare, print, and say where the results lie."""
    from nnunet_partial.datasets import dataset_name, read_dataset_json
    from nnunet_partial.evaluation.annotators import agreement_text, annotator_agreement, write_agreement
    from nnunet_partial.evaluation.report_text import for_programs
    from nnunet_partial.labels import Annotation
    from nnunet_partial.paths import nnunet_folder

    if args.num_processes < 1:
        raise ValueError(f"-np {args.num_processes}: at least one process is needed")
    if args.allow_missing and args.predictions is None:
        raise ValueError("--allow-missing needs predictions (-i)")
    name = dataset_name(args.dataset)
    dataset_json = read_dataset_json(name)
    annotators = args.references or nnunet_folder("nnUNet_raw") / name / "annotators"
    beside = annotators.with_name(f"{annotators.name}_agreement")
    output = args.output or (args.predictions / "agreement" if args.predictions else beside)
    summary = annotator_agreement(
        annotators,
        Annotation.from_dataset_json(dataset_json),
        dataset_json["file_ending"],
        num_processes=args.num_processes,
        progress=not args.json,
        prediction_dir=args.predictions,
        full_reference=args.full_reference,
        allow_missing=args.allow_missing,
        surfaces=args.surface,
        variance_dir=output / "variance_maps" if args.variance_maps else None,
        cache_dir=output / "cases",
    )
    arguments = {option: str(value) for option, value in vars(args).items() if option != "run" and value is not None}
    files = write_agreement(summary, output, {"nnunet_partial": __version__, "arguments": arguments})
    if args.json:
        means = {key: value for key, value in summary.items() if key != "per_case"}
        print(json.dumps(for_programs({"summary_file": str(files[0]), **means}, {})))
        return 0
    print(f"\n{agreement_text(summary)}\n")
    for key, what in (
        ("with_one_map", "cases have one label map only and are not compared"),
        ("without_prediction", "cases have no prediction and are left out"),
        ("not_of_annotators", "predictions are not of cases that several annotators drew"),
    ):
        if summary[key]:
            print(f"{len(summary[key])} {what}")
    written = ", ".join(file.name for file in files) + (", variance_maps/" if args.variance_maps else "")
    print(f"{len(summary['per_case'])} cases compared; {output}: {written}")
    return 0
