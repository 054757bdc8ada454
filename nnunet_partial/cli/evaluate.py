"""`nnunet_partial evaluate`: Dice per class and source over what each case's annotators looked for."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.labels import LabelSpace

DESCRIPTION = """\
Judge predictions over the classes that were looked for in each case, and only those: nnU-Net's own evaluation counts a correct
prediction of an unannotated organ as an error.

Writes summary.json in nnU-Net's own shape. A class that nobody looked for in a case is NaN there and enters no mean; classes that
share a label id ("kidney" without a side) are judged together, under a key such as "(4, 5)"."""

EPILOG = """\
examples:
  nnunet_partial evaluate -d 500 -i PREDICTIONS                      training cases, against labelsTr
  nnunet_partial evaluate -d 500 -i PREDICTIONS -r TRUTH --full-reference --csv dice.csv
                                                                     held-out cases whose references show every class
  nnunet_partial evaluate -d 511 -i PREDICTIONS -r $nnUNet_raw/Dataset511_X/references --full-reference --allow-missing -o FILE
                                                                     a dataset of `simulate`: training cases of it, with all the
                                                                     organs that were dropped (its labelsTs: the held-out cases)
  nnunet_partial evaluate -d 500 --crossval -tr nnUNetTrainerMarginalExclusion -c 2d 3d_fullres
                                                                     what model selection reads

model selection: nnUNetv2_find_best_configuration judges the folds again by its own rules, unless their joint folder
crossval_results_folds_0_1_2_3_4 is there already and it is told to keep it. So first run the third example, then
  nnUNetv2_find_best_configuration 500 -tr nnUNetTrainerMarginalExclusion -c 2d 3d_fullres --disable_ensembling --no_overwrite
Ensembles it would judge by its own rules even so: leave --disable_ensembling in. What it says after postprocessing is by its own
rules wherever postprocessing changed anything; it keeps a postprocessing step only where that is above our Dice."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="Dice per class and source over annotated classes",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, such as 500 or Dataset500_Abdomen"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-i", dest="predictions", type=Path, metavar="FOLDER", help="predictions, <identifier>.nii.gz")
    what.add_argument("--crossval", action="store_true", help="the validation predictions of trained models (-tr -p -c -f)")
    parser.add_argument(
        "-r", dest="references", type=Path, metavar="FOLDER", help="references (default: the dataset's training labels)"
    )
    parser.add_argument(
        "--full-reference",
        action="store_true",
        help="every class was looked for in every reference; its cases need not be in the dataset",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="with -r: judge what there is, where references have no prediction"
    )
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="default: summary.json beside the predictions")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write one row per case and class")
    parser.add_argument("--json", action="store_true", help="print the means as JSON in place of the table")
    parser.add_argument("-np", dest="num_processes", type=int, default=1, metavar="N", help="cases judged at a time (default: 1)")
    models = parser.add_argument_group("with --crossval, as for nnUNetv2_find_best_configuration")
    models.add_argument("-tr", dest="trainers", nargs="+", default=["nnUNetTrainerMarginalExclusion"], metavar="TRAINER")
    models.add_argument("-p", dest="plans", nargs="+", default=["nnUNetPlans"], metavar="PLANS")
    models.add_argument("-c", dest="configurations", nargs="+", default=["3d_fullres"], metavar="CONF")
    models.add_argument("-f", dest="folds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="FOLD")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge, print, and say where the summary lies."""
    if args.num_processes < 1:
        raise ValueError(f"-np {args.num_processes}: at least one process is needed")
    return _run_crossval(args) if args.crossval else _run_folder(args)


def _run_folder(args: argparse.Namespace) -> int:
    from nnunet_partial.datasets import dataset_name, read_dataset_json, training_references
    from nnunet_partial.evaluation import evaluate_folder, write_summary
    from nnunet_partial.labels import Annotation

    name = dataset_name(args.dataset)
    dataset_json = read_dataset_json(name)
    annotation = Annotation.from_dataset_json(dataset_json)
    summary = evaluate_folder(
        args.references or training_references(name),
        args.predictions,
        annotation,
        dataset_json["file_ending"],
        num_processes=args.num_processes,
        progress=not args.json,
        full_reference=args.full_reference,
        allow_missing=args.references is None or args.allow_missing,
    )
    output = args.output or args.predictions / "summary.json"
    write_summary(summary, output)
    _report(args, summary, annotation.space, output)
    return 0


def _run_crossval(args: argparse.Namespace) -> int:
    from nnunet_partial.datasets import dataset_name, training_references
    from nnunet_partial.evaluation import merge_crossval
    from nnunet_partial.labels import Annotation
    from nnunet_partial.paths import nnunet_folder

    unused = {
        "-o": args.output,
        "--csv": args.csv,
        "--full-reference": args.full_reference,
        "--allow-missing": args.allow_missing,
    }
    if any(unused.values()):
        raise ValueError(f"--crossval does not take {', '.join(option for option, value in unused.items() if value)}")
    name = dataset_name(args.dataset)
    results = nnunet_folder("nnUNet_results") / name
    models = [
        results / f"{trainer}__{plans}__{conf}"
        for trainer in args.trainers
        for plans in args.plans
        for conf in args.configurations
    ]
    missing = [model.name for model in models if not model.is_dir()]
    if missing:
        raise FileNotFoundError(f"not trained in {results}: {', '.join(missing)}; name the trained ones with -tr -p -c")
    references = args.references or training_references(name)
    for model in models:
        folder, summary = merge_crossval(model, references, args.folds, num_processes=args.num_processes, progress=not args.json)
        if not args.json:
            print(f"\n{model.name}, folds {' '.join(map(str, args.folds))}")
        space = Annotation.from_dataset_json(json.loads((model / "dataset.json").read_text(encoding="utf-8"))).space
        _report(args, summary, space, folder / "summary.json")
    return 0


def _report(args: argparse.Namespace, summary: dict[str, Any], space: "LabelSpace", output: Path) -> None:
    """Print the means as a table or as JSON, with what was left out; write the rows."""
    from nnunet_partial.evaluation import class_name, dice_table, metric_rows

    if args.csv:
        metric_rows(summary, space).to_csv(args.csv, index=False)
    if args.json:
        named = {key: summary[key] for key in ("foreground_mean", "mean", "annotated_cases", "per_source")}
        print(json.dumps({"summary_file": str(output), **_for_programs(named, lambda key: class_name(key, space))}))
        return
    print(f"\nDice, mean over the cases in which the class was looked for (number of cases)\n\n{dice_table(summary, space)}\n")
    for key, what in (
        ("without_prediction", "references have no prediction"),
        ("without_reference", "predictions have no reference"),
    ):
        if summary[key]:
            print(f"{len(summary[key])} {what} and are not judged")
    print(f"{len(summary['metric_per_case'])} cases judged; summary: {output}" + (f"; rows: {args.csv}" if args.csv else ""))


def _for_programs(value: Any, name_of: Any) -> Any:
    """Class keys by name, NaN as null: strict JSON."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else name_of(key): _for_programs(item, name_of) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
