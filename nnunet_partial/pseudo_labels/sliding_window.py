"""nnU-Net's sliding window over a preprocessed image, without ever holding the logits of the whole case.

The host keeps every class of every voxel in half precision and rounds the tiles' sum to it, which makes ties in the corners of a
volume. Here tiles are added in float32 into a slab as thick as one tile; what no later tile reaches leaves the slab. Where even a
slab would be too large, it is cut into bands, and the tiles on a border are computed for both.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor

Box = tuple[slice, slice, slice]
Network = Callable[[Tensor], Tensor]
MAX_BUFFER_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Tiling:
    """Where the tiles of an image lie, as nnU-Net lays them.

    Attributes:
        tile: Shape of a tile, 1 thick for a 2d configuration.
        before: Voxels of padding in front of each axis, where the image is smaller than a tile.
        shape: Shape of the padded image.
        steps: First voxel of the tiles on each axis, in the padded image.
    """

    tile: tuple[int, int, int]
    before: tuple[int, int, int]
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
        return cls(tile, before, shape, tuple(map(tuple, steps)))

    def padded(self, image: np.ndarray) -> np.ndarray:
        """The image (channels, *S) with zeros around it where a tile is larger."""
        around = [(low, full - size - low) for low, full, size in zip(self.before, self.shape, image.shape[1:], strict=True)]
        return np.pad(image, [(0, 0), *around]) if any(map(any, around)) else image

    def box_at(self, corner: Sequence[int]) -> Box:
        """The tile with this first voxel."""
        return tuple(slice(low, low + edge) for low, edge in zip(corner, self.tile, strict=True))

    def reach(self, position: int) -> slice:
        """The slices of the first axis that the tiles at a position are the last to reach."""
        steps = self.steps[0]
        return slice(steps[position], steps[position + 1] if position + 1 < len(steps) else self.shape[0])


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
        """The logits of a case, a slab at a time; the slabs do not overlap and cover the image.

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
            yield from self._band(padded, image.shape[1:], tiling, band, network, num_classes)

    def at_classes(self, image: np.ndarray, network: Network, classes: np.ndarray) -> np.ndarray:
        """One channel of a network's output at each voxel, chosen by the voxel; tiles without a choice are not computed.

        As a mean over tiles is taken channel by channel, this is the same as choosing after it, without the other channels.

        Args:
            image: Preprocessed image.
            network: (1, channels, *patch) -> (1, K, *patch).
            classes: 1..K for the channel to take, 0 for none.

        Shape:
            image (channels, z, y, x); classes (z, y, x); returns (z, y, x) float32, 0 where classes is 0.
        """
        tiling = Tiling.of(image.shape[1:], self.patch_size, self.step_size)
        padded, chosen = tiling.padded(image), tiling.padded(classes[None])[0]
        total = torch.zeros(tiling.shape)
        weight = torch.zeros(tiling.shape)
        weights = self._weights.cpu()
        for corner in itertools.product(*tiling.steps):
            box = tiling.box_at(corner)
            if not chosen[box].any():
                continue
            channel = torch.from_numpy(chosen[box].astype(np.int64)).sub_(1).clamp_min_(0)
            output = self._predict(padded, box, network)
            total[box] += output.gather(0, channel[None].to(output.device))[0].cpu() * weights
            weight[box] += weights
        found = total.div_(weight.clamp_min_(torch.finfo(torch.float32).tiny)).numpy()
        found[chosen == 0] = 0
        return found[tuple(slice(low, low + size) for low, size in zip(tiling.before, classes.shape, strict=True))]

    def _bands(self, tiling: Tiling, num_classes: int) -> list[slice]:
        """Parts of the second axis, so many that a slab of each fits."""
        row_bytes = (num_classes + 1) * tiling.tile[0] * tiling.shape[2] * 4
        count = min(tiling.shape[1], math.ceil(tiling.shape[1] * row_bytes / self.max_buffer_bytes))
        edges = [round(n * tiling.shape[1] / count) for n in range(count + 1)]
        return list(map(slice, edges, edges[1:]))

    def _band(
        self, padded: np.ndarray, image_shape: Sequence[int], tiling: Tiling, band: slice, network: Network, num_classes: int
    ) -> Iterator[tuple[Box, Tensor]]:
        thick, wide = tiling.tile[0], tiling.shape[2]
        total = torch.zeros(num_classes, thick, band.stop - band.start, wide, device=self.device)
        weight = torch.zeros(total.shape[1:], device=self.device)
        rows = [low for low in tiling.steps[1] if low < band.stop and low + tiling.tile[1] > band.start]
        for position, first in enumerate(tiling.steps[0]):
            for corner in itertools.product((first,), rows, tiling.steps[2]):
                self._add(total, weight, padded, tiling.box_at(corner), band, network)
            done = tiling.reach(position)
            count = done.stop - done.start
            box = _inside((done, band, slice(0, wide)), tiling.before, image_shape)
            if all(part.stop > part.start for part in box):
                part = tuple(
                    slice(b.start + low - whole.start, b.stop + low - whole.start)
                    for b, low, whole in zip(box, tiling.before, (done, band, slice(0, wide)), strict=True)
                )
                yield box, total[:, :count][(slice(None), *part)] / weight[:count][part]
            _move_up(total.transpose(0, 1), count)
            _move_up(weight, count)

    def _add(self, total: Tensor, weight: Tensor, padded: np.ndarray, box: Box, band: slice, network: Network) -> None:
        rows = slice(max(box[1].start, band.start), min(box[1].stop, band.stop))
        of_tile = slice(rows.start - box[1].start, rows.stop - box[1].start)
        of_band = slice(rows.start - band.start, rows.stop - band.start)
        weights = self._weights[:, of_tile]
        total[:, :, of_band, box[2]] += self._predict(padded, box, network)[:, :, of_tile] * weights
        weight[:, of_band, box[2]] += weights

    def _predict(self, padded: np.ndarray, box: Box, network: Network) -> Tensor:
        """(C, *tile) float32, the mean over mirrored copies."""
        tile = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *box)])).to(self.device, torch.float32)[None]
        if len(self.patch_size) == 2:
            tile = tile[:, :, 0]
        mean = None
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            for flip in self._flips:
                output = network(tile.flip(flip)).float().flip(flip)
                mean = output if mean is None else mean.add_(output)
        mean = mean[0] / len(self._flips)
        return mean[:, None] if len(self.patch_size) == 2 else mean


def _inside(box: Box, before: Sequence[int], image_shape: Sequence[int]) -> Box:
    """A box of the padded image as a box of the image, without what lies in the padding."""
    return tuple(
        slice(max(part.start - low, 0), min(part.stop - low, size))
        for part, low, size in zip(box, before, image_shape, strict=True)
    )


def _move_up(buffer: Tensor, count: int) -> None:
    """Drop the first slices of a buffer, move the others up, clear the rest; a slice at a time, so that no copy is made."""
    kept = len(buffer) - count
    for position in range(kept):
        buffer[position] = buffer[position + count]
    buffer[max(kept, 0) :] = 0
