"""The phantom is the same every time, and anatomy."""

import numpy as np
import pytest

from nnunet_partial.demo.phantom import ORGANS, STRUCTURES, make_phantom

RIGHT, ANTERIOR, SUPERIOR = 0, 1, 2


@pytest.fixture(scope="module", params=range(3))
def phantom(request):
    return make_phantom(request.param)


def middle(phantom, name):
    """Centre of a structure in mm."""
    return np.argwhere(phantom.mask(name)).mean(axis=0) * phantom.spacing_mm


def test_same_seed_gives_the_same_voxels():
    one, two, other = make_phantom(7), make_phantom(7), make_phantom(8)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.truth, two.truth)
    assert one.spacing_mm == two.spacing_mm != other.spacing_mm
    assert (one.truth != other.truth).mean() > 0.01


def test_every_structure_is_there_and_of_sane_size(phantom):
    millilitres = {name: phantom.mask(name).sum() * np.prod(phantom.spacing_mm) / 1000 for name in STRUCTURES}
    for name, (low, high) in {
        "liver": (600, 2200),
        "spleen": (60, 400),
        "pancreas": (35, 180),
        "kidney_left": (60, 350),
        "kidney_right": (60, 350),
    }.items():
        assert low < millilitres[name] < high, f"{name}: {millilitres[name]:.0f} ml"
    assert min(millilitres.values()) > 5


def test_organs_lie_where_anatomy_has_them(phantom):
    where = {name: middle(phantom, name) for name in STRUCTURES}
    assert where["liver"][RIGHT] > where["spleen"][RIGHT] + 80
    assert where["kidney_right"][RIGHT] > where["kidney_left"][RIGHT] + 80
    assert where["kidney_left"][RIGHT] < where["aorta"][RIGHT] < where["inferior_vena_cava"][RIGHT] < where["kidney_right"][RIGHT]
    assert where["stomach"][ANTERIOR] > where["aorta"][ANTERIOR] > where["kidney_left"][ANTERIOR] - 5
    assert where["spleen"][SUPERIOR] > where["kidney_left"][SUPERIOR]
    assert where["kidney_left"][SUPERIOR] > where["kidney_right"][SUPERIOR] - 20


def test_intensities_are_hounsfield_units_and_organs_hardly_differ(phantom):
    assert phantom.image.dtype == np.int16
    assert phantom.image.min() >= -1024
    assert np.median(phantom.image[[0, -1]]) < -900, "air around the body"
    medians = {organ: np.median(phantom.image[phantom.mask(organ)]) for organ in ORGANS}
    assert 40 < medians["pancreas"] < medians["kidney_left"] < 230
    assert abs(medians["liver"] - medians["spleen"]) < 45, "one cannot tell them apart by value alone"
    spread = phantom.image[phantom.mask("liver")].std()
    assert 5 < spread < 60


def test_affine_puts_the_body_in_the_middle(phantom):
    centre = phantom.affine @ [*((np.array(phantom.image.shape) - 1) / 2), 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-6)
