"""Evaluation with surface metrics, against nnU-Net's own evaluation plus `surface-distance` one class at a time.

    python -m benchmarks.evaluate --references DIR [--cases 3] [--zoom 1] [--reps 3] [--json FILE]
    python -m benchmarks.evaluate --references DIR --many 10 100

DIR holds label maps <name>.nii.gz of up to 13 organs (BTCV's label/). A prediction is the reference moved by two voxels, with one
voxel in five hundred lost. Both ways give the same Dice and HD95, which is checked. --zoom 4 brings slices of 128 x 128 to the
512 x 512 of a scanner. --many measures the peak memory of evaluations of so many small cases instead.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK
import surface_distance
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_partial.evaluation import Tolerances, evaluate_folder, read_label_map
from nnunet_partial.labels import Annotation

NUM_CLASSES = 13
TOLERANCE_MM = 2.0


def write_cases(source: Path, folder: Path, *, cases: int, zoom: int) -> None:
    """References and predictions of the first label maps, in-plane voxels repeated `zoom` times."""
    rng = np.random.default_rng(0)
    for kind in ("references", "predictions"):
        (folder / kind).mkdir(parents=True)
    for path in sorted(source.glob("*.nii.gz"))[:cases]:
        image = SimpleITK.ReadImage(str(path))
        labels = SimpleITK.GetArrayFromImage(image).astype(np.uint8)
        reference = labels.repeat(zoom, axis=1).repeat(zoom, axis=2)
        prediction = np.roll(reference, (0, 2, 2), axis=(0, 1, 2))
        prediction[rng.random(prediction.shape) < 0.002] = 0
        for kind, array in (("references", reference), ("predictions", prediction)):
            written = SimpleITK.GetImageFromArray(array)
            x, y, z = image.GetSpacing()
            written.SetSpacing((x / zoom, y / zoom, z))
            written.SetDirection(image.GetDirection())
            SimpleITK.WriteImage(written, str(folder / kind / path.name))


def annotation_of(folder: Path) -> Annotation:
    """Every organ was looked for."""
    names = {f"organ_{number}": number for number in range(1, NUM_CLASSES + 1)}
    labels = {number: [name] for name, number in names.items()}
    cases = {path.name.removesuffix(".nii.gz"): {"protocol": "all", "source": "all"} for path in folder.glob("*.nii.gz")}
    block = {"protocols": {"all": {"labels": labels}}, "cases": cases}
    return Annotation.from_dataset_json({"labels": {"background": 0, **names}, "annotation": block})


def ours(folder: Path) -> dict[tuple[str, int], tuple[float, float]]:
    """Everything that `nnunet_partial evaluate` measures."""
    references = folder / "references"
    tolerances = Tolerances(TOLERANCE_MM)
    summary = evaluate_folder(references, folder / "predictions", annotation_of(references), tolerances=tolerances)
    return {
        (case["identifier"], key): (values["Dice"], values["HD95_mm"])
        for case in summary["metric_per_case"]
        for key, values in case["metrics"].items()
    }


def theirs(folder: Path) -> dict[tuple[str, int], tuple[float, float]]:
    """What nnUNetv2_evaluate_folder does of a case, then `surface-distance` class by class on the whole grid."""
    found = {}
    for reference_file in sorted((folder / "references").iterdir()):
        prediction_file = folder / "predictions" / reference_file.name
        host = compute_metrics(str(reference_file), str(prediction_file), SimpleITKIO(), list(range(1, NUM_CLASSES + 1)))
        reference, prediction = read_label_map(reference_file), read_label_map(prediction_file)
        for key in range(1, NUM_CLASSES + 1):
            masks = reference.labels == key, prediction.labels == key
            hd95_mm = float("nan")
            if masks[0].any() and masks[1].any():
                distances = surface_distance.compute_surface_distances(*masks, list(reference.spacing_mm[::-1]))
                surface_distance.compute_robust_hausdorff(distances, 100)
                hd95_mm = surface_distance.compute_robust_hausdorff(distances, 95)
                surface_distance.compute_average_surface_distance(distances)
                surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)
            found[reference_file.name.removesuffix(".nii.gz"), key] = (host["metrics"][key]["Dice"], hd95_mm)
    return found


def compare(folder: Path, repetitions: int) -> dict:
    """Median and quartiles of the time of one way over the other's, within repetitions."""
    ways = {"ours": ours, "theirs": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        found = {}
        for name in random.Random(repetition).sample(list(ways), len(ways)):
            start = time.perf_counter()
            found[name] = ways[name](folder)
            seconds[name].append(time.perf_counter() - start)
        values = [np.array([found[name][key] for key in sorted(found["ours"])]) for name in ways]
        np.testing.assert_allclose(*values, rtol=1e-9)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if repetitions > 1 else 3 * ratios
    medians = {f"{name}_seconds": statistics.median(times) for name, times in seconds.items()}
    return {"time_ratio": middle, "quartiles": [low, high], **medians}


def peak_mib(count: int, source: Path) -> float:
    """Peak memory of a process that evaluates so many cases, made of one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(source, folder, cases=1, zoom=1)
        for kind in ("references", "predictions"):
            (first,) = (folder / kind).iterdir()
            for number in range(1, count):
                (folder / kind / f"copy_{number}.nii.gz").hardlink_to(first)
        command = [sys.executable, "-m", "benchmarks.evaluate", "--references", str(source), "--evaluate-once", name]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, required=True, help="folder of label maps")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--zoom", type=int, default=1, help="repeat voxels in plane (default: 1)")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--many", type=int, nargs="+", help="measure peak memory of so many cases instead")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--evaluate-once", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.evaluate_once:
        ours(args.evaluate_once)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    if args.many:
        rows = [{"name": f"{count} cases", "peak_mib": peak_mib(count, args.references)} for count in args.many]
    else:
        with tempfile.TemporaryDirectory() as name:
            write_cases(args.references, Path(name), cases=args.cases, zoom=args.zoom)
            rows = [{"name": f"{args.cases} cases, zoom {args.zoom}", **compare(Path(name), args.reps)}]
    print(f"load {os.getloadavg()[0]:.1f}")
    for row in rows:
        print(json.dumps(row))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
