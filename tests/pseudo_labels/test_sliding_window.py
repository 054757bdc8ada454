"""Slabs against a slow accumulation of the whole case, and against nnU-Net's own predictor."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import nn

from nnunet_partial.pseudo_labels.sliding_window import SlidingWindow, Tiling

CLASSES = 4
SHAPES = [
    ((16, 16, 16), (40, 33, 20)),
    ((16, 24, 16), (9, 33, 50)),  # thinner than a tile
    ((8, 8, 8), (8, 8, 8)),  # a single tile
    ((16, 16), (4, 33, 20)),
    ((16, 16), (3, 10, 50)),
]


def network_of(dims: int) -> nn.Module:
    torch.manual_seed(dims)
    return {2: nn.Conv2d, 3: nn.Conv3d}[dims](1, CLASSES, 3, padding=1).eval()


def image_of(shape) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def gathered(window: SlidingWindow, image: np.ndarray, network: nn.Module) -> np.ndarray:
    found = np.full((CLASSES, *image.shape[1:]), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for box, logits in window.logits(image, network, CLASSES):
            assert np.isnan(found[(slice(None), *box)]).all(), "slabs overlap"
            found[(slice(None), *box)] = logits.numpy()
    assert not np.isnan(found).any(), "slabs leave voxels out"
    return found


def accumulated(patch, image: np.ndarray, network: nn.Module, flips) -> np.ndarray:
    """The whole case in float64, as nnU-Net adds it up in half precision."""
    tiling = Tiling.of(image.shape[1:], patch, 0.5)
    padded = torch.from_numpy(tiling.padded(image))
    weights = compute_gaussian(tuple(patch), value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu")).double()
    total, weight = torch.zeros(CLASSES, *tiling.shape, dtype=torch.float64), torch.zeros(tiling.shape, dtype=torch.float64)
    with torch.inference_mode():
        for corner in itertools.product(*tiling.steps):
            box = tiling.box_at(corner)
            tile = padded[(slice(None), *box)][None]
            tile = tile[:, :, 0] if len(patch) == 2 else tile
            mean = sum(network(tile.flip(flip)).double().flip(flip) for flip in flips)[0] / len(flips)
            total[(slice(None), *box)] += (mean * weights).view(CLASSES, *tiling.tile)
            weight[box] += weights.view(tiling.tile)
    inner = tuple(slice(low, low + size) for low, size in zip(tiling.before, image.shape[1:], strict=True))
    return (total / weight)[(slice(None), *inner)].numpy()


@pytest.mark.parametrize(("patch", "shape"), SHAPES)
@pytest.mark.parametrize("mirror_axes", [(), (0, 1)])
def test_slabs_are_the_whole_case(patch, shape, mirror_axes):
    network, image = network_of(len(patch)), image_of(shape)
    dims = len(patch)
    flips = [()] if not mirror_axes else [(), (-dims,), (1 - dims,), (-dims, 1 - dims)]
    expected = accumulated(patch, image, network, flips)
    np.testing.assert_allclose(gathered(SlidingWindow(patch, mirror_axes=mirror_axes), image, network), expected, atol=1e-5)


@pytest.mark.parametrize(("patch", "shape"), SHAPES)
def test_bands_change_nothing(patch, shape):
    network, image = network_of(len(patch)), image_of(shape)
    whole = gathered(SlidingWindow(patch), image, network)
    few_bytes = (CLASSES + 1) * ([1, *patch][-3]) * max(shape[2], patch[-1]) * 4 * 5  # five rows
    assert (gathered(SlidingWindow(patch, max_buffer_bytes=few_bytes), image, network) == whole).all()


@pytest.mark.parametrize(("patch", "shape"), SHAPES)
def test_as_nnunet_but_for_its_half_precision(patch, shape):
    network, image = network_of(len(patch)), image_of(shape)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.network, predictor.allowed_mirroring_axes = network, (0, 1)
    predictor.configuration_manager = type("Configuration", (), {"patch_size": list(patch)})
    predictor.label_manager = type("Labels", (), {"num_segmentation_heads": CLASSES})
    host = predictor.predict_sliding_window_return_logits(torch.from_numpy(image)).float().numpy()
    ours = gathered(SlidingWindow(patch, mirror_axes=(0, 1)), image, network)
    assert np.quantile(abs(host - ours), 0.75) < 2e-3
    margin = np.diff(np.sort(ours, axis=0)[-2:], axis=0)[0]
    sure = margin > 2 * abs(host - ours).max(0)
    assert (host.argmax(0) == ours.argmax(0))[sure].all()


@pytest.mark.parametrize(("patch", "shape"), SHAPES)
def test_one_channel_a_voxel_is_the_same_as_choosing_from_all(patch, shape):
    network, image = network_of(len(patch)), image_of(shape)
    classes = np.random.default_rng(1).integers(0, CLASSES + 1, shape)
    classes[: shape[0] // 2] = 0
    window = SlidingWindow(patch, mirror_axes=(0,))
    with torch.inference_mode():
        found = window.at_classes(image, network, classes)
    everything = gathered(window, image, network)
    expected = np.where(classes > 0, np.take_along_axis(everything, np.maximum(classes - 1, 0)[None], 0)[0], 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def chosen_of_the_whole_case(patch, image: np.ndarray, network: nn.Module, classes: np.ndarray, flips) -> np.ndarray:
    """One channel a voxel, added up in float32 over every voxel of the padded case."""
    tiling = Tiling.of(image.shape[1:], patch, 0.5)
    padded, chosen = torch.from_numpy(tiling.padded(image)), tiling.padded(classes[None])[0]
    weights = compute_gaussian(tuple(patch), value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu"))
    weights = weights.view(tiling.tile).numpy()
    total, weight = np.zeros((2, *tiling.shape), np.float32)
    for corner in itertools.product(*tiling.steps):
        box = tiling.box_at(corner)
        tile = padded[(slice(None), *box)][None]
        tile = tile[:, :, 0] if len(patch) == 2 else tile
        for flip in flips:
            output = network(tile.flip(flip)).flip(flip)[0].view(CLASSES, *tiling.tile).numpy()
            own = np.take_along_axis(output, np.maximum(chosen[box] - 1, 0)[None], 0)[0]
            total[box] += np.where(chosen[box] > 0, own * weights, 0)
            weight[box] += weights
    inner = tuple(slice(low, low + size) for low, size in zip(tiling.before, classes.shape, strict=True))
    return (total / weight)[inner]


@pytest.mark.parametrize(("patch", "shape"), SHAPES)
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_sums_of_the_chosen_voxels_are_those_of_the_whole_case(patch, shape, share):
    rng = np.random.default_rng(2)
    network, image = network_of(len(patch)), image_of(shape)
    classes = np.where(rng.random(shape) < share, rng.integers(1, CLASSES + 1, shape), 0).astype(np.int16)
    with torch.inference_mode():
        expected = chosen_of_the_whole_case(patch, image, network, classes, [(), (-1,)])
        found = SlidingWindow(patch, mirror_axes=(len(patch) - 1,)).at_classes(image, network, classes)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert (found.shape, found.dtype) == (shape, np.float32)


def test_memory_grows_with_the_choice():
    classes = np.zeros((64, 64, 64), dtype=np.int16)
    classes[30:34, 30:34, 30:34] = 1
    image, network = image_of(classes.shape), network_of(3)
    window = SlidingWindow((16, 16, 16))
    with torch.inference_mode():
        tracemalloc.start()  # knows what numpy takes, not what torch takes
        window.at_classes(image, network, classes)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6 * classes.size  # the scores in float32, and where they are


def test_tiles_without_a_choice_are_not_computed():
    calls = []
    network = network_of(3)

    def counting(tile):
        calls.append(1)
        return network(tile)

    classes = np.zeros((40, 33, 20), dtype=np.int64)
    with torch.inference_mode():
        assert not SlidingWindow((16, 16, 16)).at_classes(image_of(classes.shape), counting, classes).any()
        assert not calls
        classes[0, 0, 0] = 1
        SlidingWindow((16, 16, 16)).at_classes(image_of(classes.shape), counting, classes)
    assert len(calls) == 1


def test_a_slab_is_never_larger_than_asked_for():
    window = SlidingWindow((16, 16, 16), max_buffer_bytes=200_000)
    tiling = Tiling.of((600, 64, 64), (16, 16, 16), 0.5)
    bands = window._bands(tiling, 117)
    assert [bands[0].start, bands[-1].stop] == [0, 64]
    assert all(118 * 16 * (band.stop - band.start) * 64 * 4 <= 200_000 + 118 * 16 * 64 * 4 for band in bands)
