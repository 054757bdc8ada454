"""nnU-Net's sliding window over a preprocessed image, without ever holding the logits of the whole case.

The host keeps every class of every voxel in half precision and rounds the tiles' sum to it, which makes ties in the corners of a
volume. Here tiles are added in float32 into a slab as thick as one tile; what no later tile reaches leaves the slab. Where even a
slab would be too large, it is cut into bands, and the tiles on a border are computed for both.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor

from nnunet_partial.training.precision import host_precision

Box = tuple[slice, slice, slice]
Network = Callable[[Tensor], Tensor]
MAX_BUFFER_BYTES = 4 * 2**30
PIECE = 2**19  # logits handed out at a time on a CPU; so many stay in its cache while they are looked at


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of an image lie, as nnU-Net lays them.

    Attributes:
        tile: Shape of a tile, 1 thick for a 2d configuration.
        before: Voxels of padding in front of each axis, where the image is smaller than a tile.
        image_shape: Shape of the image.
        shape: Shape of the padded image.
        steps: First voxel of the tiles on each axis, in the padded image.
    """

    tile: tuple[int, int, int]
    before: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    steps: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, image_shape: Sequence[int], patch_size: Sequence[int], step_size: float) -> "Tiling":
        """The tiling of an image of this spatial shape."""
        tile = (1,) * (3 - len(patch_size)) + tuple(patch_size)
        shape = tuple(max(size, edge) for size, edge in zip(image_shape, tile, strict=True))
        before = tuple((padded - size) // 2 for padded, size in zip(shape, image_shape, strict=True))
        thick = compute_steps_for_sliding_window(shape[-len(patch_size) :], tuple(patch_size), step_size)
        steps = [*([list(range(shape[0]))] if len(patch_size) == 2 else []), *thick]
        return cls(tile, before, tuple(image_shape), shape, tuple(map(tuple, steps)))

    def padded(self, image: np.ndarray) -> np.ndarray:
        """The image (channels, *S) with zeros around it where a tile is larger."""
        around = [(low, full - size - low) for low, full, size in zip(self.before, self.shape, image.shape[1:], strict=True)]
        return np.pad(image, [(0, 0), *around]) if any(map(any, around)) else image

    def box_at(self, corner: Sequence[int]) -> Box:
        """The tile with this first voxel."""
        return tuple(slice(low, low + edge) for low, edge in zip(corner, self.tile, strict=True))

    def shared(self, corner: Sequence[int], box: Box) -> tuple[Box, Box] | None:
        """What the tile with this first voxel shares with a box of the image: as a part of the tile, and as a part of the box."""
        lows = [low - before for low, before in zip(corner, self.before, strict=True)]  # in the image
        starts = [max(low, whole.start) for low, whole in zip(lows, box, strict=True)]
        stops = [min(low + edge, whole.stop) for low, edge, whole in zip(lows, self.tile, box, strict=True)]
        if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
            return None
        origins = (lows, [whole.start for whole in box])
        return tuple(tuple(slice(a - o, b - o) for a, b, o in zip(starts, stops, origin, strict=True)) for origin in origins)

    def placed(self, voxels: np.ndarray) -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
        """The tiles that hold some of these voxels of the image: the tile, which of them it holds, and where in the tile.

        Shape:
            voxels (n,), ascending flat indices in the image; yields a tile, (m,) which of them, (m,) flat indices in the tile.
        """
        slice_size = math.prod(self.image_shape[1:])
        for low in self.steps[0]:
            start = low - self.before[0]
            first, last = np.searchsorted(voxels, (start * slice_size, (start + self.tile[0]) * slice_size))
            positions = np.unravel_index(voxels[first:last], self.image_shape)
            for corner in itertools.product((low,), *self.steps[1:]):
                offsets = [axis - (edge - before) for axis, edge, before in zip(positions, corner, self.before, strict=True)]
                y, x = ((offset >= 0) & (offset < edge) for offset, edge in zip(offsets[1:], self.tile[1:], strict=True))
                inside = np.flatnonzero(y & x)
                if len(inside):
                    places = np.ravel_multi_index([offset[inside] for offset in offsets], self.tile)
                    yield self.box_at(corner), first + inside, places

    def reach(self, position: int) -> slice:
        """The slices of the image's first axis that the tiles at a position are the last to reach."""
        steps = self.steps[0]
        return slice(steps[position], steps[position + 1] if position + 1 < len(steps) else self.image_shape[0])


class SlidingWindow:
    """Predicts preprocessed images tile by tile; overlapping tiles are averaged with nnU-Net's Gaussian weights, in float32.

    Args:
        patch_size: Of the configuration, 2 or 3 numbers.
        mirror_axes: Axes of a patch to average over mirrored copies of; empty for none.
        step_size: Step between tiles in tiles.
        device: Where the network is.
        max_buffer_bytes: A slab is cut into bands so as not to be larger.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        *,
        mirror_axes: Sequence[int] = (),
        step_size: float = 0.5,
        device: torch.device | str = "cpu",
        max_buffer_bytes: int = MAX_BUFFER_BYTES,
    ):
        self.patch_size = tuple(patch_size)
        self.device = torch.device(device)
        self.step_size = step_size
        self.max_buffer_bytes = max_buffer_bytes
        axes = [axis - len(self.patch_size) for axis in mirror_axes]  # counted from the end
        self._flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
        gaussian = compute_gaussian(self.patch_size, value_scaling_factor=10, dtype=torch.float32, device=self.device)
        self._weights = gaussian.view((1,) * (3 - len(self.patch_size)) + self.patch_size)

    def logits(self, image: np.ndarray, network: Network, num_classes: int) -> Iterator[tuple[Box, Tensor]]:
        """The logits of a case, a few slices at a time; the pieces do not overlap and cover the image.

        A piece is a view of the window's own memory, which the next one overwrites.

        Args:
            image: Preprocessed image.
            network: (1, channels, *patch) -> (1, num_classes, *patch).
            num_classes: C.

        Shape:
            image (channels, z, y, x); yields a box in it and its logits (C, *box) float32.
        """
        tiling = Tiling.of(image.shape[1:], self.patch_size, self.step_size)
        padded = tiling.padded(image)
        for band in self._bands(tiling, num_classes):
            yield from self._band(padded, tiling, band, network, num_classes)

    def at_classes(self, image: np.ndarray, network: Network, classes: np.ndarray) -> np.ndarray:
        """One channel of a network's output at each voxel, chosen by the voxel; tiles without a choice are not computed.

        As a mean over tiles is taken channel by channel, this is the same as choosing after it, without the other channels. Sums
        are kept of the chosen voxels alone: memory grows with these, and not with the image.

        Args:
            image: Preprocessed image.
            network: (1, channels, *patch) -> (1, K, *patch).
            classes: 1..K for the channel to take, 0 for none.

        Shape:
            image (channels, z, y, x); classes (z, y, x); returns (z, y, x) float32, 0 where classes is 0.
        """
        tiling = Tiling.of(image.shape[1:], self.patch_size, self.step_size)
        padded, weights = tiling.padded(image), self._weights.flatten().cpu().numpy()
        voxels = np.flatnonzero(classes > 0)
        total, weight = np.zeros((2, len(voxels)), np.float32)
        for box, inside, places in tiling.placed(voxels):
            channels = torch.from_numpy(classes.reshape(-1)[voxels[inside]].astype(np.int64) - 1).to(self.device)
            where = torch.from_numpy(places).to(self.device)
            for output in self._predict(padded, box, network):
                total[inside] += output.flatten(1)[channels, where].cpu().numpy() * weights[places]
                weight[inside] += weights[places]
        chosen = np.zeros(classes.shape, np.float32)
        chosen.reshape(-1)[voxels] = total / weight
        return chosen

    def _bands(self, tiling: Tiling, num_classes: int) -> list[slice]:
        """Parts of the second axis, so many that a slab of each fits."""
        _, rows, width = tiling.image_shape
        row_bytes = (num_classes + 1) * tiling.tile[0] * width * 4
        count = min(rows, math.ceil(rows * row_bytes / self.max_buffer_bytes))
        edges = [round(n * rows / count) for n in range(count + 1)]
        return list(map(slice, edges, edges[1:]))

    def _band(
        self, padded: np.ndarray, tiling: Tiling, band: slice, network: Network, num_classes: int
    ) -> Iterator[tuple[Box, Tensor]]:
        thick, width = min(tiling.tile[0], tiling.image_shape[0]), tiling.image_shape[2]
        total = torch.zeros(num_classes, thick, band.stop - band.start, width, device=self.device)
        weight = torch.zeros(total.shape[1:], device=self.device)
        for position, first in enumerate(tiling.steps[0]):
            slab = (slice(first, first + thick), band, slice(0, width))
            for corner in itertools.product((first,), *tiling.steps[1:]):
                if parts := tiling.shared(corner, slab):
                    self._add(total, weight, parts, self._predict(padded, tiling.box_at(corner), network))
            done = tiling.reach(position)
            yield from _pieces((done, band, slice(0, width)), total, weight)
            if done.stop < tiling.image_shape[0]:
                _move_up(total.transpose(0, 1), done.stop - done.start)
                _move_up(weight, done.stop - done.start)

    def _add(self, total: Tensor, weight: Tensor, parts: tuple[Box, Box], outputs: Iterator[Tensor]) -> None:
        of_tile, of_slab = parts
        weights = self._weights[of_tile]
        for output in outputs:
            total[(slice(None), *of_slab)].addcmul_(output[(slice(None), *of_tile)], weights)
        weight[of_slab].add_(weights, alpha=len(self._flips))

    def _predict(self, padded: np.ndarray, box: Box, network: Network) -> Iterator[Tensor]:
        """(C, *tile) float32 for each mirrored copy, mirrored back."""
        tile = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *box)])).to(self.device, torch.float32)[None]
        if len(self.patch_size) == 2:
            tile = tile[:, :, 0]
        for flip in self._flips:
            with host_precision(self.device):
                output = network(tile.flip(flip) if flip else tile)[0].float()
            output = output.flip(flip) if flip else output
            yield output[:, None] if len(self.patch_size) == 2 else output


def _pieces(box: Box, total: Tensor, weight: Tensor) -> Iterator[tuple[Box, Tensor]]:
    """The first slices of weighted sums (C, *S), a box of the image, divided by their weights in place, a few at a time."""
    step = len(weight) if total.is_cuda else max(1, PIECE // total[:, 0].numel())
    for start in range(box[0].start, box[0].stop, step):
        here = slice(start, min(start + step, box[0].stop))
        of_slab = slice(here.start - box[0].start, here.stop - box[0].start)
        yield (here, *box[1:]), total[:, of_slab].div_(weight[of_slab])


def _move_up(buffer: Tensor, count: int) -> None:
    """Drop the first slices of a buffer, move the others up, clear the rest; a slice at a time, so that no copy is made."""
    kept = len(buffer) - count
    for position in range(kept):
        buffer[position] = buffer[position + count]
    buffer[max(kept, 0) :] = 0
