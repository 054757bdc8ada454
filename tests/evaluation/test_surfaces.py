"""Surface distances: cubes to measure by hand, the library that defines them, and a brute-force loop over all elements."""

import math

import numpy as np
import pytest
import surface_distance
from scipy import ndimage

from nnunet_partial.evaluation import SURFACE_NAMES, surface_distances, surface_metrics
from nnunet_partial.evaluation.surfaces import average_distance

SPACING_MM = (3.0, 0.7, 0.8)
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # by the library, of SciPy's old names


def cube(shape=(12, 12, 12), start=(3, 3, 3), size=4) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(first, first + size) for first in start)] = True
    return mask


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pair = [ndimage.gaussian_filter(rng.random(shape), 1.5) > level for level in (0.5, 0.51)]
    assert all(mask.any() for mask in pair)
    return pair[0], pair[1]


def library(reference, prediction, spacing_mm, tolerance_mm) -> dict[str, float]:
    """The metrics as `surface-distance` gives them; ASSD over both surfaces together from its two directed ones."""
    found = surface_distance.compute_surface_distances(reference, prediction, list(spacing_mm))
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return {
        "HD_mm": surface_distance.compute_robust_hausdorff(found, 100),
        "HD95_mm": surface_distance.compute_robust_hausdorff(found, 95),
        "ASSD_mm": np.average(surface_distance.compute_average_surface_distance(found), weights=areas),
        "NSD": surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm),
    }


def test_a_cube_moved_by_two_voxels():
    metrics = surface_metrics(cube(), cube(start=(5, 3, 3)), SPACING_MM, tolerance_mm=5.9)
    assert metrics["HD_mm"] == pytest.approx(6)  # two slices of 3 mm
    assert metrics["HD95_mm"] == pytest.approx(6)
    assert metrics["NSD"] < 1
    assert surface_metrics(cube(), cube(start=(5, 3, 3)), SPACING_MM, tolerance_mm=6)["NSD"] == 1
    assert surface_metrics(cube(), cube(start=(3, 5, 3)), SPACING_MM)["HD_mm"] == pytest.approx(1.4)


def test_the_tolerance_is_closed_whatever_the_rounding_of_the_spacing():
    kept = float(np.float32(0.8))  # 0.800000012, as NIfTI headers keep it
    for spacing_mm, distance_mm in (((1, 1, 0.7), 1.4), ((1, 1, kept), 1.6)):
        moved = cube(start=(3, 3, 5))
        assert surface_metrics(cube(), moved, spacing_mm, tolerance_mm=distance_mm)["NSD"] == 1
        assert surface_metrics(cube(), moved, spacing_mm, tolerance_mm=distance_mm - 0.01)["NSD"] < 1


def test_equal_masks_have_no_distance():
    assert surface_metrics(cube(), cube(), SPACING_MM) == {"HD_mm": 0, "HD95_mm": 0, "ASSD_mm": 0, "NSD": 1}


def test_a_slab_counted_by_hand_in_a_plane():
    """Contours of two squares of which one reaches a row further: only that edge is a millimetre away."""
    reference, prediction = np.zeros((2, 20, 20), bool)
    reference[5:15, 5:15], prediction[5:16, 5:15] = True, True
    distances = surface_distances(reference, prediction, (1, 1))
    assert sorted(set(distances.prediction_mm)) == [0, 1]
    assert distances.reference_mm2.sum() == pytest.approx(4 * 9 + 4 * math.sqrt(0.5))  # corners are cut
    assert surface_metrics(reference, prediction, (1, 1))["HD_mm"] == 1


@pytest.mark.parametrize("name", ["both", "reference", "prediction"])
def test_empty_policy(name):
    nothing = np.zeros((12, 12, 12), bool)
    masks = {"both": (nothing, nothing), "reference": (nothing, cube()), "prediction": (cube(), nothing)}[name]
    metrics = surface_metrics(*masks, SPACING_MM)
    assert list(metrics) == list(SURFACE_NAMES)
    assert all(math.isnan(metrics[key]) for key in SURFACE_NAMES[:3])
    assert math.isnan(metrics["NSD"]) if name == "both" else metrics["NSD"] == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("axes", [2, 3])
def test_equals_the_library(seed, axes):
    rng = np.random.default_rng(seed)
    pair = blobs(seed, tuple(rng.integers(6, 24, axes)))
    spacing_mm = rng.choice([0.75, 1, 2.5, 5], axes)
    assert surface_metrics(*pair, spacing_mm, tolerance_mm=2) == pytest.approx(library(*pair, spacing_mm, 2))


def test_organs_that_touch_the_border_of_the_volume():
    pair = np.ones((4, 5, 6), bool), cube((4, 5, 6), (0, 1, 2))
    assert surface_metrics(*pair, SPACING_MM) == pytest.approx(library(*pair, SPACING_MM, 2))


@pytest.mark.parametrize("seed", range(3))
def test_equals_all_pairs_of_elements(seed):
    """No tree, no transform: every corner whose eight voxels are not alike against every other."""
    pair = blobs(seed, (7, 9, 8))
    corners = []
    for mask in pair:
        voxels = ndimage.generic_filter(np.pad(mask, 1).astype(int), np.sum, size=2, origin=-1, mode="constant")[:-1, :-1, :-1]
        corners.append(np.argwhere((voxels > 0) & (voxels < 8)) * np.array(SPACING_MM))
    all_mm = np.linalg.norm(corners[0][:, None] - corners[1][None], axis=2)
    distances = surface_distances(*pair, SPACING_MM)
    np.testing.assert_allclose(distances.reference_mm, all_mm.min(axis=1))
    np.testing.assert_allclose(distances.prediction_mm, all_mm.min(axis=0))
    total = all_mm.min(axis=1) @ distances.reference_mm2 + all_mm.min(axis=0) @ distances.prediction_mm2
    assert average_distance(distances) == pytest.approx(total / (distances.reference_mm2.sum() + distances.prediction_mm2.sum()))


def test_refuses_what_has_no_surface():
    with pytest.raises(ValueError, match=r"reference has shape \(12, 12, 12\), prediction \(4, 5, 6\)"):
        surface_metrics(cube(), cube((4, 5, 6), (0, 0, 0)), SPACING_MM)
    with pytest.raises(ValueError, match="2 or 3 axes with a spacing each; got 3 axes, 2 spacings"):
        surface_metrics(cube(), cube(), (1, 1))
    with pytest.raises(ValueError, match="an empty mask has no surface"):
        surface_distances(cube(), np.zeros((12, 12, 12), bool), SPACING_MM)
