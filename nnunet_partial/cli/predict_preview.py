"""`nnunet_partial predict-preview`: a picture of every predicted case."""

import argparse
from pathlib import Path

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
Draw a PNG for every predicted case: an axial, a coronal and a sagittal slice of the image with the classes found, for a first
look before anything is judged. Each plane shows the slice with most of all classes, small ones counting as much as large ones."""

EPILOG = """\
examples:
  nnunet_partial predict-preview -i PREDICTIONS                    PREDICTIONS/previews/<case>.png
  nnunet_partial predict-preview -i PREDICTIONS --images SCANS -o LOOK

Class names come from the dataset.json that nnUNetv2_predict leaves in PREDICTIONS, the images from the folder it noted there."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "predict-preview",
        help="a picture of every predicted case",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument("-i", dest="predictions", type=Path, required=True, metavar="FOLDER", help="what nnUNetv2_predict wrote")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="the predicted images, <identifier>_0000.nii.gz")
    parser.add_argument("-o", dest="output", type=Path, metavar="FOLDER", help="default: previews in the predictions' folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw, and say where the pictures lie."""
    from nnunet_partial.report.previews import write_previews

    output = args.output or args.predictions / "previews"
    written = write_previews(args.predictions, output, images=args.images, progress=True)
    print(f"{len(written)} pictures in {output}")
    return 0
