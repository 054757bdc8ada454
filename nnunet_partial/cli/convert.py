"""`nnunet_partial convert`: public, partly labelled datasets into one nnU-Net dataset."""

import argparse

from nnunet_partial.cli import help_formatter
from nnunet_partial.paths import nnunet_folder

DESCRIPTION = """\
Pool public datasets and your own, each of which labels only some of the organs, into one dataset below $nnUNet_raw,
with a label manifest that says what was looked for in each case.
"""

EPILOG = """\
a pool file says what is pooled (abdomen.yaml):

  dataset: {id: 500, name: Abdomen}
  classes: [liver, spleen, pancreas, kidney_left, kidney_right]     # their order gives the label ids 1, 2, ...
  sources:
    - {source: btcv, path: $DATA/BTCV}
    - {source: lits, path: $DATA/LiTS, tumor: merge}
    - {source: tcia_pancreas, path: $DATA/NIH}
    - {source: msd, path: $DATA/Task09_Spleen}
    - {source: kits19, path: ~/kits19}

  paths may hold environment variables and ~, and are relative to the file
  name:  prefix of the case identifiers (by default the source); needed where a source is used twice
  tumor: merge     a tumor or cyst is part of its organ (default, as in Shi et al. 2021)
         separate  it is a class of its own, such as liver_tumor or kidney_cyst, where classes list it
         union     organ and tumor under one id that stands for both classes
  sides: split     kidneys, adrenal glands, ... drawn without a side are told apart by connected component (default)
         union     one id that stands for kidney_left and kidney_right
  unlabelled: skip   images without a label map are left out (default)
              keep   they become cases in which nothing is annotated

  sources that are known to hold the same scans (lits and Task03, kits19 and kits23, ...) are refused;
  allow_overlap: true, beside classes and sources, goes on all the same

sources and what they expect below the path:
  abdomenatlas      BDMAP_<N>/ct.nii.gz and combined_labels.nii.gz or segmentations/<organ>.nii.gz
  abdomenct1k       Case_<NNNNN>_0000.nii.gz and Case_<NNNNN>.nii.gz, in any folders
  amos22_ct         imagesTr, labelsTr (and Va) with amos_<NNNN>.nii.gz up to 500
  amos22_mr         imagesTr, labelsTr (and Va) with amos_<NNNN>.nii.gz above 500
  btcv              img/img<NNNN>.nii.gz and label/label<NNNN>.nii.gz, in any folders
  chaos_ct          CT/<id>/{DICOM_anon,Ground}, at most two folders down
  chaos_mr_t1in     MR/<id>/T1DUAL/{DICOM_anon/InPhase,Ground}, at most two folders down
  chaos_mr_t1out    MR/<id>/T1DUAL/{DICOM_anon/OutPhase,Ground}, at most two folders down
  chaos_mr_t2spir   MR/<id>/T2SPIR/{DICOM_anon,Ground}, at most two folders down
  flare22           images/FLARE22_Tr_<NNNN>_0000.nii.gz and labels/FLARE22_Tr_<NNNN>.nii.gz
  kits19            data/case_<NNNNN>/imaging.nii.gz and segmentation.nii.gz
  kits21            case_<NNNNN>/imaging.nii.gz, aggregated_MAJ_seg.nii.gz and segmentations/
  kits23            case_<NNNNN>/imaging.nii.gz, segmentation.nii.gz and instances/
  lits              volume-<i>.nii and segmentation-<i>.nii, in any folders
  msd               imagesTr, labelsTr and dataset.json of one Decathlon task
  nnunet_raw        imagesTr, labelsTr and dataset.json of one Dataset<id>_<name> folder with one channel
  tcia_pancreas     PANCREAS_<NNNN>/<study>/<series>/*.dcm and label<NNNN>.nii.gz
  totalsegmentator  s<NNNN>/ct.nii.gz and s<NNNN>/segmentations/<class>.nii.gz
  word              imagesTr, labelsTr (and Val, Ts) with word_<NNNN>.nii.gz
  hospital.yaml     your own data: a source file says which files are images and labels, what the ids stand for, and
                    who drew them where several annotators did;
                    nnunet_partial convert --example-source > hospital.yaml  prints one to fill in

examples:
  nnunet_partial convert abdomen.yaml --dry-run       say what would be done, and every fault of the file
  nnunet_partial convert abdomen.yaml -np 8
  nnunet_partial convert shi2021 -np 8                a preset (`preset list`), downloads below $NNUNET_PARTIAL_DOWNLOADS
  nnunet_partial convert lits ~/LiTS -d 501           one source, all of its own classes
  nnunet_partial convert msd ~/Task07_Pancreas -d 502 --tumor separate
  nnunet_partial convert hospital.yaml -d 504         your own data, by a source file beside it
  nnunet_partial convert btcv ~/BTCV -d 503 --classes liver spleen pancreas
  nnunet_partial convert kits23 ~/kits23 -d 504 --tumor separate    three readers' label maps are kept

A killed run goes on where it stopped: run the same command again. Many machines share the work with -num_parts and -part_id,
or through a Dask scheduler (pip install 'nnunet_partial[cluster]').
"""


class _PrintExample(argparse.Action):
    """Prints the example of a source file and ends, as --version does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from nnunet_partial.dataset_conversion.own_data.example import EXAMPLE

        print(EXAMPLE, end="")
        parser.exit()


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `convert` to the command."""
    parser = subparsers.add_parser(
        "convert",
        help="pool partly labelled downloads into one nnU-Net dataset",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=help_formatter(),
    )
    parser.add_argument(
        "pool", metavar="POOL.yaml | PRESET | SOURCE", help="a pool file or a preset; short form: a source or a source file"
    )
    parser.add_argument("path", nargs="?", metavar="PATH", help="short form: where the cases lie (of a source file: beside it)")
    parser.add_argument("-d", dest="dataset_id", type=int, metavar="ID", help="short form: dataset id, 1 to 999")
    parser.add_argument("--name", help="short form: name of the dataset (default: the source's)")
    parser.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="short form: classes in the order of their label ids (default: all)"
    )
    parser.add_argument(
        "--tumor", choices=("merge", "separate", "union"), help="short form: what becomes of tumors and cysts (default: merge)"
    )
    parser.add_argument(
        "--sides", choices=("split", "union"), help="short form: what becomes of organs drawn without a side (default: split)"
    )
    parser.add_argument(
        "-np", dest="num_processes", type=int, default=4, metavar="N", help="cases converted at the same time (default: 4)"
    )
    parser.add_argument(
        "--copy",
        action="store_true",
        help="copy images that can stay as they are; by default they are linked (hard link, else symbolic link)",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave faulty cases out and list them in the manifest; by default a fault refuses the dataset (good cases are kept)",
    )
    parser.add_argument(
        "-num_parts", type=int, default=1, metavar="N", help="share the cases out to N runs of this command (default: 1)"
    )
    parser.add_argument("-part_id", type=int, default=0, metavar="I", help="which of the N parts this run converts, from 0")
    parser.add_argument(
        "-scheduler",
        metavar="ADDRESS",
        help="convert on a Dask cluster, such as tcp://host:8786; all machines must see the same paths",
    )
    parser.add_argument(
        "--example-source", action=_PrintExample, nargs=0, help="print a source file for your own data, with comments, and end"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, and say where the dataset lies."""
    from nnunet_partial.dataset_conversion import (
        SOURCES,
        ConvertOptions,
        convert_pool,
        describe_pool,
        load_pool,
        single_source_pool,
    )
    from nnunet_partial.dataset_conversion.own_data.source_file import is_source_file
    from nnunet_partial.dataset_conversion.preset import pool_file, preset_names

    short_form = {"path": args.path, "-d": args.dataset_id, "--name": args.name, "--classes": args.classes}
    short_form.update({"--tumor": args.tumor, "--sides": args.sides})
    if args.path is None and args.dataset_id is None and args.pool not in SOURCES:
        given = [option for option, value in short_form.items() if value is not None]
        if given:
            raise ValueError(
                f"{', '.join(given)} belong to the short form (SOURCE PATH -d ID); a pool file says these things itself"
            )
        pool = load_pool(pool_file(args.pool) if args.pool in preset_names() else args.pool)
    else:
        needed = ("-d",) if is_source_file(args.pool) else ("path", "-d")
        missing = [option for option in needed if short_form[option] is None]
        if missing:
            raise ValueError(f"the short form lacks {' and '.join(missing)}: nnunet_partial convert {args.pool} PATH -d ID")
        pool = single_source_pool(
            args.pool, args.path, args.dataset_id, name=args.name, classes=args.classes, tumor=args.tumor, sides=args.sides
        )
    output_root = nnunet_folder("nnUNet_raw")
    if args.dry_run:
        print(describe_pool(pool, output_root, copy=args.copy))
        return 0
    options = ConvertOptions(
        num_processes=args.num_processes,
        copy=args.copy,
        skip_bad=args.skip_bad,
        part=(args.part_id, args.num_parts),
        scheduler=args.scheduler,
    )
    folder = convert_pool(pool, output_root, options)
    if (folder / "dataset.json").exists():
        print(f"the dataset lies in {folder}\nnext: nnunet_partial verify -d {pool.dataset.id}")
    return 0
