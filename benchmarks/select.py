"""Exact selection of the most confident voxels, in multiples of numpy's partition, which only finds the threshold.

    python -m benchmarks.select --voxels 10000000 --fraction 0.33

*argsort* is the way of a first draft. Scores are log-odds in float32, one in a hundred of them a tie.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.ratios import CLOCKS, alternate, machine, show
from nnunet_partial.pseudo_labels.selection import most_confident


def main() -> None:
    """Measure, print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=10_000_000)
    parser.add_argument("--fraction", type=float, default=0.33)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    scores = generator.normal(3, 4, args.voxels).astype(np.float32)
    scores[generator.integers(args.voxels, size=args.voxels // 100)] = scores[0]
    count = round(args.fraction * args.voxels)
    runs = {
        "numpy partition": lambda: np.partition(scores, args.voxels - count),
        "most_confident": lambda: most_confident(scores, count),
        "argsort": lambda: np.argsort(scores, kind="stable")[-count:],
    }
    rows = [{"allocator": "default", **row} for row in alternate(runs, "numpy partition", args.reps, args.clock)]
    show(machine() | {"voxels": args.voxels, "clock": args.clock, "reps": args.reps}, rows, "selection", "numpy", args.json)


if __name__ == "__main__":
    main()
