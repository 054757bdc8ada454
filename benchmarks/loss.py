"""Forward and backward of the marginal, exclusion, ambiguity and soft-label losses, in multiples of nnU-Net's DC_and_CE_loss.

    python -m benchmarks.loss --classes 5 14 40 --patch 96 --reps 5

Variants run in one process in shuffled order; a ratio is formed within each repetition, and the median and quartiles of the
ratios are shown. Two settings of the memory allocator are measured, because fresh memory is most of the cost on a CPU:
*default*, and *reuse* (glibc told to keep what it has), which is closer to CUDA's caching allocator. `--clock cpu` counts the
processor time of the process in place of the time on the wall: on a machine that others use, with --threads 1. *floor* is what
must be read and written at least: the logits twice, their gradient once. The soft-label loss is given the same target, each label
map one annotator's; rows of shares cost as much as rows of zeros and ones.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from benchmarks.ratios import CLOCKS, alternate, machine, show, under_both_allocators
from nnunet_partial.losses import (
    AmbiguityLoss,
    MarginalExclusionLoss,
    MarginalLoss,
    SoftLabelLoss,
    plain_ambiguity_sums,
    plain_soft_sums,
    plain_sums,
)
from nnunet_partial.targets import PartialTarget, as_soft

OURS = ("marginal", "marginal_exclusion", "ambiguity", "ambiguity_dice", "soft", "soft_dice")
VARIANTS = ("nnU-Net", *OURS, *(f"{name}_plain" for name in OURS))
Loss = Callable[[torch.Tensor], torch.Tensor]


def example(num_organs: int, patch: int, labelled: float = 1 / 9) -> tuple[torch.Tensor, PartialTarget]:
    """Logits and target of one fully and one 1/5-annotated case, in blocks of 8 voxels.

    Args:
        num_organs: K.
        patch: Edge in voxels.
        labelled: Share of labelled blocks; in the second case only those of annotated organs stay, except where it is 1.
    """
    num_classes = num_organs + 1
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, *[patch] * 3, generator=generator, requires_grad=True)
    lowest = round(num_organs * (1 - 1 / labelled)) + (labelled == 1)
    coarse = torch.randint(lowest, num_classes, (2, 1, *[patch // 8] * 3), generator=generator).clamp_min(0).float()
    labels = torch.nn.functional.interpolate(coarse, size=[patch] * 3, mode="nearest").to(torch.int16)
    known = max(1, num_organs // 5)
    labels[1][labels[1] > known] = 1 if labelled == 1 else 0
    tables = torch.eye(num_classes, dtype=torch.bool).repeat(2, 1, 1)
    tables[1, 0, known + 1 :] = True
    annotated = torch.ones(2, num_classes, dtype=torch.bool)
    annotated[1, known + 1 :] = False
    return logits, PartialTarget(labels, tables, annotated)


def loss_of(name: str, target: PartialTarget) -> Loss:
    """The variant of that name, a function of the logits."""
    if name == "nnU-Net":
        dice = {"batch_dice": False, "do_bg": False, "smooth": 1e-5, "ddp": False}
        host = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
        return lambda logits: host(logits, target.labels)
    plain = name.endswith("_plain")
    if name.startswith("ambiguity"):
        options = {"make_sums": plain_ambiguity_sums} if plain else {}
        loss = AmbiguityLoss(weight_dice=float("dice" in name), **options)
    elif name.startswith("soft"):
        options = {"make_sums": plain_soft_sums} if plain else {}
        target, loss = as_soft(target), SoftLabelLoss(weight_dice=float("dice" in name), **options)
    else:
        options = {"make_sums": plain_sums} if plain else {}
        loss = (MarginalExclusionLoss if "exclusion" in name else MarginalLoss)(**options)
    return lambda logits: loss(logits, target)


def variant(name: str, num_organs: int, patch: int) -> tuple[Loss, torch.Tensor, torch.Tensor]:
    """A variant, its logits and its label map."""
    logits, target = example(num_organs, patch)
    return loss_of(name, target), logits, target.labels


def floor(logits: torch.Tensor) -> None:
    """Read the logits twice and write a gradient, 2 MiB at a time, with nothing computed between."""
    flat = logits.detach().flatten()
    for part in flat.split(2**19):
        part.sum()
    torch.empty_like(flat).copy_(flat)


def measure(num_organs: int, patch: int, labelled: float, repetitions: int, clock: str, names: list[str]) -> list[dict]:
    """One row a variant: median and quartiles of its time over nnU-Net's, within repetitions."""
    logits, target = example(num_organs, patch, labelled)
    losses = {name: loss_of(name, target) for name in names}
    runs = {name: lambda loss=loss: loss(logits).backward() for name, loss in losses.items()} | {"floor": lambda: floor(logits)}

    def forget() -> None:
        logits.grad = None

    rows = alternate(runs, "nnU-Net", repetitions, clock, before=forget)
    return [{**row, "name": f"{row['name']} K={num_organs}"} for row in rows]


def main() -> None:
    """Measure under both allocator settings, print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 14], help="organs K (default: 5 14)")
    parser.add_argument("--patch", type=int, default=64, help="edge of the patch in voxels (default: 64)")
    parser.add_argument("--labelled", type=float, default=1 / 9, help="share of labelled voxels (default: 1/9)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--variants", choices=VARIANTS[1:], nargs="+", default=OURS, help="beside nnU-Net's own")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--one-allocator", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_allocator:
        torch.set_num_threads(args.threads)
        names = ["nnU-Net", *args.variants]
        rows = [
            row for number in args.classes for row in measure(number, args.patch, args.labelled, args.reps, args.clock, names)
        ]
        print(json.dumps(rows))
        return
    facts = machine() | {
        "threads": args.threads,
        "clock": args.clock,
        "patch": args.patch,
        "labelled": args.labelled,
        "repetitions": args.reps,
    }
    rows = under_both_allocators("benchmarks.loss", sys.argv[1:])
    show(facts | {"load_after": round(os.getloadavg()[0], 1)}, rows, "loss", "nnU-Net", args.json)


if __name__ == "__main__":
    main()
