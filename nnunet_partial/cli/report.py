"""`nnunet_partial report`: one offline page about a run, and pages to scroll through its cases."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.report.reproduce import Model

DESCRIPTION = """\
Write one HTML file that opens anywhere without a network: how good each class is (means with bootstrap intervals, box plots),
the worst cases in three planes with what was missed and what nobody looked for, all cases, who annotated what, how training went,
and the commands that lead there.

It reads the summary.json that `nnunet_partial evaluate` (or a training's validation) wrote, and shows every metric in it."""

EPILOG = """\
examples:
  nnunet_partial report -d 500                            the validation of every trained fold; report.html in the model's folder
  nnunet_partial report -d 500 -i PREDICTIONS             predictions that `evaluate` has judged; report.html beside them
  nnunet_partial report -d 500 -i PREDICTIONS --viewer    and a page a case to scroll through image, reference and prediction

Without --images the pictures use the dataset's imagesTr or, with -i, the folder that nnU-Net noted when it predicted."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="one offline page: metrics, worst cases, coverage, training",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, such as 500 or Dataset500_Abdomen"
    )
    parser.add_argument("-i", dest="predictions", type=Path, metavar="FOLDER", help="predictions with their summary.json")
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="default: report.html beside what is reported")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the cases' images, <identifier>_0000.nii.gz")
    parser.add_argument(
        "--worst", dest="num_worst", type=int, default=3, metavar="N", help="worst cases drawn (default: 3; 0 needs no images)"
    )
    parser.add_argument("--viewer", action="store_true", help="also a page for every case, to scroll through (needs WebGL2)")
    model = parser.add_argument_group("the model, as for nnUNetv2_train")
    model.add_argument("-tr", dest="trainer", default="nnUNetTrainerMarginalExclusion", metavar="TRAINER")
    model.add_argument("-p", dest="plans", default="nnUNetPlans", metavar="PLANS")
    model.add_argument("-c", dest="configuration", default="3d_fullres", metavar="CONF")
    model.add_argument("-f", dest="folds", nargs="+", metavar="FOLD", help="default: every fold that was trained")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Gather, write, and say where the report lies."""
    from nnunet_partial.report.page import write_report

    if args.num_worst < 0:
        raise ValueError(f"--worst {args.num_worst}: the number of cases cannot be negative")
    contents, default_output = _gather(args)
    output = (args.output or default_output).absolute()
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent} to write {output.name} into")
    pages = write_report(contents, output, num_worst=args.num_worst, viewer=args.viewer)
    print(f"{len(contents.cases)} cases; report: {output}" + (f"; {len(pages)} viewer pages: {pages[0].parent}" if pages else ""))
    return 0


def _gather(args: argparse.Namespace) -> tuple[Any, Path]:
    from nnunet_partial.datasets import dataset_name, read_dataset_json
    from nnunet_partial.paths import nnunet_folder
    from nnunet_partial.report.cases import read_cases
    from nnunet_partial.report.page import ReportContents, read_definitions

    name = dataset_name(args.dataset)
    model, model_folder = _model(args, nnunet_folder("nnUNet_results") / name)
    fold_folders = [model_folder / f"fold_{fold}" for fold in model.folds]
    judged = [args.predictions] if args.predictions else [folder / "validation" for folder in fold_folders]
    summaries = [folder / "summary.json" for folder in judged]
    cases = read_cases(summaries)
    dataset_json = read_dataset_json(name)
    raw = nnunet_folder("nnUNet_raw") / name
    contents = ReportContents(
        dataset=name,
        dataset_json=dataset_json,
        model=model,
        fold_folders=[folder for folder in fold_folders if folder.is_dir()],
        cases=cases,
        judged_on=f"predictions in {args.predictions.name}" if args.predictions else f"validation, fold {' '.join(model.folds)}",
        notes=_notes(args, model, len(cases)),
        definitions=read_definitions(summaries),
        licences=_licences(raw / "label_manifest.json"),
        commands=_commands(args, name, model, model_folder, any(case.identifier not in _known(dataset_json) for case in cases)),
        images=args.images or _images(args.predictions, raw),
    )
    return contents, (args.predictions or model_folder) / "report.html"


def _model(args: argparse.Namespace, results: Path) -> tuple["Model", Path]:
    """The model and its folder; without predictions of its own the report is about its finished folds."""
    from nnunet_partial.report.reproduce import Model

    unnamed = Model(args.trainer, args.plans, args.configuration, ())
    folder = results / unnamed.folder_name
    if not folder.is_dir() and not args.predictions:
        trained = sorted(path.name for path in results.glob("*__*__*"))
        raise FileNotFoundError(
            f"not trained: {folder}; trained are {', '.join(trained) or 'none'}; name one with -tr -p -c, or -i"
        )
    folds = args.folds or sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*"))
    if not args.predictions:
        finished = [fold for fold in folds if (folder / f"fold_{fold}" / "validation" / "summary.json").is_file()]
        unfinished = [fold for fold in folds if fold not in finished]
        if not finished or (args.folds and unfinished):
            raise FileNotFoundError(f"{folder}: no finished validation in fold {', '.join(unfinished) or 'any'}")
        if "all" in finished and len(finished) > 1 and not args.folds:
            finished.remove("all")  # it validates the cases of every other fold again
        folds = finished
    return Model(args.trainer, args.plans, args.configuration, tuple(folds)), folder


def _notes(args: argparse.Namespace, model: "Model", num_cases: int) -> list[str]:
    notes = []
    if not args.predictions and "all" in model.folds:
        notes.append(
            "Fold 'all' was trained on the very cases that are judged here: these numbers show how well it fits them, not how it "
            "will do on others."
        )
    if num_cases < 10:
        notes.append(f"Only {num_cases} cases were judged: take the intervals as a rough guide.")
    return notes


def _images(predictions: Path | None, raw: Path) -> Path:
    from nnunet_partial.report.reproduce import predicted_images

    return (predicted_images(predictions) if predictions else None) or raw / "imagesTr"


def _known(dataset_json: dict[str, Any]) -> dict[str, Any]:
    return dataset_json.get("annotation", {}).get("cases", {})


def _licences(manifest: Path) -> dict[str, str]:
    """Source -> licence; empty where the dataset was made without a manifest."""
    if not manifest.is_file():
        return {}
    return {source["name"]: source["licence"] for source in json.loads(manifest.read_text(encoding="utf-8"))["sources"]}


def _commands(args: argparse.Namespace, name: str, model: "Model", model_folder: Path, full_reference: bool) -> list[str]:
    from nnunet_partial.planners import PLANNERS
    from nnunet_partial.report.reproduce import commands

    file = model_folder / "plans.json"
    plans = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    planners = {planner.__name__: option for option, planner in PLANNERS.items()}
    dataset_id = str(int(name[len("Dataset") :].split("_")[0]))
    planner = planners.get(plans.get("experiment_planner_used"))
    lines = commands(dataset_id, model, plans, args.predictions, planner, full_reference)
    which = f"-tr {model.trainer} -p {model.plans} -c {model.configuration}"
    where = f" -i {args.predictions}" if args.predictions else ""
    return [*lines, f"nnunet_partial report -d {dataset_id}{where} {which}" + (" --viewer" if args.viewer else "")]
