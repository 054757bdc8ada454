"""`nnunet_partial demo`: the whole line on phantoms, with a table and a picture."""

import argparse
from pathlib import Path

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
See in about ten minutes, without any download or GPU, what partly labelled training is about.

Seven steps, each as one would do it on real data:
  1  a phantom abdomen, written as five public datasets in their native layouts: BTCV (all organs, few cases), LiTS (liver),
     TCIA Pancreas-CT (pancreas), Decathlon Task09 (spleen), KiTS19 (kidneys, drawn without a side)
  2  nnunet_partial convert     one dataset out of the five, with a manifest of what was looked for in each case
  3  nnunet_partial plan        a tiny network and a short training
  4  nnUNetv2_train             twice: stock nnU-Net, for which an organ nobody drew is background, and ours, which leaves it open
  5  nnUNetv2_predict           cases that neither has seen
  6  compare with the truth     Dice of every organ
  7  a picture                  slices with the truth and both segmentations

A run that was interrupted goes on where it stopped: give the same command again."""

EPILOG = """\
the folder afterwards:
  demo.png, table.md, results.json     what came out
  abdomen.yaml, sources/               what `nnunet_partial convert` read: copy the file for your own data
  nnUNet_raw, nnUNet_preprocessed, nnUNet_results     nnU-Net's three folders, with the trained models
  logs/                                what each command said
  steps/                               one marker a finished step; remove one to have it, and what follows, done again

examples:
  nnunet_partial demo                          ten minutes on two cores
  nnunet_partial demo --quick -o quick_demo     does everything run? a minute or two; the numbers mean nothing"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole line on phantoms, with a table and a picture",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-o", dest="output", type=Path, default=Path("demo_output"), help="folder for everything (default: demo_output)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few cases, a handful of iterations: only to see that everything runs"
    )
    parser.add_argument("--overwrite", action="store_true", help="remove an earlier demonstration in the folder and begin anew")
    parser.add_argument(
        "-np",
        dest="num_processes",
        type=int,
        default=2,
        metavar="N",
        help="cases, and trainings, worked on side by side (default: 2; the trainings share the cores)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demonstration and print its table."""
    from nnunet_partial.demo.run import FULL, QUICK, report_text, run_demo

    picture = run_demo(args.output, QUICK if args.quick else FULL, num_processes=args.num_processes, overwrite=args.overwrite)
    print(report_text(picture.parent))
    return 0
