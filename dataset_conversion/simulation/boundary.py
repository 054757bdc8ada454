"""Where the boundary of an organ lies, to a fraction of a voxel, and smooth random fields along it."""

import numpy as np
from scipy import ndimage

_NODES = 3.0  # nodes of the coarse lattice in one correlation length: linear interpolation between them costs 2 % of the spread
_REACH = 4  # correlation lengths after which the smoothing kernel ends


def signed_distance_mm(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Distance of each voxel's centre to the mask's boundary, negative inside.

    Distances between centres would put the boundary a whole voxel from both its sides, and a shift of less than a voxel would
    never move it. So half a voxel is taken off, as long as it is in the direction of the nearest centre on the other side.

    Args:
        mask: Bool.
        spacing_mm: Of its axes.
    Shape:
        mask (*S), spacing_mm (3,); returns (*S) float32, -inf where the mask has no outside, inf where it has no inside.
    """
    distance_mm = np.empty(mask.shape, dtype=np.float32)
    for side, sign in ((mask, -1), (~mask, 1)):
        if side.all():
            return np.full(mask.shape, sign * np.inf, dtype=np.float32)
        nearest = ndimage.distance_transform_edt(side, sampling=spacing_mm, return_distances=False, return_indices=True)
        steps = np.ones(mask.shape, dtype=nearest.dtype)  # at least one on this side; what lies on the other is not read
        squares_mm2 = np.zeros(mask.shape)  # the transform's own distances take 1.6 times the time and the memory
        for axis, size in enumerate(mask.shape):
            place = np.arange(size, dtype=nearest.dtype).reshape([size if other == axis else 1 for other in range(mask.ndim)])
            offset = np.abs(np.subtract(nearest[axis], place, out=nearest[axis]), out=nearest[axis])
            np.maximum(steps, offset, out=steps)
            squares_mm2 += np.square(offset * spacing_mm[axis])
        distance_mm[side] = sign * np.sqrt(squares_mm2[side]) * (1 - 0.5 / steps[side])
    return distance_mm


def smooth_noise(
    shape: tuple[int, ...], spacing_mm: np.ndarray, length_mm: float, rng: np.random.Generator, voxels: np.ndarray
) -> np.ndarray:
    """White noise smoothed by a Gaussian of standard deviation `length_mm` and scaled to unit variance, at some voxels of a grid.

    It is drawn on a lattice of a third of that length, because noise on the voxels of a CT would cost seconds an organ.

    Args:
        shape: Of the grid.
        spacing_mm: Of the grid.
        length_mm: How far the noise keeps its sign, about.
        rng: Where it is drawn from.
        voxels: Indices of the voxels.
    Shape:
        voxels (3, N); returns (N,) float32.
    """
    per_mm = _NODES / length_mm
    pad = int(_NODES * _REACH)
    nodes = [int(np.ceil((size - 1) * step_mm * per_mm)) + 1 + 2 * pad for size, step_mm in zip(shape, spacing_mm, strict=True)]
    noise = ndimage.gaussian_filter(rng.standard_normal(nodes, dtype=np.float32), _NODES, mode="constant", truncate=_REACH)
    impulse = np.zeros(2 * pad + 1)
    impulse[pad] = 1
    spread = np.sum(ndimage.gaussian_filter1d(impulse, _NODES, truncate=_REACH) ** 2) ** (len(shape) / 2)
    places = voxels * (np.asarray(spacing_mm)[:, None] * per_mm) + pad
    return ndimage.map_coordinates(noise, places, order=1, output=np.float32) / np.float32(spread)
