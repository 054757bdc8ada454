"""`nnunet_partial plan`: fingerprint, plan, preprocess."""

import argparse
import json
import os

from nnunet_partial.cli import help_formatter

DESCRIPTION = """\
Fingerprint a dataset, plan a network for it, preprocess it: nnU-Net's own steps, with a block `partial` in the plans that says
how our trainers are to train. Preprocessing goes on where a killed run stopped.

Stock `nnUNetv2_plan_and_preprocess` serves as well; without the block the trainers use the same defaults."""

EPILOG = """\
examples:
  nnunet_partial plan -d 500                                  nnU-Net's default plan
  nnunet_partial plan -d 500 -pl resenc_m -np 8               residual encoder, 8 cases at a time
  nnunet_partial plan -d 500 --tiny --set num_epochs=2        something for a laptop, to see that it runs
  nnunet_partial plan -d 500 -pl shi2021                      the paper's 1.5 x 1.5 x 3 mm recipe
  nnunet_partial plan --list-settings                         every setting with its default

then: nnUNetv2_train 500 3d_fullres 0 -tr nnUNetTrainerMarginalExclusion   (-p PLANS for plans of another name)"""

PLANNER_NAMES = ("default", "resenc_m", "resenc_l", "shi2021", "tiny")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "plan", help="fingerprint, plan, preprocess", description=DESCRIPTION, epilog=EPILOG, formatter_class=help_formatter()
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, such as 500 or Dataset500_Abdomen"
    )
    parser.add_argument("-pl", dest="planner", choices=PLANNER_NAMES, default=None, help="planner (default: default)")
    parser.add_argument("--tiny", action="store_true", help="short for -pl tiny: a network that trains on a CPU in minutes")
    parser.add_argument(
        "-c",
        dest="configurations",
        nargs="+",
        default=["3d_fullres"],
        metavar="CONF",
        help="configurations to preprocess (default: 3d_fullres)",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings of the `partial` block, such as num_epochs=200",
    )
    parser.add_argument("--list-settings", action=ListSettings, nargs=0, help="print every setting with its default, and stop")
    parser.add_argument(
        "-overwrite_target_spacing",
        nargs=3,
        type=float,
        metavar=("Z", "Y", "X"),
        help="target spacing in mm instead of the planned one",
    )
    parser.add_argument("-overwrite_plans_name", metavar="NAME", help="name of the plans file instead of the planner's own")
    parser.add_argument(
        "-np",
        dest="num_processes",
        type=int,
        default=None,
        metavar="N",
        help="cases worked on at a time (default: one a core, at most 8)",
    )
    parser.add_argument("--verify_dataset_integrity", action="store_true", help="let nnU-Net check every file first")
    parser.add_argument("--no_pp", action="store_true", help="plan only, do not preprocess")
    parser.add_argument("--clean", action="store_true", help="compute the fingerprint again even where there is one")
    parser.set_defaults(run=run)


class ListSettings(argparse.Action):
    """Print the settings and stop, whatever else is or is not given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Called by argparse when it meets the option."""
        from nnunet_partial.training.settings import describe_settings

        print(describe_settings())
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Plan and preprocess; says where the plans lie."""
    from nnunet_partial.training.settings import TrainingSettings, parse_settings

    TrainingSettings.from_block(parse_settings(args.settings), where="--set")  # before the long work
    if args.tiny and args.planner not in (None, "tiny"):
        raise ValueError(f"--tiny and -pl {args.planner} contradict each other; give one")

    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.environment import resource_warnings
    from nnunet_partial.labels import Annotation
    from nnunet_partial.paths import nnunet_folder
    from nnunet_partial.planners.plan import plan_dataset
    from nnunet_partial.planners.preprocess import preprocess_configuration

    nnunet_folder("nnUNet_results")
    name = dataset_name(args.dataset)
    raw, preprocessed = nnunet_folder("nnUNet_raw") / name, nnunet_folder("nnUNet_preprocessed") / name
    Annotation.from_dataset_json(json.loads((raw / "dataset.json").read_text(encoding="utf-8")))
    num_processes = args.num_processes or min(8, os.cpu_count() or 1)
    for finding in resource_warnings():
        print(f"note: {finding.subject}: {finding.message}; to mend it: {finding.mend}")
    plans_file = plan_dataset(
        name,
        planner="tiny" if args.tiny else args.planner or "default",
        settings=parse_settings(args.settings),
        target_spacing_mm=args.overwrite_target_spacing,
        plans_name=args.overwrite_plans_name,
        num_processes=num_processes,
        verify=args.verify_dataset_integrity,
        clean=args.clean,
    )
    if not args.no_pp:
        available = json.loads(plans_file.read_text(encoding="utf-8"))["configurations"]
        for configuration in args.configurations:
            if configuration not in available:
                raise ValueError(f"configuration '{configuration}' is not in {plans_file}; it has {', '.join(available)}")
        for configuration in args.configurations:
            preprocess_configuration(raw, preprocessed, plans_file.stem, configuration, num_processes=num_processes)
    print(f"plans: {plans_file}")
    return 0
