"""Scans that occur twice: in a dataset, or in it and among held-out scans."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tqdm import tqdm

from nnunet_partial.dataset_conversion.duplicates.known_overlaps import known_overlap
from nnunet_partial.dataset_conversion.duplicates.scan_cache import ScanFile
from nnunet_partial.dataset_conversion.duplicates.scan_hash import FLIPS, ScanHash
from nnunet_partial.dataset_conversion.duplicates.scan_match import (
    MAX_HAMMING,
    MIN_CORRELATION,
    correlation,
    hamming_distances,
    is_large_enough,
)

_BLOCK = 64  # scans compared at a time: 64 x 64 scans of 30 stacks take 4 MB
Kind = Literal["exact", "mirrored", "near"]


@dataclass(frozen=True)
class Duplicate:
    """Two files that show the same scan.

    Attributes:
        first: Name of a training case.
        second: Name of another, or of a held-out scan.
        kind: "exact" (the same voxels), "mirrored" (the same voxels along other axes), or "near" (resampled, cropped, clipped).
        correlation: Normalised correlation on the coarse grid; 1 for the first two kinds.
        held_out: Whether the second is held out.
        remark: What is known of the two sources.
    """

    first: str
    second: str
    kind: Kind
    correlation: float
    held_out: bool
    remark: str


def find_duplicates(
    scans: list[ScanFile], hashes: dict[str, ScanHash], *, num_processes: int = 1, progress: bool = True
) -> list[Duplicate]:
    """All pairs of training cases, and of training cases and held-out scans, that show the same scan.

    Args:
        scans: Training cases, then held-out scans.
        hashes: Their hashes by name.
        num_processes: Candidates that are confirmed at the same time.
        progress: Whether to show a progress bar.

    Returns:
        The pairs in the order of the scans.
    """
    number_held_out = sum(scan.held_out for scan in scans)
    trained = len(scans) - number_held_out
    listed = [hashes[scan.name] for scan in scans]
    candidates = _same_digests(listed, trained)
    for pair, flip in _near_candidates(listed, trained, progress=progress).items():
        candidates.setdefault(pair, flip)

    def confirm(candidate: tuple[tuple[int, int], Kind | int]) -> Duplicate | None:
        (i, j), how = candidate
        kind, value = (how, 1.0) if isinstance(how, str) else ("near", _under_flip(listed[i], listed[j], how))
        if value < MIN_CORRELATION:
            return None
        remark = known_overlap(scans[i].source, scans[j].source)
        return Duplicate(scans[i].name, scans[j].name, kind, round(value, 4), scans[j].held_out, remark)

    with ThreadPoolExecutor(num_processes) as pool:  # Fourier transforms and interpolation run beside each other in threads
        confirmed = pool.map(confirm, sorted(candidates.items()))
        shown = tqdm(confirmed, total=len(candidates), desc="confirming", unit="pair", disable=None if progress else True)
        return [duplicate for duplicate in shown if duplicate is not None]


def _same_digests(hashes: list[ScanHash], trained: int) -> dict[tuple[int, int], Kind | int]:
    """Pairs with the same voxels, or with the same histogram and shape."""
    found: dict[tuple[int, int], Kind | int] = {}
    for kind, attribute in (("mirrored", "histogram"), ("exact", "voxels")):
        alike: dict[str, list[int]] = {}
        for number, scan_hash in enumerate(hashes):
            alike.setdefault(getattr(scan_hash, attribute), []).append(number)
        pairs = [(i, j) for numbers in alike.values() for j in numbers for i in numbers if i < j and i < trained]
        found.update(dict.fromkeys(pairs, kind))
    return found


def _near_candidates(hashes: list[ScanHash], trained: int, *, progress: bool) -> dict[tuple[int, int], int]:
    """Pairs within the Hamming distance, and the flip under which they are nearest; blocks of scans at a time."""
    large = [number for number, scan_hash in enumerate(hashes) if is_large_enough(scan_hash)]
    blocks = [large[start : start + _BLOCK] for start in range(0, len(large), _BLOCK)]
    pairs = [(one, other) for n, one in enumerate(blocks) for other in blocks[n:] if one[0] < trained]
    found = {}
    for one, other in tqdm(pairs, desc="comparing", unit="block", disable=None if progress else True):
        first, second = [hashes[i] for i in one], [hashes[j] for j in other]
        distances = np.array(
            [
                np.minimum(hamming_distances(first, second, flip), hamming_distances(second, first, flip).T)
                for flip in range(len(FLIPS))
            ]
        )
        flips, nearest = distances.argmin(axis=0), distances.min(axis=0)
        for a, b in np.argwhere(nearest <= MAX_HAMMING):
            if one[a] < other[b] and one[a] < trained:
                found[one[a], other[b]] = int(flips[a, b])
    return found


def _under_flip(first: ScanHash, second: ScanHash, flip: int) -> float:
    x, y, z = FLIPS[flip]
    return correlation(first.coarse, second.coarse[::x, ::y, ::z])
