"""`nnunet_partial evaluate`: metrics per class and source over what each case's annotators looked for."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.evaluation import Tolerances
    from nnunet_partial.labels import LabelSpace

DESCRIPTION = """\
Judge predictions over the classes that were looked for in each case, and only those: nnU-Net's own evaluation counts a correct
prediction of an unannotated organ as an error.

Writes summary.json in nnU-Net's own shape. A class that nobody looked for in a case is NaN there and enters no mean; classes that
share a label id ("kidney" without a side) are judged together, under a key such as "(4, 5)". Predictions of unannotated organs
are no errors; they are listed apart, with what speaks against them (volume, components, overlap with annotated organs).

Metrics: Dice, IoU (Jaccard), precision, recall, volumes; and, unless --no-surface is given, HD, HD95, ASSD and NSD by the
definitions of surface-distance, which every file that is written repeats. Surfaces take more time than all the rest."""

EPILOG = """\
examples:
  nnunet_partial evaluate -d 500 -i PREDICTIONS                      training cases, against labelsTr
  nnunet_partial evaluate -d 500 -i PREDICTIONS -r TRUTH --full-reference --csv dice.csv
                                                                     held-out cases whose references show every class
  nnunet_partial evaluate -d 511 -i PREDICTIONS -r $nnUNet_raw/Dataset511_X/references --full-reference --allow-missing -o FILE
                                                                     a dataset of `simulate`: training cases of it, with all the
                                                                     organs that were dropped (its labelsTs: the held-out cases)
  nnunet_partial evaluate -d 500 -i PREDICTIONS --tolerance-mm 2 pancreas=5 -np 8 --csv rows.csv --parquet rows.parquet
                                                                     NSD within 2 mm, of the pancreas within 5 mm
  nnunet_partial evaluate -d 500 -i PREDICTIONS --probabilities PREDICTIONS --reliability reliability.png
                                                                     calibration, from nnUNetv2_predict --save_probabilities
  nnunet_partial evaluate -d 500 -i PREDICTIONS -num_parts 4 -part_id 0
                                                                     a quarter of the cases; the part that ends last writes all
  nnunet_partial evaluate -d 500 --crossval -tr nnUNetTrainerMarginalExclusion -c 2d 3d_fullres
                                                                     what model selection reads

stopped? the same command goes on: finished cases lie in <summary>_cases beside the summary and are measured again only when their
files or the options change. The folder may be deleted when all is done.

model selection: nnUNetv2_find_best_configuration judges the folds again by its own rules, unless their joint folder
crossval_results_folds_0_1_2_3_4 is there already and it is told to keep it. So first run the --crossval example, then
  nnUNetv2_find_best_configuration 500 -tr nnUNetTrainerMarginalExclusion -c 2d 3d_fullres --disable_ensembling --no_overwrite
Ensembles it would judge by its own rules even so: leave --disable_ensembling in. What it says after postprocessing is by its own
rules wherever postprocessing changed anything; it keeps a postprocessing step only where that is above our Dice.

next: nnunet_partial compare, for two runs or more."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="Dice, HD95, NSD ... per class and source over annotated classes",
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
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="the same as Parquet")
    parser.add_argument("--json", action="store_true", help="print the means as JSON in place of the table")
    parser.add_argument("-np", dest="num_processes", type=int, default=1, metavar="N", help="cases judged at a time (default: 1)")
    parser.add_argument("-num_parts", type=int, default=1, metavar="N", help="share the cases among N processes or machines")
    parser.add_argument("-part_id", type=int, default=0, metavar="I", help="which share this one takes, from 0")
    measures = parser.add_argument_group("what is measured")
    measures.add_argument(
        "--surface",
        action=argparse.BooleanOptionalAction,
        help="HD, HD95, ASSD and NSD (default: yes with -i, no with --crossval)",
    )
    measures.add_argument(
        "--tolerance-mm",
        nargs="+",
        default=[],
        metavar="MM|CLASS=MM",
        help="up to which distance NSD counts a surface as found (default: 2)",
    )
    measures.add_argument(
        "--probabilities", type=Path, metavar="FOLDER", help="<identifier>.npz of --save_probabilities: calibration, ranking"
    )
    measures.add_argument("--reliability", type=Path, metavar="FILE", help="with --probabilities: draw reliability diagrams")
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
    if args.reliability and not args.probabilities:
        raise ValueError("--reliability needs --probabilities")
    return _run_crossval(args) if args.crossval else _run_folder(args)


def _run_folder(args: argparse.Namespace) -> int:
    from nnunet_partial.datasets import dataset_name, read_dataset_json, training_references
    from nnunet_partial.evaluation import evaluate_tasks, find_tasks, judge_part, write_summary
    from nnunet_partial.labels import Annotation

    name = dataset_name(args.dataset)
    dataset_json = read_dataset_json(name)
    annotation = Annotation.from_dataset_json(dataset_json)
    output = args.output or args.predictions / "summary.json"
    tasks = find_tasks(
        args.references or training_references(name),
        args.predictions,
        annotation,
        dataset_json["file_ending"],
        full_reference=args.full_reference,
        allow_missing=args.references is None or args.allow_missing,
        tolerances=_tolerances(args, default=True),
        probability_dir=args.probabilities,
        cache_dir=output.with_name(f"{output.stem}_cases"),
    )
    how = {"num_processes": args.num_processes, "progress": not args.json}
    if (args.num_parts, args.part_id) != (1, 0):
        open_cases = judge_part(tasks, args.part_id, args.num_parts, **how)
        if open_cases:
            print(f"part {args.part_id} of {args.num_parts} is done; {len(open_cases)} cases are left to the other parts")
            return 0
    summary = evaluate_tasks(tasks, **how)
    write_summary(summary, output)
    _report(args, summary, annotation.space, output)
    return 0


def _tolerances(args: argparse.Namespace, *, default: bool) -> "Tolerances | None":
    """What was said of surfaces; None where they are not measured."""
    from nnunet_partial.evaluation import Tolerances

    if not (default if args.surface is None else args.surface):
        if args.tolerance_mm:
            raise ValueError("--tolerance-mm needs surfaces (--surface)")
        return None
    return Tolerances.parse(args.tolerance_mm)


def _run_crossval(args: argparse.Namespace) -> int:
    from nnunet_partial.datasets import dataset_name, training_references
    from nnunet_partial.evaluation import merge_crossval
    from nnunet_partial.labels import Annotation
    from nnunet_partial.paths import nnunet_folder

    unused = {
        "-o": args.output,
        "--csv": args.csv,
        "--parquet": args.parquet,
        "--probabilities": args.probabilities,
        "-num_parts": args.num_parts > 1,
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
        folder, summary = merge_crossval(
            model,
            references,
            args.folds,
            num_processes=args.num_processes,
            progress=not args.json,
            tolerances=_tolerances(args, default=False),
        )
        if not args.json:
            print(f"\n{model.name}, folds {' '.join(map(str, args.folds))}")
        space = Annotation.from_dataset_json(json.loads((model / "dataset.json").read_text(encoding="utf-8"))).space
        _report(args, summary, space, folder / "summary.json")
    return 0


def _report(args: argparse.Namespace, summary: dict[str, Any], space: "LabelSpace", output: Path) -> None:
    """Print the means as a table or as JSON, with what was left out; write the rows."""
    from nnunet_partial.evaluation import draw_reliability, report_json, report_text, write_csv, write_parquet

    if args.csv:
        write_csv(summary, space, args.csv)
    if args.parquet:
        write_parquet(summary, space, args.parquet)
    if args.reliability:
        diagrams = {summary["class_names"].get(key, key): value for key, value in summary["calibration"].items()}
        draw_reliability(diagrams, args.reliability)
    if args.json:
        print(json.dumps({"summary_file": str(output), **report_json(summary)}))
        return
    print(f"\n{report_text(summary, space)}\n")
    for key, what in (
        ("without_prediction", "references have no prediction"),
        ("without_reference", "predictions have no reference"),
    ):
        if summary[key]:
            print(f"{len(summary[key])} {what} and are not judged")
    written = [f"summary: {output}", *(f"rows: {path}" for path in (args.csv, args.parquet) if path)]
    written += [f"diagrams: {args.reliability}"] if args.reliability else []
    print(f"{len(summary['metric_per_case'])} cases judged; " + "; ".join(written))
