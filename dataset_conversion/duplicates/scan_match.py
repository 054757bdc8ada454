"""Whether two scans are the same one: candidates by Hamming distance, then correlation where they lie best on one another."""

from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

from nnunet_partial.dataset_conversion.duplicates.scan_hash import ScanHash

MAX_HAMMING = 24
"""Of 192 bits; docs/duplicates.md says what was measured."""
MIN_CORRELATION = 0.96
"""From here on two scans are called the same; docs/duplicates.md says what was measured."""
_ANCHOR_STEP = 4  # every fourth slab of one scan (48 mm) is looked for among all slabs of the other
_MIN_OVERLAP = 0.3
_HOPELESS = 0.7  # different people reach 0.49, and a step of one voxel does not make up for the rest
_TISSUE = 40  # of 255: in CT the voxels above -47 HU, fat and air left out
_MIN_TISSUE = 2000  # voxels, 0.4 litres; less has too little shape to be told from another patient's


def is_large_enough(scan: ScanHash) -> bool:
    """Whether a scan shows enough to be told from others by likeness; smaller ones are only compared voxel by voxel."""
    return int(np.count_nonzero(scan.coarse > _TISSUE)) >= _MIN_TISSUE


def hamming_distances(first: Sequence[ScanHash], second: Sequence[ScanHash], flip: int) -> np.ndarray:
    """The smallest Hamming distance between a stack of slabs of one scan and one of another, taken under a flip.

    Shape:
        returns (len(first), len(second)), in bits of 192.
    """
    anchors, anchor_starts = _signs([scan.stacks[0, ::_ANCHOR_STEP] for scan in first])
    stacks, stack_starts = _signs([scan.stacks[flip] for scan in second])
    agreeing = np.maximum.reduceat(np.maximum.reduceat(anchors @ stacks.T, anchor_starts, axis=0), stack_starts, axis=1)
    return (anchors.shape[1] - agreeing) / 2  # a product is the bits that agree less those that differ


def _signs(hashes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bits as -1 and 1, so that one matrix product counts them, and where each scan's begin."""
    return np.concatenate(hashes).astype(np.float32) * 2 - 1, np.cumsum([0, *(len(h) for h in hashes[:-1])])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Normalised correlation of two coarse scans where they lie best on one another, over the soft tissue of either.

    The best shift is sought on half the grid by Fourier transform, at all shifts at once, then in ever smaller steps down to an
    eighth of a voxel. It is given up where the scans are nowhere near: the value is then a lower bound.

    Shape:
        first, second (X, Y, Z) uint8, each of its own size.
    """
    shift = 2 * _best_shift(_halved(first), _halved(second))
    spline = ndimage.spline_filter(first.astype(np.float32), order=3, output=np.float32, mode="nearest")
    best = _correlation_at(spline, second, shift)
    for step in (1.0, 0.5, 0.25, 0.125):
        for move in [sign * step * axis for axis in np.eye(3) for sign in (-1, 1)]:
            found = _correlation_at(spline, second, shift + move)
            if found > best:
                best, shift = found, shift + move
        if best < _HOPELESS:
            break
    return best


def _halved(coarse: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 x 2 voxels, in [0, 1]."""
    even = coarse[tuple(slice(size // 2 * 2) for size in coarse.shape)].astype(np.float32) / 255
    return even.reshape([part for size in even.shape for part in (size // 2, 2)]).mean(axis=(1, 3, 5))


def _best_shift(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The whole shift s at which first[i + s] correlates best with second[i], among those at which enough of them overlaps."""
    shape = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(first.shape, second.shape, strict=True)]

    def transformed(array: np.ndarray) -> np.ndarray:
        return fft.rfftn(array, shape)

    def overlap_sums(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return fft.irfftn(one * np.conj(other), shape)

    f1, f2, f0 = transformed(first), transformed(first**2), transformed(np.ones_like(first))
    g1, g2, g0 = transformed(second), transformed(second**2), transformed(np.ones_like(second))
    number = np.maximum(np.rint(overlap_sums(f0, g0)), 1)
    sum_f, sum_g = overlap_sums(f1, g0), overlap_sums(f0, g1)
    spread = (overlap_sums(f2, g0) - sum_f**2 / number) * (overlap_sums(f0, g2) - sum_g**2 / number)
    found = (overlap_sums(f1, g1) - sum_f * sum_g / number) / np.sqrt(np.maximum(spread, 1e-3))
    found[number < _MIN_OVERLAP * min(first.size, second.size)] = -1
    shift = np.array(np.unravel_index(np.argmax(found), found.shape))
    return np.where(shift >= first.shape, shift - shape, shift).astype(float)


def _correlation_at(first: np.ndarray, second: np.ndarray, shift: np.ndarray) -> float:
    """Correlation over the soft tissue of either scan, where both are, with first[i + shift] on second[i].

    Args:
        first: Its spline coefficients.
        second: Its voxels.
        shift: In voxels, (3,).
    """
    low = np.ceil(np.maximum(0, -shift)).astype(int)
    high = np.minimum(second.shape, np.floor(np.array(first.shape) - 1 - shift).astype(int) + 1)
    if (high <= low).any():
        return -1.0
    moved = ndimage.affine_transform(
        first, np.ones(3), low + shift, output_shape=tuple(high - low), order=3, mode="nearest", prefilter=False
    )
    fixed = second[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
    tissue = (moved > _TISSUE) | (fixed > _TISSUE)
    if np.count_nonzero(tissue) < 2 or not moved[tissue].std() or not fixed[tissue].std():
        return -1.0
    return float(np.corrcoef(moved[tissue], fixed[tissue])[0, 1])
