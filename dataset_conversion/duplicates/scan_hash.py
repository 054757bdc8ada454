"""What a scan is known by, whatever its file looks like: digests of its voxels, and perceptual hashes of slabs of it.

Three measures, from strict to tolerant:
- the digest of its voxels in RAS: equal for every lossless re-encoding (data type, scale factor, storage order, compression);
- the digest of its histogram: equal also where the header lies about the axes;
- perceptual hashes of slabs along the body (ImageHash's phash: the signs of the low frequencies of a cosine transform),
  near one another also where a copy was resampled, cropped, clipped or made noisy.
Nothing depends on where the header puts the scan in space; only the hashes depend on its voxel size.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from scipy import ndimage

from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_nifti, to_ras

HASH_VERSION = 1  # raise it when the same scan gets other hashes: cached ones are then made again
GRID_MM = 6.0
"""Voxel size of the coarse grid on which scans are compared."""
FLIPS = tuple((x, y, z) for z in (1, -1) for y in (1, -1) for x in (1, -1))
"""Steps along x, y and z under which a scan is hashed: a header that lies about an axis must not hide a copy."""

_BLUR_MM = 3.0  # standard deviation; fine detail is what resampling and noise change
_HU_WINDOW = (-100.0, 240.0)  # within what published copies are clipped to, such as [-125, 275]
_PERCENTILES = (1.0, 99.0)
_SLAB, _STEP, _WIDTH = 8, 2, 64  # voxels of the coarse grid: slabs of 48 mm every 12 mm, 384 mm wide
_STACK = (0, 2, 4)  # steps: three slabs hashed together reach over 96 mm; one alone is too much alike in different people
_SMALL_RANGE, _MANY_LEVELS = 100.0, 2**20


@dataclass(frozen=True)
class ScanHash:
    """What one scan is known by.

    Attributes:
        voxels: Digest of shape and intensities in RAS, rounded to 1 (1 HU in CT), or to a thousandth of their range where that
            is below 100 (or beyond a million).
        histogram: Digest of the sorted shape and of how often each rounded intensity occurs.
        stacks: (8, N, 192) bool, perceptual hashes of N stacks of three slabs from bottom to top, under `FLIPS`.
        coarse: (X, Y, Z) uint8, the scan in RAS on the coarse grid, the window of its intensities spread over 0 to 255.
    """

    voxels: str
    histogram: str
    stacks: np.ndarray
    coarse: np.ndarray


def hash_scan(path: Path, *, is_ct: bool) -> ScanHash:
    """Read a NIfTI scan and hash it.

    Args:
        path: A 3D NIfTI file.
        is_ct: Whether intensities are HU; other scans are windowed by their percentiles.

    Raises:
        One of `case.UNREADABLE`, for a file that cannot be read.
    """
    volume = to_ras(read_nifti(path))
    coarse = coarse_scan(volume, is_ct=is_ct)
    return ScanHash(*_digests(volume), stack_hashes(coarse), coarse)


def _digests(volume: Volume) -> tuple[str, str]:
    """Digests of the voxels and of the histogram, plane by plane: a large scan is never held twice."""
    extremes = [volume.array.min(), volume.array.max()]
    lowest, highest = sorted(float(value) * volume.slope + volume.inter for value in extremes)
    precision = 1.0 if _SMALL_RANGE <= highest - lowest <= _MANY_LEVELS else max(highest - lowest, 1e-6) / 1000
    offset = int(np.rint(lowest / precision))
    shape = np.array(volume.array.shape, dtype="<i8")
    voxels, counts = hashlib.sha256(shape.tobytes()), np.zeros(int(np.rint(highest / precision)) - offset + 1, dtype="<i8")
    for z in range(volume.array.shape[2]):
        plane = np.rint(volume.intensities((slice(None), slice(None), z)) / np.float32(precision)).astype("<i4")
        voxels.update(plane.tobytes(order="F"))
        counts += np.bincount((plane - offset).clip(0, len(counts) - 1).ravel(), minlength=len(counts))
    histogram = hashlib.sha256(np.sort(shape).tobytes() + str((offset, precision)).encode() + counts.tobytes())
    return voxels.hexdigest(), histogram.hexdigest()


def coarse_scan(volume: Volume, *, is_ct: bool) -> np.ndarray:
    """The scan on an isotropic coarse grid of `GRID_MM` that begins at its first voxel, in uint8.

    Blurred first to the same sharpness whatever its voxel size is, so that a resampled copy looks like the original.

    Shape:
        returns (X, Y, Z) for a volume in RAS.
    """
    spacing_mm = np.linalg.norm(volume.affine[:3, :3], axis=0)
    blocks = np.maximum(1, (GRID_MM / 2 / spacing_mm).astype(int))
    small = _block_means(volume, np.minimum(blocks, volume.array.shape), is_ct=is_ct)
    blocks_mm = spacing_mm * blocks
    blur_mm = np.sqrt(np.maximum(_BLUR_MM**2 - blocks_mm**2 / 12, 0))
    small = ndimage.gaussian_filter(small, blur_mm / blocks_mm, mode="nearest", truncate=3)
    sizes = np.maximum(1, np.floor((np.array(small.shape) - 1) * blocks_mm / GRID_MM).astype(int) + 1)
    coarse = ndimage.affine_transform(small, GRID_MM / blocks_mm, output_shape=tuple(sizes), order=1, mode="nearest")
    return np.rint(coarse.clip(0, 1) * 255).astype(np.uint8)


def _block_means(volume: Volume, blocks: np.ndarray, *, is_ct: bool) -> np.ndarray:
    """Means of blocks of windowed intensities, in [0, 1]; voxels that fill no block at the end are left out."""
    low, high = _HU_WINDOW if is_ct else np.percentile(volume.intensities((slice(None, None, 2),) * 3), _PERCENTILES)
    nx, ny, nz = np.array(volume.array.shape) // blocks
    means = np.empty((nx, ny, nz), dtype=np.float32)
    for z in range(nz):
        part = volume.intensities((slice(nx * blocks[0]), slice(ny * blocks[1]), slice(z * blocks[2], (z + 1) * blocks[2])))
        part = ((part - low) / max(high - low, 1e-6)).clip(0, 1)
        means[:, :, z] = part.reshape(nx, blocks[0], ny, blocks[1], -1).mean(axis=(1, 3, 4))
    return means


def stack_hashes(coarse: np.ndarray) -> np.ndarray:
    """Perceptual hashes of stacks of axial slabs: mean projections, each cut out around the middle of the body.

    Stacks, not projections of the whole scan: a copy that was cropped in z still shares most of them. A scan of less than 96 mm
    is one stack, its last plane repeated.

    Shape:
        coarse (X, Y, Z); returns (8, N, 192) bool.
    """
    missing = _SLAB + _STEP * _STACK[-1] - coarse.shape[2]
    coarse = np.pad(coarse, ((0, 0), (0, 0), (0, max(missing, 0))), mode="edge")
    starts = range(0, coarse.shape[2] - _SLAB + 1, _STEP)
    slabs = [_around_body(coarse[:, :, start : start + _SLAB].mean(axis=2)) for start in starts]
    hashes = {(x, y): np.array([_phash(slab[::x, ::y]) for slab in slabs]) for x, y, z in FLIPS if z == 1}
    number = len(slabs) - _STACK[-1]
    return np.array([np.hstack([hashes[x, y][k : k + number] for k in _STACK[::z]]) for x, y, z in FLIPS])


def _around_body(slab: np.ndarray) -> np.ndarray:
    """A square of fixed size in mm around the centre of mass, in uint8."""
    mass = slab.sum()
    centre = [float((np.arange(size) * slab.sum(axis=1 - axis)).sum() / mass) if mass else size / 2
              for axis, size in enumerate(slab.shape)]  # fmt: skip
    corner = np.array(centre) - (_WIDTH - 1) / 2
    return np.rint(ndimage.shift(np.pad(slab, ((0, _WIDTH), (0, _WIDTH))), -corner, order=1)[:_WIDTH, :_WIDTH]).astype(np.uint8)


def _phash(slab: np.ndarray) -> np.ndarray:
    return imagehash.phash(Image.fromarray(np.ascontiguousarray(slab))).hash.ravel()
