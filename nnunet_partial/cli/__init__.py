"""The command `nnunet_partial`: one module a subcommand, in the order of the journey.

A module offers `add_parser(subparsers)`, which sets `run` as a default; it imports the heavy libraries only when it runs.
"""

import argparse
import importlib
import os
import sys

from nnunet_partial import __version__

COMMANDS = (
    "env",
    "doctor",
    "preset",
    "convert",
    "verify",
    "duplicates",
    "simulate",
    "plan",
    "rounds",
    "evaluate",
    "compare",
    "agreement",
    "threshold",
    "report",
    "predict-preview",
    "export",
    "schema",
    "demo",
)

EPILOG = """\
the journey:
  nnunet_partial doctor                       is everything in place?
  nnunet_partial convert abdomen.yaml         pool partly labelled downloads into one nnU-Net dataset
  nnunet_partial verify -d 500                is it fit to be trained on, and who annotated what?
  nnunet_partial duplicates -d 500            scans that occur twice stay on one side of every split
  nnunet_partial plan -d 500                  fingerprint, plan, preprocess
  eval "$(nnunet_partial env)"                let nnU-Net find our trainers
  nnUNetv2_train 500 3d_fullres 0 -tr nnUNetTrainerMarginalExclusion
  nnunet_partial rounds -d 500 -f 0           label what nobody annotated, most confident first, and train on
  nnUNetv2_predict -d 500 -i IN -o OUT -c 3d_fullres -f 0 -tr nnUNetTrainerMarginalExclusion
  nnunet_partial evaluate -d 500 -i OUT       Dice over what each case's annotators looked for
  nnunet_partial compare RUN_A RUN_B          are the differences more than chance?
  nnunet_partial agreement -d 500 -i OUT      several annotators a case: do predictions match all of them?
  nnunet_partial threshold -i OUT -o CUT --confidence 0.3   label maps at a confidence level of your own
  nnunet_partial report -d 500 -i OUT         one page: metrics, worst cases, who annotated what, training
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command and of all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="nnunet_partial",
        description="One multi-organ nnU-Net from many datasets of which each labels only some of the organs.",
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument("--version", action="version", version=f"nnunet_partial {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"nnunet_partial.cli.{name.replace('-', '_')}").add_parser(subparsers)
    return parser


def help_formatter() -> type[argparse.HelpFormatter]:
    """Coloured help on a terminal; plain text elsewhere, where importing rich would only cost time."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return argparse.RawDescriptionHelpFormatter
    from rich_argparse import RawDescriptionRichHelpFormatter

    return RawDescriptionRichHelpFormatter


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; a mistake of the user's ends in a sentence, not in a traceback.

    Args:
        arguments: What stands behind `nnunet_partial`; by default the command line's.

    Returns:
        The exit status: 0, or 1 where the subcommand found something wrong.
    """
    args = build_parser().parse_args(arguments)
    try:
        return args.run(args) or 0
    except (ValueError, FileNotFoundError, PermissionError, NotImplementedError, RuntimeError) as error:
        if os.environ.get("NNUNET_PARTIAL_TRACEBACK"):
            raise
        print(f"nnunet_partial {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on where it stopped", file=sys.stderr)
        return 130
