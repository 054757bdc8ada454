"""`nnunet_partial preset`: the pools of published experiments."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.dataset_conversion.preset import Preset

DESCRIPTION = """\
Pool files of published experiments, with the commands that repeat them and the sizes of their splits."""

EPILOG = """\
examples:
  nnunet_partial preset list
  nnunet_partial preset show shi2021
  nnunet_partial preset write shi2021 shi2021.yaml --downloads ~/downloads
  nnunet_partial preset splits shi2021 -d 500        after planning: splits_final.json with the paper's sizes

Without --downloads the paths in the file begin with $NNUNET_PARTIAL_DOWNLOADS, to be set before `nnunet_partial convert`."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand and its own subcommands."""
    parser = subparsers.add_parser(
        "preset",
        help="pool files of published experiments",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the presets there are").set_defaults(run=run_list)
    show = actions.add_parser("show", help="print a preset's pool file and the commands that follow")
    write = actions.add_parser("write", help="write a preset's pool file, and print the commands that follow")
    splits = actions.add_parser("splits", help="write splits_final.json with the sizes of the paper")
    for action, handler in ((show, run_show), (write, run_write), (splits, run_splits)):
        action.add_argument("name", metavar="NAME", help="name of the preset")
        action.set_defaults(run=handler)
    write.add_argument("file", type=Path, metavar="FILE", help="the pool file to write")
    write.add_argument("--downloads", type=Path, metavar="DIR", help="the folder that holds the downloads")
    splits.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, converted from the preset's pool"
    )


def run_list(_: argparse.Namespace) -> int:
    """One line a preset."""
    from nnunet_partial.dataset_conversion.preset import preset_names, read_preset

    for name in preset_names():
        print(f"{name:<12} {read_preset(name).about}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """The pool file, then the commands."""
    from nnunet_partial.dataset_conversion.preset import read_preset

    preset = read_preset(args.name)
    print(preset.pool_text())
    _print_commands(preset, f"{args.name}.yaml")
    return 0


def run_write(args: argparse.Namespace) -> int:
    """Write the pool file, and say what comes next."""
    from nnunet_partial.dataset_conversion.preset import DOWNLOADS, read_preset, write_pool

    preset = read_preset(args.name)
    downloads = args.downloads.expanduser().absolute() if args.downloads else None
    write_pool(preset, args.file, downloads=downloads)
    print(f"pool file: {args.file}")
    if downloads is None:
        print(f"its paths begin with ${DOWNLOADS}: export {DOWNLOADS}=... first")
    _print_commands(preset, str(args.file), downloads)
    return 0


def run_splits(args: argparse.Namespace) -> int:
    """Write splits_final.json where nnU-Net looks for it; another one that is there is refused."""
    from nnunet_partial.dataset_conversion.preset import preset_splits, read_preset, unused_cases
    from nnunet_partial.datasets import dataset_name, read_dataset_json
    from nnunet_partial.labels import Annotation, write_json
    from nnunet_partial.paths import nnunet_folder

    name = dataset_name(args.dataset)
    annotation = Annotation.from_dataset_json(read_dataset_json(name))
    splits = preset_splits(read_preset(args.name), annotation)
    path = nnunet_folder("nnUNet_preprocessed") / name / "splits_final.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != splits:
        raise ValueError(f"'{path}' exists and is another split; models may have been trained with it: move it away first")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(splits, path)
    unused = unused_cases(splits, annotation)
    print(f"fold 0 trains on {len(splits[0]['train'])} cases and validates on {len(splits[0]['val'])}: {path}")
    if unused:
        print(f"{len(unused)} cases of the downloads are in neither, as in the paper: {', '.join(unused)}")
    return 0


def _print_commands(preset: "Preset", pool: str, downloads: Path | None = None) -> None:
    print("\nwhat follows:\n" + "\n".join(f"  {line}" for line in preset.command_lines(pool, downloads)))
    print("\nwhere this differs from the paper:\n" + "\n".join(f"  - {line}" for line in preset.differences))
