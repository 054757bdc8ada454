"""Stock nnU-Net against nnUNetTrainerMarginalExclusion on partly annotated real CT, from native layouts to a table.

    python -m benchmarks.real_ct --data DIR --out DIR [--epochs 60]

DIR holds img/imgNNNN.nii.gz and label/labelNNNN.nii.gz of BTCV (13 organs), and beside its parent a script
tools/native_layouts.py that lays scans out as five public datasets, each annotated for some organs only. Fifteen scans train
(three a source), the others are held out with all their organs. Both networks have the same tiny plan, the same number of
iterations and the same CPU; the only difference is what is done with organs that nobody looked for. A rerun goes on where it
stopped.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.trainings import CONFIGURATION, PLANS, Job, run, run_all, set_up, single_threaded, train_command
from nnunet_partial.demo.picture import draw_picture
from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.report.slices import read_shown_case

CLASSES = ("liver", "spleen", "pancreas", "kidney_left", "kidney_right")
TRAINERS = {"naive": "nnUNetTrainerNaive", "ours": "nnUNetTrainerMarginalExclusion"}
SOURCES = {
    "btcv": "native/btcv",
    "lits": "native/lits",
    "tcia_pancreas": "native/tcia",
    "msd": "native/Task09_Spleen",
    "kits19": "native/kits19",
}
PER_SOURCE = 3
POOL, HELD_OUT = "Dataset500_Abdomen", "Dataset599_HeldOut"


def main() -> None:
    """Run what is missing, print the table, write results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with img/ and label/ of BTCV")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--epochs", type=int, default=60, help="epochs of 50 iterations (default: 60)")
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="NAME=VALUE", help="further settings of the plans"
    )
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    environment = set_up(out)
    if not (out / "nnUNet_raw" / HELD_OUT / "dataset.json").exists():
        lay_out(args.data.resolve(), out)
        for name in ("abdomen", "held_out"):
            run(["nnunet_partial", "convert", f"{name}.yaml", "-np", "2"], out, environment)
    lengths = [f"num_epochs={args.epochs}", "num_iterations_per_epoch=50", "num_val_iterations_per_epoch=4", *args.settings]
    if not (out / "nnUNet_results" / POOL).exists():
        run(["nnunet_partial", "plan", "-d", "500", "--tiny", "-np", "2", "--set", *lengths], out, environment)
    run_all([Training(name) for name in TRAINERS], out, environment, processes=2)
    for name, trainer in TRAINERS.items():
        model = ["-d", "500", "-c", "3d_fullres", "-f", "all", "-tr", trainer]
        images = str(out / "nnUNet_raw" / HELD_OUT / "imagesTr")
        how = ["-i", images, "-o", f"predictions_{name}", "-device", "cpu", "-npp", "1", "-nps", "1"]
        run(["nnUNetv2_predict", *model, *how, "--continue_prediction"], out, environment)
    report(out)


def lay_out(data: Path, out: Path) -> None:
    """Five native layouts of the first scans; the others, fully annotated, as a BTCV of their own."""
    script = data.parent.parent / "tools" / "native_layouts.py"
    shutil.rmtree(out / "native", ignore_errors=True)
    run([sys.executable, str(script), str(data), str(out / "native"), "--per-source", str(PER_SOURCE)], out, dict(os.environ))
    held_out = out / "held_out" / "RawData" / "Training"
    for image in sorted((data / "img").glob("img*.nii.gz"))[PER_SOURCE * len(SOURCES) :]:
        for kind in ("img", "label"):
            (held_out / kind).mkdir(parents=True, exist_ok=True)
            name = image.name.replace("img", kind)
            shutil.copyfile(data / kind / name, held_out / kind / name)
    classes = f"classes: [{', '.join(CLASSES)}]\nsources:\n"
    pool = "".join(f"  - {{source: {source}, path: {path}}}\n" for source, path in SOURCES.items())
    (out / "abdomen.yaml").write_text(f"dataset: {{id: 500, name: Abdomen}}\n{classes}{pool}")
    (out / "held_out.yaml").write_text(f"dataset: {{id: 599, name: HeldOut}}\n{classes}  - {{source: btcv, path: held_out}}\n")


@dataclass(frozen=True)
class Training(Job):
    """One of the two networks on all cases of the pool."""

    name: str

    def folder(self, out: Path) -> Path:
        """Where its checkpoints lie."""
        return out / "nnUNet_results" / POOL / f"{TRAINERS[self.name]}__{PLANS}__{CONFIGURATION}" / "fold_all"

    def is_done(self, out: Path) -> bool:
        """Whether it is trained."""
        return (self.folder(out) / "checkpoint_final.pth").exists()

    def command(self, out: Path) -> list[str]:
        """What trains it."""
        return single_threaded(train_command(POOL, "all", TRAINERS[self.name], self.folder(out)))


def report(out: Path) -> None:
    """Dice of both on the held-out scans, every organ judged in every scan."""
    dataset_json = json.loads((out / "nnUNet_raw" / POOL / "dataset.json").read_text(encoding="utf-8"))
    annotation = Annotation.from_dataset_json(dataset_json)
    references = out / "nnUNet_raw" / HELD_OUT / "labelsTr"
    summaries = {}
    for name in TRAINERS:
        summaries[name] = evaluate_folder(references, out / f"predictions_{name}", annotation, ".nii.gz", full_reference=True)
        write_summary(summaries[name], out / f"predictions_{name}" / "summary.json")
    draw(out, summaries, len(annotation.cases))
    print("| organ | annotated in | stock nnU-Net | nnunet_partial |\n|---|---:|---:|---:|")
    rows = {}
    for number, organ in enumerate(CLASSES, 1):
        cases = len(annotation.annotated_cases(organ, annotation.cases))
        dice = {name: summary["mean"][number]["Dice"] for name, summary in summaries.items()}
        rows[organ] = {"annotated_in": cases, **dice}
        print(f"| {organ} | {cases} of {len(annotation.cases)} | {dice['naive']:.3f} | {dice['ours']:.3f} |")
    means = {name: summary["foreground_mean"]["Dice"] for name, summary in summaries.items()}
    print(f"| mean | | {means['naive']:.3f} | {means['ours']:.3f} |")
    held_out = len(summaries["ours"]["metric_per_case"])
    write_json({"organs": rows, "mean": means, "held_out_cases": held_out}, out / "results.json")


def draw(out: Path, summaries: dict[str, dict], training_cases: int) -> None:
    """Slices of two held-out scans, one of them ours at its worst."""
    folder = out / "nnUNet_raw" / HELD_OUT
    means = {
        name: {
            case["identifier"]: fmean(case["metrics"][n]["Dice"] for n in range(1, len(CLASSES) + 1))
            for case in summary["metric_per_case"]
        }
        for name, summary in summaries.items()
    }
    ordered = sorted(means["ours"], key=means["ours"].get)
    shown = [ordered[len(ordered) // 2], ordered[0]]
    cases = [
        read_shown_case(
            folder / "imagesTr" / f"{key}_0000.nii.gz",
            folder / "labelsTr" / f"{key}.nii.gz",
            *(out / f"predictions_{name}" / f"{key}.nii.gz" for name in TRAINERS),
        )
        for key in shown
    ]
    annotated = dict.fromkeys(CLASSES, 2 * PER_SOURCE)  # by the full source and by one more
    dice = [[means[name][key] for name in TRAINERS] for key in shown]
    draw_picture(cases, dice, annotated, training_cases, out / "real_ct.png", scans="scans")


if __name__ == "__main__":
    main()
