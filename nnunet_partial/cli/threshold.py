"""`nnunet_partial threshold`: label maps at a confidence level of the user's own."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.labels import LabelSpace

DESCRIPTION = """\
Cut the probabilities of nnUNetv2_predict --save_probabilities at a confidence level: a voxel is a class where its probability is
at least the level. A low level misses little and marks more than there is; a high one marks only what is certain.

Probabilities mean what they say where the network was trained on several annotators a case, or where calibration is good
(ECE of `nnunet_partial agreement` or `nnunet_partial evaluate --probabilities`).

Where several classes reach their levels, the one with the largest probability / level takes the voxel: of equal levels the most
probable one; a class with a low level is not hidden by another one around it. What no class reaches is background."""

EPILOG = """\
examples:
  nnunet_partial threshold -i PREDICTIONS -o CUT_30 --confidence 0.3
  nnunet_partial threshold -i PREDICTIONS -o SCREENING --confidence 0.5 --class kidney_tumor=0.1 pancreas=0.3

written: label maps with the header of the predictions, and threshold.json: levels, rule, volumes before and after.
A rerun goes on where it was stopped, and cuts again what has changed.
The folder of predictions must hold dataset.json, which nnUNetv2_predict copies there.

next: nnunet_partial evaluate -d 500 -i CUT_30"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "threshold",
        help="label maps out of saved probabilities, at a confidence level of your own",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-i", dest="predictions", type=Path, required=True, metavar="FOLDER", help="of nnUNetv2_predict --save_probabilities"
    )
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER", help="where the label maps go")
    parser.add_argument("--confidence", type=float, required=True, metavar="LEVEL", help="between 0 and 1, for all classes")
    parser.add_argument(
        "--class", dest="by_class", nargs="+", default=[], metavar="NAME=LEVEL", help="another level for single classes"
    )
    parser.add_argument("-np", dest="num_processes", type=int, default=1, metavar="N", help="cases cut at a time (default: 1)")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Cut, print the volumes, and say where the label maps lie."""
    from nnunet_partial.evaluation.confidence_levels import RECORD_NAME, ConfidenceLevels, cut_folder

    if args.num_processes < 1:
        raise ValueError(f"-np {args.num_processes}: at least one process is needed")
    levels = ConfidenceLevels.parse(args.confidence, args.by_class)
    space, file_ending = _model_labels(args.predictions)
    record = cut_folder(
        args.predictions,
        args.output,
        space,
        levels,
        file_ending,
        num_processes=args.num_processes,
        progress=not args.json,
    )
    if args.json:
        print(json.dumps(record))
        return 0
    print(f"\n{_volume_table(record)}\n\n{len(record['cases'])} cases cut; label maps and {RECORD_NAME}: {args.output}")
    return 0


def _model_labels(predictions: Path) -> tuple["LabelSpace", str]:
    """The classes and the file ending of the model, from the dataset.json beside its predictions."""
    from pydantic import ValidationError

    from nnunet_partial.labels import LabelError, LabelSpace
    from nnunet_partial.labels.annotation import validation_faults

    file = predictions / "dataset.json"
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}; nnUNetv2_predict copies the model's there, copy it from the model's folder")
    dataset_json = json.loads(file.read_text(encoding="utf-8"))
    try:
        return LabelSpace.from_nnunet_labels(dataset_json["labels"]), dataset_json["file_ending"]
    except ValidationError as error:
        raise LabelError(validation_faults(error), where=str(file)) from None
    except KeyError as error:
        raise ValueError(f"{file} has no {error}") from None


def _volume_table(record: dict[str, Any]) -> str:
    """Mean volumes over the cases."""
    from nnunet_partial.evaluation.report_text import aligned

    cases = list(record["cases"].values())
    rows = [["class", "level", "predicted ml", "at level ml"]]
    for name, level in record["levels"].items():
        means = [sum(case[name][what] for case in cases) / len(cases) for what in ("predicted_ml", "at_level_ml")]
        rows.append([name, f"{level:g}", *(f"{mean:.2f}" for mean in means)])
    return "mean volume of a case\n\n" + aligned(rows)
