"""`nnunet_partial doctor`: is everything in place, and how to mend what is not."""

import argparse
import json
import sys
import textwrap
from typing import TYPE_CHECKING

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.environment import Finding

DESCRIPTION = """\
Check Python, the libraries (each imported in a process of its own), nnU-Net's version and its three folders, free disk, whether
nnU-Net finds our trainers, memory and /dev/shm for the augmentation workers, and the device. Says how to mend each fault.

Ends with status 1 where there is a fault; warnings leave it at 0."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="is everything in place, and how to mend what is not",
        description=DESCRIPTION,
        formatter_class=help_formatter(),
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; status 1 where one is a fault."""
    from dataclasses import asdict

    from nnunet_partial.environment import FAULT, check_environment, gather_facts

    print("looking around; importing the libraries takes some seconds ...", file=sys.stderr)
    findings = check_environment(gather_facts())
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(report(findings))
    return int(any(finding.level == FAULT for finding in findings))


def report(findings: list["Finding"]) -> str:
    """The findings as a table, each with how to mend it on the line below, and a last line that counts them."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        head = f"{finding.level:<5}  {finding.subject:<{width}}  "
        lines.append(textwrap.fill(finding.message, 120, initial_indent=head, subsequent_indent=" " * len(head)))
        if finding.mend:
            lines.append(f"{' ' * len(head)}-> {finding.mend}")
    counts = {level: sum(finding.level == level for finding in findings) for level in ("fault", "warn")}
    summary = f"{counts['fault']} faults, {counts['warn']} warnings" if any(counts.values()) else "everything is in place"
    return "\n".join([*lines, "", summary])
