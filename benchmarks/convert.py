"""Conversion of a case, in multiples of a plain read-remap-write with SimpleITK and of a file copy; and many small cases.

    python -m benchmarks.convert --reps 5
    python -m benchmarks.convert --many 1000

A case is a CT of 512 x 512 x N voxels (int16) with a label map of five organs, twice: compressed with its axes along RAS, as the
Decathlon keeps it (the image can be linked), and uncompressed along LPS, as LiTS keeps it (it has to be written again). Every
measurement is a process of its own, in shuffled order; the clock starts after the imports. Memory is the peak above what the
process held then. `--many` converts pools of small cases and shows the time per case and the peak as their number grows.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

from nnunet_partial.dataset_conversion import ConvertOptions, PoolConfig, convert_pool

ORGANS = {1: "spleen", 2: "kidney_right", 3: "kidney_left", 6: "liver", 11: "pancreas"}
CLASSES = ("liver", "spleen", "pancreas", "kidney_left", "kidney_right")
LAYOUTS = {"can be linked": (".nii.gz", "RAS"), "must be written": (".nii.gz", "LPS")}


def write_case(folder: Path, number: int, axes: str, shape: tuple[int, int, int]) -> None:
    """One case of BTCV's layout: a body of soft tissue with noise, boxes for organs."""
    generator = np.random.default_rng(number)
    body = np.zeros(shape, bool)
    body[tuple(slice(size // 8, -(size // 8)) for size in shape)] = True
    image = np.where(body, 60, -1000).astype(np.int16)
    image += np.rint(generator.normal(0, 10, shape)).astype(np.int16)  # compresses to half its size, as a real CT does
    labels = np.zeros(shape, np.uint8)
    for place, organ in enumerate(ORGANS, 2):
        corner = [size * place // 9 for size in shape]
        labels[tuple(slice(start, start + size // 9) for start, size in zip(corner, shape, strict=True))] = organ
    signs = [1 if axis in "RAS" else -1 for axis in axes]
    affine = np.diag([0.75 * signs[0], 0.75 * signs[1], 1.5, 1.0])
    for kind, array in (("img", image), ("label", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), folder / kind / f"{kind}{number:04d}.nii.gz")


def convert(source: Path, out: Path) -> None:
    """This package."""
    pool = PoolConfig.model_validate(
        {"dataset": {"id": 1, "name": "B"}, "classes": CLASSES, "sources": [{"source": "btcv", "path": str(source)}]}
    )
    convert_pool(pool, out, ConvertOptions(progress=False))


def plain(source: Path, out: Path) -> None:
    """What a short script does: read both files, look the ids up, write both files."""
    table = np.zeros(256, np.uint8)
    for theirs, name in ORGANS.items():
        table[theirs] = CLASSES.index(name) + 1
    for path in sorted((source / "img").iterdir()):
        image = SimpleITK.ReadImage(str(path))
        labels = SimpleITK.ReadImage(str(source / "label" / path.name.replace("img", "label")))
        remapped = SimpleITK.GetImageFromArray(table[SimpleITK.GetArrayFromImage(labels)])
        remapped.CopyInformation(labels)
        SimpleITK.WriteImage(image, str(out / path.name))
        SimpleITK.WriteImage(remapped, str(out / f"label_{path.name}"))


def copy(source: Path, out: Path) -> None:
    """Both files copied as they are, with neither check nor remapping."""
    for path in (*(source / "img").iterdir(), *(source / "label").iterdir()):
        shutil.copyfile(path, out / path.name)


WAYS: dict[str, Callable[[Path, Path], None]] = {"nnunet_partial": convert, "SimpleITK": plain, "file copy": copy}


def peak_mib() -> float:
    """The largest memory this process held since its peak was last forgotten (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Let the peak start again from what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def work(way: str, source: Path) -> None:
    """Do it once, and print what it took."""
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        forget_peak()
        before, start, cpu = peak_mib(), time.perf_counter(), time.process_time()
        WAYS[way](source, Path(out))
        taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "mib": peak_mib() - before}
    print(json.dumps(taken))


def run(way: str, source: Path) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.convert", "--way", way, "--source", str(source)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def compare(slices: int, repetitions: int, folder: Path) -> list[dict]:
    """One row a layout and peer: our time and memory over the peer's, within repetitions."""
    rows = []
    for layout, (_, axes) in LAYOUTS.items():
        source = folder / layout.replace(" ", "_") / "source"
        write_case(source, 1, axes, (512, 512, slices))
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for repetition in range(repetitions + 1):
            for way in random.Random(repetition).sample(list(WAYS), len(WAYS)):
                found = run(way, source)
                taken[way] += [found] if repetition else []  # the first fills the file cache
        for peer in ("SimpleITK", "file copy"):
            ratios = {
                key: [
                    ours[key] / max(theirs[key], 1e-9) for ours, theirs in zip(taken["nnunet_partial"], taken[peer], strict=True)
                ]
                for key in ("seconds", "cpu", "mib")
            }
            low, middle, high = statistics.quantiles(ratios["seconds"], n=4)
            row = {"name": f"{layout}, against {peer}", "time_ratio": middle, "quartiles": [low, high]}
            row |= {"cpu_ratio": statistics.median(ratios["cpu"])}
            row |= {"memory_ratio": statistics.median(ratios["mib"])} if peer != "file copy" else {}  # a copy needs none
            rows.append({**row, "seconds": statistics.median(found["seconds"] for found in taken["nnunet_partial"])})
    return rows


def many(counts: list[int], folder: Path) -> list[dict]:
    """Time per case and peak memory of pools of small cases."""
    rows = []
    for count in counts:
        source = folder / f"pool_{count}" / "source"
        for number in range(1, count + 1):
            write_case(source, number, "LPS", (48, 48, 32))
        found = run("nnunet_partial", source)
        rows.append({"name": f"{count} cases", "milliseconds_per_case": 1e3 * found["seconds"] / count, "mib": found["mib"]})
    return rows


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=150, help="slices of the large case (default: 150)")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--many", type=int, nargs="?", const=1000, help="measure this many small cases instead (default: 1000)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        work(args.way, args.source)
        return
    facts = {"cpu": platform.processor() or platform.machine(), "load": round(os.getloadavg()[0], 1), "slices": args.slices}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    with tempfile.TemporaryDirectory() as folder:
        if args.many:
            rows = many([args.many // 10, args.many], Path(folder))
            for row in rows:
                print(f"{row['name']:<14}{row['milliseconds_per_case']:>8.1f} ms a case{row['mib']:>8.0f} MiB above the imports")
        else:
            rows = compare(args.slices, args.reps, Path(folder))
            print(f"{'one case':<40}{'time':>7}  {'quartiles':<16}{'CPU':>7}{'memory':>9}{'s':>7}")
            for row in rows:
                spread = "[{:.3f}, {:.3f}]".format(*row["quartiles"])
                memory = f"{row['memory_ratio']:.2f}" if "memory_ratio" in row else "-"
                figures = f"{row['cpu_ratio']:>7.3f}{memory:>9}{row['seconds']:>7.2f}"
                print(f"{row['name']:<40}{row['time_ratio']:>7.3f}  {spread:<16}{figures}")
    if args.json:
        args.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
