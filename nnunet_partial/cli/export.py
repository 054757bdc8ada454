"""`nnunet_partial export`: a trained model as a zip for stock nnU-Net."""

import argparse
from pathlib import Path

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
Write a trained model as a zip that stock nnU-Net installs and runs where nnunet_partial is not installed:

  nnUNetv2_install_pretrained_model_from_zip model.zip
  nnUNetv2_predict -d 500 -c 3d_fullres -f 0 -i IN -o OUT

In the zip the model goes by the name of the stock trainer, nnUNetTrainer; installing it replaces a stock model of the same
dataset, plans and configuration."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export", help="a trained model as a zip for stock nnU-Net", description=DESCRIPTION, formatter_class=help_formatter()
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, such as 500 or Dataset500_Abdomen"
    )
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE", help="the zip to write")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", metavar="CONF", help="default: 3d_fullres")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerMarginalExclusion", help="trainer it was trained with")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", help="name of the plans (default: nnUNetPlans)")
    parser.add_argument("-f", dest="folds", nargs="+", default=None, metavar="FOLD", help="default: every trained fold")
    parser.add_argument(
        "-chk", dest="checkpoint", default="checkpoint_final.pth", metavar="NAME", help="default: checkpoint_final.pth"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the zip and say how to use it."""
    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.paths import nnunet_folder
    from nnunet_partial.training.model_export import export_model, trained_folds

    if args.output.suffix != ".zip":
        raise ValueError(f"-o {args.output}: the name must end in .zip")
    model_folder = (
        nnunet_folder("nnUNet_results") / dataset_name(args.dataset) / f"{args.trainer}__{args.plans}__{args.configuration}"
    )
    if not model_folder.is_dir():
        trained = sorted(path.name for path in model_folder.parent.glob("*__*__*"))
        raise FileNotFoundError(f"there is no trained model {model_folder}; trained are: {', '.join(trained) or 'none'}")
    folds = args.folds or trained_folds(model_folder, args.checkpoint)
    if not folds:
        raise FileNotFoundError(f"no fold of {model_folder} has {args.checkpoint}; is the training finished?")
    installed = export_model(model_folder, folds, args.output, checkpoint_name=args.checkpoint)
    predict = (
        f"nnUNetv2_predict -d {args.dataset} -c {args.configuration} -p {args.plans} -f {' '.join(folds)} -chk {args.checkpoint}"
    )
    print(f"model: {args.output} ({args.output.stat().st_size / 2**20:.1f} MiB, folds {' '.join(folds)})")
    print(f"to use it (replaces {installed}, if there is one):")
    print(f"  nnUNetv2_install_pretrained_model_from_zip {args.output}\n  {predict} -i IN -o OUT")
    return 0
