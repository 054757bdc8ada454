"""`nnunet_partial rounds`: predictions of unannotated organs become labels, the most confident first; then train on."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.pseudo_labels.request import RoundsRequest

DESCRIPTION = """\
INERRANT (Petit et al. 2021): train on what the annotators knew; then, T times, let the network label the organs that nobody
looked for, and train on. In round t the t/T most confident of its predicted voxels become labels, in every training case and
class by itself; never background, never over a human label, never in a validation case.

The criterion says how confidence is measured:
  confidence    a network learns, where the truth is known, how far the segmentation network is to be trusted (the paper's; it is
                trained anew in every round)
  mcp           the segmentation network's own probability (maximum class probability; SMILE)
  dropout       its mean probability over passes in each of which other channels are dropped (Monte Carlo dropout)
  augmentation  the same over copies of the image, mirrored and with noise (test-time augmentation)
  aleatoric     the probability that is left under noise which a network learns to predict where the truth is known
  branches      the more careful one of a conservative and a radical branch; of nnUNetTrainerCoraNet, which trains them
  all           every prediction becomes a label, in a single round: the baseline the paper compares with
  none          as many rounds of training without pseudo-labels: the control that an experiment needs

Everything happens in nnU-Net's preprocessed space: nothing is resampled, nothing human is overwritten. A killed run goes on where
it stopped when the same command is given again; a fold that was trained before with nnUNetv2_train is taken as it is."""

EPILOG = """\
examples:
  nnunet_partial rounds -d 500 -c 3d_fullres -f 0 -tr nnUNetTrainerAmbiguity
                                                     train fold 0 if it is not, then three rounds with learned confidence
  nnunet_partial rounds -d 500 -c 3d_fullres -f 0 -tr nnUNetTrainerMarginalExclusion --criterion mcp
                                                     any of our trainers; the network's own probabilities
  nnunet_partial rounds -d 500 -f 0 --rounds 2 --max-fraction 0.66 --name careful
                                                     a second run beside the first, which stops at two thirds of the predictions
  nnunet_partial rounds -d 500 -f 0 -num_parts 4 -part_id 0        (and, at the same time, -part_id 1, 2, 3)
                                                     four processes share the relabelling; part 0 trains
  nnunet_partial rounds relabel -d 500 -f 0 --criterion dropout --passes 20
                                                     the first round's labels and their audit alone, before anything learns from
                                                     them: compare criteria on one network; without `relabel` the run goes on
  nnunet_partial rounds export -d 500 -f 0 --round 3 -o REVIEW
                                                     pseudo-labels and confidence maps as NIfTI, to be looked at

the result is an ordinary nnU-Net model, a checkpoint a round beside the fold's own:
  nnUNetv2_predict -d 500 -c 3d_fullres -f 0 -tr nnUNetTrainerAmbiguity -chk checkpoint_confidence_round_3.pth -i IN -o OUT

what was relabelled, how surely and (where `simulate` kept the references) how rightly stands in audit.csv, .json and .png in
  $nnUNet_results/DATASET/TRAINER__PLANS__CONF/fold_0/rounds/NAME"""

CRITERIA = ("confidence", "mcp", "dropout", "augmentation", "aleatoric", "branches", "all", "none")
DEFAULT_ROUNDS = 3
EPOCHS_SHARE = 4  # a round takes a quarter of the training's epochs


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "rounds",
        help="label what nobody annotated, the most confident first, and train on",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("run", "relabel", "export"),
        default="run",
        help="run: all rounds; relabel: the first one's labels, without training on them; export: labels as NIfTI (default: run)",
    )
    _add_run_arguments(parser)
    _add_method_arguments(parser)
    _add_export_arguments(parser)
    parser.set_defaults(run=run)


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which model")
    group.add_argument("-d", dest="dataset", required=True, metavar="ID", help="dataset id or name, planned and preprocessed")
    group.add_argument("-c", dest="configuration", default="3d_fullres", metavar="CONF", help="default: 3d_fullres")
    group.add_argument(
        "-f", dest="fold", default="0", metavar="FOLD", help="0 to 4, or all (then nothing is validated; default: 0)"
    )
    group.add_argument("-tr", dest="trainer", default="nnUNetTrainerAmbiguity", help="default: nnUNetTrainerAmbiguity")
    group.add_argument("-p", dest="plans", default="nnUNetPlans", help="name of the plans (default: nnUNetPlans)")
    group.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: cuda")
    group.add_argument("--name", default=None, help="name of this run of rounds (default: the criterion)")
    group.add_argument("-num_parts", type=int, default=1, metavar="N", help="share the relabelling among N processes or machines")
    group.add_argument("-part_id", type=int, default=0, metavar="I", help="which share this one takes, from 0; 0 also trains")


def _add_method_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("method")
    group.add_argument("--criterion", choices=CRITERIA, default="confidence", help="see above (default: confidence)")
    group.add_argument(
        "--passes",
        type=int,
        metavar="T",
        help="dropout: passes, augmentation: copies, either one makes ranking take T times as long; aleatoric: draws of noise in "
        "its loss (default: 10)",
    )
    group.add_argument(
        "--dropout-rate",
        type=float,
        metavar="P",
        help="dropout: share of the channels that a pass drops; nnU-Net's networks are trained without any (default: 0.2)",
    )
    group.add_argument(
        "--noise",
        type=float,
        metavar="STD",
        help="augmentation: standard deviation of the copies' noise, in units of normalised intensity; 0: mirrored copies alone "
        "(default: 0.1)",
    )
    group.add_argument("--rounds", type=int, default=None, metavar="T", help=f"rounds (default: {DEFAULT_ROUNDS}; all: 1)")
    group.add_argument(
        "--max-fraction",
        type=float,
        default=1.0,
        metavar="G",
        help="share of predictions labelled after the last round (default: 1)",
    )
    group.add_argument(
        "--max-changed",
        type=float,
        default=None,
        metavar="F",
        help="no new labels in cases whose predictions changed by more than this fraction since the round before (default: off)",
    )
    group.add_argument(
        "--soft",
        action="store_true",
        help="a pseudo-label counts as much as it is confident: 'this organ' with its confidence, 'not known' with the rest; for "
        "nnUNetTrainerMajorityLabels or nnUNetTrainerSoftLabels",
    )
    group.add_argument(
        "--epochs", type=int, default=None, metavar="N", help="epochs of training in a round (default: a quarter of the plans')"
    )
    group.add_argument("--lr", type=float, default=None, help="learning rate at the beginning of a round (default: the plans')")
    group.add_argument(
        "--confidence-epochs",
        type=int,
        default=None,
        metavar="N",
        help="of the network that learns to rank: confidence, aleatoric (default: --epochs)",
    )
    group.add_argument("--confidence-lr", type=float, default=1e-3, metavar="LR", help="its first learning rate (default: 0.001)")
    group.add_argument(
        "--confidence-widths",
        type=int,
        nargs="*",
        default=None,
        metavar="W",
        help="channels of its convolutions (default: 2, 1, 1, 1 times the last features; the paper in 2D: 400 120 64 64)",
    )
    group.add_argument(
        "--confidence-mode",
        choices=("finetuned", "frozen"),
        default="finetuned",
        help="finetuned: a duplicate of the segmentation network learns with it (better in the paper); frozen: it does not "
        "(default: finetuned)",
    )
    group.add_argument("--disable_tta", action="store_true", help="no mirrored copies when predicting: faster, less exact")
    group.add_argument("-step_size", type=float, default=0.5, help="step of the sliding window, in tiles (default: 0.5)")


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("export")
    group.add_argument("-o", dest="output", type=Path, default=None, metavar="FOLDER", help="where NIfTI files are written")
    group.add_argument("--round", type=int, default=None, metavar="T", help="which round (default: the last one)")
    group.add_argument(
        "--cases", nargs="+", default=None, metavar="CASE", help="only these (default: every case with pseudo-labels)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the rounds, or write what they labelled."""
    return _export(args) if args.action == "export" else _run(args)


def _run(args: argparse.Namespace) -> int:
    if args.output is not None or args.round is not None or args.cases is not None:
        raise ValueError("-o, --round and --cases belong to `nnunet_partial rounds export`")
    request = _request(args)

    import torch

    from nnunet_partial.environment import resource_warnings
    from nnunet_partial.pseudo_labels.audit import markdown_audit
    from nnunet_partial.pseudo_labels.rounds import Part, Rounds

    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU; give -device cpu, or let `nnunet_partial doctor` say why")
    for finding in resource_warnings():
        print(f"note: {finding.subject}: {finding.message}; to mend it: {finding.mend}")
    rounds = Rounds(request, device=torch.device(args.device), part=Part(args.part_id, args.num_parts))
    rows = rounds.relabel_only() if args.action == "relabel" else rounds.execute()
    if rows:
        print(markdown_audit(rows))
        print(f"audit: {rounds.run.results / 'audit.csv'} (.json, .png)")
    if rows and args.action == "run":
        print(f"model: -chk {rounds.run.offered_checkpoint(request.rounds).name} for nnUNetv2_predict")
    return 0


def _request(args: argparse.Namespace) -> "RoundsRequest":
    """The request, with defaults from the plans."""
    from pydantic import ValidationError

    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.labels.annotation import validation_faults
    from nnunet_partial.paths import nnunet_folder
    from nnunet_partial.pseudo_labels.request import TAKEN_BY, RoundsRequest
    from nnunet_partial.training.settings import TrainingSettings

    dataset = dataset_name(args.dataset)
    plans_file = nnunet_folder("nnUNet_preprocessed") / dataset / f"{args.plans}.json"
    if not plans_file.exists():
        raise FileNotFoundError(
            f"there are no plans {plans_file}; run `nnunet_partial plan -d {args.dataset}`, or name others with -p"
        )
    settings = TrainingSettings.from_plans(json.loads(plans_file.read_text(encoding="utf-8")))
    epochs = max(1, settings.num_epochs // EPOCHS_SHARE) if args.epochs is None else args.epochs
    default = 1 if args.criterion == "all" else DEFAULT_ROUNDS
    try:
        return RoundsRequest(
            dataset=dataset,
            configuration=args.configuration,
            fold=_fold(args.fold),
            trainer=args.trainer,
            plans=args.plans,
            name=args.name or args.criterion,
            criterion=args.criterion,
            rounds=default if args.rounds is None else args.rounds,
            max_fraction=args.max_fraction,
            max_changed=args.max_changed,
            soft=args.soft,
            epochs=epochs,
            initial_lr=settings.initial_lr if args.lr is None else args.lr,
            mirroring=not args.disable_tta,
            step_size=args.step_size,
            confidence_epochs=epochs if args.confidence_epochs is None else args.confidence_epochs,
            confidence_lr=args.confidence_lr,
            confidence_widths=args.confidence_widths,
            confidence_frozen=args.confidence_mode == "frozen",
            **{name: getattr(args, name) for name in TAKEN_BY if getattr(args, name) is not None},
        )
    except ValidationError as error:
        raise ValueError("\n".join(validation_faults(error))) from None


def _fold(text: str) -> int | str:
    if text == "all" or text.isdigit():
        return text if text == "all" else int(text)
    raise ValueError(f"-f {text}: a fold is a number, or all")


def _export(args: argparse.Namespace) -> int:
    if args.output is None:
        raise ValueError("-o FOLDER says where to write the label maps and confidence maps")

    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.paths import nnunet_folder
    from nnunet_partial.pseudo_labels.export import export_run
    from nnunet_partial.pseudo_labels.files import RunFiles

    dataset = dataset_name(args.dataset)
    model = f"{args.trainer}__{args.plans}__{args.configuration}"
    files = RunFiles(
        fold=nnunet_folder("nnUNet_results") / dataset / model / f"fold_{_fold(args.fold)}",
        dataset=nnunet_folder("nnUNet_preprocessed") / dataset,
        name=args.name or args.criterion,
    )
    count = export_run(files, args.round, args.cases, args.output, num_parts=args.num_parts, part_id=args.part_id)
    print(f"{count} cases in {args.output}: CASE.nii.gz (pseudo-labels), CASE_confidence.nii.gz, CASE_merged.nii.gz")
    return 0
