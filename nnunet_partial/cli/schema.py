"""`nnunet_partial schema`: the JSON Schema of label_manifest.json."""

import argparse
import json
from pathlib import Path

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
Print the JSON Schema of label_manifest.json: what an editor or another program needs to write a manifest, or to check one."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "schema", help="print the JSON Schema of label_manifest.json", description=DESCRIPTION, formatter_class=help_formatter()
    )
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="write it there instead")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print or write the schema."""
    from nnunet_partial.labels import manifest_json_schema, write_json

    if args.output is None:
        print(json.dumps(manifest_json_schema(), indent=2, ensure_ascii=False))
    else:
        write_json(manifest_json_schema(), args.output)
        print(f"schema: {args.output}")
    return 0
