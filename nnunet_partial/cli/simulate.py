"""`nnunet_partial simulate`: datasets with missing labels, or with several annotators, out of an annotated one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_partial.cli import help_formatter

if TYPE_CHECKING:
    from nnunet_partial.labels import DatasetRecord

_SHIFT_MM = 2.0
_MISS = 0.1

DESCRIPTION = """\
From an annotated raw dataset, make new ones in which labels are missing or annotators disagree, for experiments whose truth is
known.

--missing P  drops P percent of the annotations of every class, each class drawn on its own, case by case (Petit et al. 2021,
             INERRANT, section 4.1.2). Their alpha counts what stays: alpha = 100 - P. For one seed the draws are nested: what is
             annotated at a higher P is annotated at a lower one too. Every class stays annotated in one case that shows it.
--like MIX   deals the cases to the sources of a mix, each of which annotates only its own classes.
--annotators N  lets N simulated annotators draw every case. The boundary of an organ is shifted by --shift-mm on the average:
             half of the variance is a bias of the annotator for this organ, half varies smoothly along the boundary. With
             probability --miss an annotator overlooks an organ of a case. labelsTr holds what most of them say.

A dropped organ is unannotated: its voxels become 0, and the manifest does not say that it is absent."""

EPILOG = """\
a mix file names sources, in the order in which cases are dealt to them (mix.yaml):

  lits:       {classes: [liver], cases: 5}
  kits:       {classes: [[kidney_left, kidney_right]], cases: 4}     # drawn as one kidney, without a side
  msd_spleen: {classes: [spleen], cases: 4}
  btcv:       {classes: all, cases: 3}
  scans:      {classes: none, cases: 8}                              # images that nobody annotated

examples:
  nnunet_partial simulate -d 510 --as 511 --missing 50
  nnunet_partial simulate -d 510 --as 511 512 513 514 --missing 10 30 50 70 --hold-out 6 --seed 1
  nnunet_partial simulate -d 510 --as 515 --like mix.yaml --test-cases btcv_0001 btcv_0007
  nnunet_partial simulate -d 510 --as 517 --annotators 5 --shift-mm 2 --miss 0.1 --hold-out 6
  nnunet_partial simulate -d 4 --full --as 516 --missing 30      a plain nnU-Net dataset, every class looked for in every case

what comes out, below $nnUNet_raw/Dataset511_<name>:
  imagesTr, labelsTr, dataset.json, label_manifest.json   a dataset like any other: nnunet_partial plan -d 511
  imagesTs, labelsTs                                      the cases held out, with their untouched labels
  annotators/, annotatorsTs/                              each annotator's label maps of imagesTr and imagesTs (--annotators)
  references/                                             the untouched labels of all cases; nnU-Net does not look there
  simulation.json                                         arguments, and what was dropped from which case or overlooked by whom

judge against the untouched labels (over every class, dropped or not):
  nnunet_partial evaluate -d 511 -i PREDICTIONS -r $nnUNet_raw/Dataset511_<name>/labelsTs --full-reference
                                                          predictions of imagesTs; one that is missing is an error
  nnunet_partial evaluate -d 511 -i FOLD/validation -r $nnUNet_raw/Dataset511_<name>/references --full-reference \\
    --allow-missing -o full.json                          validation cases of a fold; without -o its summary.json is overwritten
  with --keep-missing the references are not full: evaluate -d <source dataset> -i ... -r .../references, without --full-reference

Images and references are links to the source dataset's files. A killed run goes on where it stopped: run the same again."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "simulate",
        help="make datasets with missing labels, or several annotators, out of an annotated one",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "-d", dest="dataset", required=True, metavar="ID", help="the annotated dataset, id or name, in nnUNet_raw"
    )
    parser.add_argument("--as", dest="ids", type=int, nargs="+", required=True, metavar="ID", help="ids of the new datasets")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--missing", type=int, nargs="+", metavar="P", help="percent of annotations to drop, 0 to 99, one for each id"
    )
    way.add_argument("--like", type=Path, metavar="MIX.yaml", help="a mix of sources to imitate")
    way.add_argument("--annotators", type=int, metavar="N", help="let 2 to 20 simulated annotators draw every case")
    parser.add_argument(
        "--shift-mm", type=float, metavar="MM", help=f"mean distance from the true boundary (default: {_SHIFT_MM:g})"
    )
    parser.add_argument("--miss", type=float, metavar="P", help=f"probability to overlook an organ (default: {_MISS:g})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: 0)")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--hold-out", type=int, default=0, metavar="N", help="draw so many cases for testing")
    test.add_argument("--test-cases", nargs="+", default=[], metavar="CASE", help="keep these cases for testing")
    parser.add_argument(
        "--name",
        nargs="+",
        metavar="NAME",
        help="names of the new datasets (default: <source>_missing<P>, <source>_<mix file> or <source>_annotators<N>)",
    )
    parser.add_argument(
        "--full", action="store_true", help="the dataset has no manifest; every class was looked for in every case"
    )
    parser.add_argument(
        "--keep-missing",
        action="store_true",
        help="the dataset may be partly annotated; only annotations that are there are counted and dropped",
    )
    parser.add_argument(
        "-np", dest="num_processes", type=int, default=4, metavar="N", help="cases worked on at a time (default: 4)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Simulate, and say where the datasets lie."""
    from nnunet_partial.dataset_conversion.simulation.annotated_dataset import read_annotated_dataset
    from nnunet_partial.dataset_conversion.simulation.annotators import SimulatedAnnotators
    from nnunet_partial.dataset_conversion.simulation.mix import read_mix
    from nnunet_partial.dataset_conversion.simulation.plan import choose_test_cases, plan_annotators, plan_like, plan_missing
    from nnunet_partial.dataset_conversion.simulation.simulate import describe_simulations, write_simulations
    from nnunet_partial.datasets import dataset_name
    from nnunet_partial.paths import nnunet_folder

    _check_numbers(args)
    annotators = None
    if args.annotators is not None:
        shift_mm, miss = (
            given if given is not None else default for given, default in ((args.shift_mm, _SHIFT_MM), (args.miss, _MISS))
        )
        annotators = SimulatedAnnotators(args.annotators, shift_mm, miss, args.seed)
    raw, name = nnunet_folder("nnUNet_raw"), dataset_name(args.dataset)
    source = read_annotated_dataset(raw / name, full=args.full, keep_missing=args.keep_missing, num_processes=args.num_processes)
    endings = [f"missing{percent}" for percent in args.missing or ()]
    endings = endings or [args.like.stem if args.like else f"annotators{args.annotators}"]
    names = args.name or [f"{source.manifest.dataset.name}_{ending}" for ending in endings]
    datasets = [_record(number, new_name) for number, new_name in zip(args.ids, names, strict=True)]
    held_out = choose_test_cases(source, number=args.hold_out, named=args.test_cases, seed=args.seed)
    if annotators:
        plans = [plan_annotators(source, datasets[0], annotators, held_out=held_out)]
    elif args.like:
        mix = read_mix(args.like, source.manifest.space)
        plans = [plan_like(source, datasets[0], mix, seed=args.seed, held_out=held_out)]
    else:
        plans = [
            plan_missing(source, dataset, percent, seed=args.seed, held_out=held_out)
            for dataset, percent in zip(datasets, args.missing, strict=True)
        ]
    folders = write_simulations(source, plans, raw, num_processes=args.num_processes)
    print(describe_simulations(source, plans))
    for number, folder in zip(args.ids, folders, strict=True):
        print(f"the dataset lies in {folder}; next: nnunet_partial plan -d {number}")
    return 0


def _record(number: int, name: str) -> "DatasetRecord":
    """Id and name of a new dataset, or one sentence where nnU-Net would not take them."""
    from pydantic import ValidationError

    from nnunet_partial.labels import DatasetRecord
    from nnunet_partial.labels.annotation import validation_faults

    try:
        return DatasetRecord(id=number, name=name)
    except ValidationError as error:
        raise ValueError(f"dataset {number} '{name}': {'; '.join(validation_faults(error))}") from None


def _check_numbers(args: argparse.Namespace) -> None:
    """As many ids and names as datasets are asked for."""
    wanted = len(args.missing) if args.missing else 1
    for option, given in (("--as", args.ids), ("--name", args.name)):
        if given is not None and len(given) != wanted:
            raise ValueError(
                f"{option} names {len(given)} datasets, but {wanted} are asked for "
                "(one for each --missing, one for --like or --annotators)"
            )
    for option, given in (("--shift-mm", args.shift_mm), ("--miss", args.miss)):
        if given is not None and args.annotators is None:
            raise ValueError(f"{option} says how --annotators draw; give their number too")
    if args.num_processes < 1:
        raise ValueError(f"-np {args.num_processes}: at least one process is needed")
