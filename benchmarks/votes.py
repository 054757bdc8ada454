"""Label maps of votes: how many ids they have, what laying them out costs, and what turning them costs in augmentation.

    python -m benchmarks.votes --annotators 3 5 10 20 --organs 5 13

Annotators are made by shifting the boundaries of balls in a volume of 96^3, each by a whole number of voxels of its own.
*turning*: nnU-Net's spatial transform (rotation and scaling, image and label map, patch 64^3) with the label map taken from the
nearest voxel, over the same with nnU-Net's own way, which interpolates every id by itself; processor time, shuffled, median and
quartiles of ratios within repetitions. *own x majority*: nnU-Net's own way over the same on the majority's label map, which is
what a stock training turns.
"""

import argparse
import json
import random
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from benchmarks.ratios import machine
from nnunet_partial.targets import encode_votes

EDGE, PATCH = 96, 64


def annotators(number: int, organs: int) -> list[np.ndarray]:
    """Label maps of balls, their radii shifted by -2 to 2 voxels by annotator and organ."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(16, EDGE - 16, (organs, 3))
    radii = generator.uniform(7, 13, organs)
    grid = np.indices((EDGE,) * 3, dtype=np.float32)
    gaps = [
        np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(0)) - radius
        for centre, radius in zip(centres, radii, strict=True)
    ]
    maps = []
    for _ in range(number):
        drawn = np.zeros((EDGE,) * 3, dtype=np.uint8)
        for organ, gap in enumerate(gaps, 1):
            drawn[(gap < generator.integers(-2, 3)) & (drawn == 0)] = organ
        maps.append(drawn)
    return maps


def spatial(mode_seg: str) -> SpatialTransform:
    """nnU-Net's, of every patch."""
    transform = SpatialTransform(
        (PATCH,) * 3,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=0,
        p_rotation=1,
        rotation=(-0.5, 0.5),
        p_scaling=1,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    transform.mode_seg = mode_seg
    return transform


def measure(number: int, organs: int, repetitions: int) -> dict:
    """A row of the table."""
    maps = annotators(number, organs)
    began = time.process_time()
    labels, votes = encode_votes(maps, ["p"] * number, organs + 1)
    seconds = time.process_time() - began
    image = torch.randn(1, *labels.shape, generator=torch.Generator().manual_seed(0))
    majority = np.argmax(np.stack([np.sum([drawn == n for drawn in maps], axis=0) for n in range(organs + 1)]), axis=0)
    segmentations = {"nearest": labels, "own": labels, "majority": majority.astype(np.int16)}
    transforms = {name: spatial("nearest" if name == "nearest" else "bilinear") for name in segmentations}
    times = {name: [] for name in transforms}
    for repetition in range(repetitions + 1):
        for name in random.Random(repetition).sample(list(transforms), len(transforms)):
            np.random.seed(repetition)  # the transform draws from numpy and torch
            torch.manual_seed(repetition)
            began = time.process_time()
            transforms[name](image=image, segmentation=torch.from_numpy(segmentations[name])[None])
            if repetition:  # the first warms up
                times[name].append(time.process_time() - began)
    ratios = [near / own for near, own in zip(times["nearest"], times["own"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    stock = statistics.median(own / stock for own, stock in zip(times["own"], times["majority"], strict=True))
    return {
        "name": f"A={number} K={organs}",
        "ids": len(votes.ballots),
        "encode_seconds": seconds,
        "time_ratio": middle,
        "quartiles": [low, high],
        "own_over_majority": stock,
    }


def main() -> None:
    """Print one table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotators", type=int, nargs="+", default=[3, 5, 10, 20])
    parser.add_argument("--organs", type=int, nargs="+", default=[5, 13])
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(number, organs, args.reps) for organs in args.organs for number in args.annotators]
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{'annotators, organs':<20}{'ids':>6}{'laid out s':>12}{'turning x own':>15}  {'quartiles':<14}{'own x majority':>15}")
    for row in rows:
        spread = "[{:.2f}, {:.2f}]".format(*row["quartiles"])
        figures = f"{row['ids']:>6}{row['encode_seconds']:>12.3f}{row['time_ratio']:>15.2f}  {spread:<14}"
        print(f"{row['name']:<20}{figures}{row['own_over_majority']:>15.2f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
