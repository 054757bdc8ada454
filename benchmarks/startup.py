"""How long one waits before anything happens: `nnunet_partial --help`, and a trainer on a dataset of many cases.

    python -m benchmarks.startup --cases 10000

*trainer*: from an empty process to an initialised trainer with its split: nnU-Net's lookup by name, dataset.json with the
annotation of all cases, the fold's cases, a small network and its loss; ours against stock nnU-Net's on the same dataset. *help*:
against a Python process that does nothing; it fails where --help has imported torch. Each run is a process of its own; the
difference in seconds is what a user waits longer.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ratios import alternate, machine, show
from benchmarks.step import CONFIGURATION, DATASET, FULL, PLANS, STOCK, set_nnunet_folders, write_dataset
from nnunet_partial.labels import write_json
from nnunet_partial.paths import TRAINER_FOLDER, TRAINER_VARIABLE

OURS = "nnUNetTrainerMarginalExclusion"
TRAINER = """
import sys, torch
from nnunetv2.run.run_training import get_trainer_from_args
trainer = get_trainer_from_args({dataset!r}, {configuration!r}, 0, {trainer!r}, {plans!r}, False, torch.device("cpu"))
trainer.initialize()
trainer.do_split()
"""
HELP = """
import sys
from nnunet_partial.cli import main
try:
    main(['--help'])
except SystemExit:
    assert 'torch' not in sys.modules
"""


def write_many(root: Path, number: int) -> None:
    """The dataset of `benchmarks.step` with many cases, all annotated alike."""
    write_dataset(root, 5, 32, [4, 8, 16])
    folder = root / "nnUNet_preprocessed" / DATASET
    keys = [f"case_{place:05d}" for place in range(number)]
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    dataset["numTraining"] = number
    dataset["annotation"]["cases"] = {key: {"protocol": FULL, "source": FULL} for key in keys}
    write_json(dataset, folder / "dataset.json")
    write_json([{"train": keys[number // 5 :], "val": keys[: number // 5]}], folder / "splits_final.json")
    cases = folder / f"{PLANS}_{CONFIGURATION}"
    for key in keys:
        for ending in ("b2nd", "pkl"):
            (cases / f"{key}.{ending}").touch()


def python(code: str) -> None:
    """Run code in a process of its own."""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(found.stderr)


def main() -> None:
    """Measure, print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        set_nnunet_folders(Path(root))
        os.environ[TRAINER_VARIABLE] = str(TRAINER_FOLDER)
        write_many(Path(root), args.cases)
        where = {"dataset": DATASET, "configuration": CONFIGURATION, "plans": PLANS}
        trainers = {name: lambda name=name: python(TRAINER.format(trainer=name, **where)) for name in (STOCK, OURS)}
        rows = alternate(trainers, STOCK, args.reps, "wall")
    rows += alternate({"nothing": lambda: python("pass"), "--help": lambda: python(HELP)}, "nothing", args.reps, "wall")
    longer = {rows[n + 1]["name"]: (rows[n + 1]["milliseconds"] - rows[n]["milliseconds"]) / 1e3 for n in (0, 2)}
    rows = [{"allocator": "default", **row} for row in rows]
    show(machine() | {"cases": args.cases, "reps": args.reps}, rows, "what", "stock", args.json)
    print("; ".join(f"{name}: {seconds:+.2f} s" for name, seconds in longer.items()))


if __name__ == "__main__":
    main()
