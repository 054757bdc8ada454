"""Forward and backward of the marginal and exclusion losses, in multiples of nnU-Net's DC_and_CE_loss.

    python -m benchmarks.loss --classes 5 14 --patch 64 --reps 7

Variants run in one process in shuffled order; a ratio is formed within each repetition, and the median and quartiles of the
ratios are shown. Two settings of the memory allocator are measured, because fresh memory is most of the cost on a CPU:
*default*, and *reuse* (glibc told to keep what it has), which is closer to CUDA's caching allocator.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_partial.losses import MarginalExclusionLoss, MarginalLoss
from nnunet_partial.targets import PartialTarget

REUSE = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(32 * 2**30)}


def losses(num_organs: int, patch: int) -> tuple[dict[str, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]:
    """The variants, each a function of the logits, and the logits of one fully and one 1/5-annotated case."""
    num_classes = num_organs + 1
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, *[patch] * 3, generator=generator, requires_grad=True)
    coarse = torch.randint(-8 * num_organs, num_classes, (2, 1, *[patch // 8] * 3), generator=generator).clamp_min(0).float()
    labels = torch.nn.functional.interpolate(coarse, size=[patch] * 3, mode="nearest").to(torch.int16)
    known = max(1, num_organs // 5)
    labels[1][labels[1] > known] = 0
    tables = torch.eye(num_classes, dtype=torch.bool).repeat(2, 1, 1)
    tables[1, 0, known + 1 :] = True
    annotated = torch.ones(2, num_classes, dtype=torch.bool)
    annotated[1, known + 1 :] = False
    target = PartialTarget(labels, tables, annotated)
    dice = {"batch_dice": False, "do_bg": False, "smooth": 1e-5, "ddp": False}
    host = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    marginal, exclusion = MarginalLoss(), MarginalExclusionLoss()
    variants = {
        "nnU-Net": lambda z: host(z, labels),
        "marginal": lambda z: marginal(z, target),
        "marginal_exclusion": lambda z: exclusion(z, target),
    }
    return variants, logits


def measure(num_organs: int, patch: int, repetitions: int) -> list[dict]:
    """One row a variant: median and quartiles of its time over nnU-Net's, within repetitions."""
    variants, logits = losses(num_organs, patch)
    seconds = {name: [] for name in variants}
    for repetition in range(repetitions + 1):
        for name in random.Random(repetition).sample(list(variants), len(variants)):
            logits.grad = None
            start = time.perf_counter()
            variants[name](logits).backward()
            if repetition:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles([a / b for a, b in zip(times, seconds["nnU-Net"], strict=True)], n=4)
        row = {"name": f"{name} K={num_organs}", "time_ratio": middle, "quartiles": [low, high]}
        rows.append({**row, "milliseconds": 1e3 * statistics.median(times)})
    return rows


def main() -> None:
    """Measure under both allocator settings, print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 14], help="organs K (default: 5 14)")
    parser.add_argument("--patch", type=int, default=64, help="edge of the patch in voxels (default: 64)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--one-allocator", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_allocator:
        torch.set_num_threads(args.threads)
        print(json.dumps([row for num_organs in args.classes for row in measure(num_organs, args.patch, args.reps)]))
        return
    facts = {"cpu": platform.processor() or platform.machine(), "threads": args.threads, "load": os.getloadavg()[0]}
    facts |= {"torch": torch.__version__, "patch": args.patch, "repetitions": args.reps}
    rows = []
    for allocator, variables in (("default", {}), ("reuse", REUSE)):
        command = [sys.executable, "-m", "benchmarks.loss", "--one-allocator", *sys.argv[1:]]
        found = subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True, text=True).stdout
        rows += [{"allocator": allocator, **row} for row in json.loads(found.splitlines()[-1])]
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{'allocator':<10}{'loss':<28}{'x nnU-Net':>10}  {'quartiles':<14}{'ms':>8}")
    for row in rows:
        spread = "[{:.2f}, {:.2f}]".format(*row["quartiles"])
        print(f"{row['allocator']:<10}{row['name']:<28}{row['time_ratio']:>10.2f}  {spread:<14}{row['milliseconds']:>8.0f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
