"""`nnunet_partial env`: the line that lets nnU-Net find our trainers."""

import argparse
import os
import shlex

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
Print the line that lets nnU-Net's own commands find our trainers; folders that nnUNet_extTrainer names already are kept.

  eval "$(nnunet_partial env)"                            bash, zsh
  nnunet_partial env --shell fish | source                fish
  nnunet_partial env --shell powershell | Invoke-Expression"""

SHELLS = ("posix", "fish", "powershell")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "env",
        help="print the line that lets nnU-Net find our trainers",
        description=DESCRIPTION,
        formatter_class=help_formatter(),
    )
    parser.add_argument("--shell", choices=SHELLS, default="posix", help="whose syntax (default: posix, for bash and zsh)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the line and nothing else."""
    from nnunet_partial.paths import TRAINER_VARIABLE, offer_trainers

    offer_trainers()
    print(assignment(TRAINER_VARIABLE, os.environ[TRAINER_VARIABLE], args.shell))
    return 0


def assignment(variable: str, value: str, shell: str) -> str:
    """The line that sets an exported variable, quoted for a shell."""
    if shell == "fish":
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {variable} '{quoted}'"
    if shell == "powershell":
        quoted = value.replace("'", "''")
        return f"$env:{variable} = '{quoted}'"
    return f"export {variable}={shlex.quote(value)}"
