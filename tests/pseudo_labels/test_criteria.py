"""What ranks predictions, each criterion on networks whose scores are countable by hand; the same whoever does the case."""

import json
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import expit, logit
from torch import nn

from nnunet_partial.losses.log_odds import binary_log_odds, softmax_log_odds
from nnunet_partial.networks import dropped_passes
from nnunet_partial.pseudo_labels.criteria import AugmentedViews, BranchAgreement, MeanOfPasses, Ranking, UnderNoise, seed_of
from nnunet_partial.pseudo_labels.request import TAKEN_BY, Criterion, RoundsRequest
from nnunet_partial.pseudo_labels.sliding_window import SlidingWindow
from tests.networks.test_confidence_model import unet

PATCH = (16, 16, 16)


class Gradient(nn.Module):
    """Logits of two classes: background 0, the organ's the place on the last axis plus the intensity. Mirroring shows."""

    def forward(self, image):
        organ = image + torch.arange(image.shape[-1], dtype=image.dtype)
        return torch.cat([torch.zeros_like(organ), organ], 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestMeanOfPasses:
    def test_counted_by_hand(self):
        """The organ has 0.8 and 0.4 of softmax: 0.6 on average, log-odds of 3 : 2."""
        logits = [torch.tensor([[[0.0]], [[logit(p)]]]).view(1, 2, 1) for p in (0.8, 0.4)]
        several = MeanOfPasses(lambda image: iter(logits), softmax_log_odds)
        assert several(None).item() == pytest.approx(np.log(3 / 2), abs=1e-6)

    def test_passes_that_differ_are_less_sure_than_those_that_agree(self):
        agreeing, differing = ([torch.tensor([0.0, d]).view(1, 2, 1) for d in ds] for ds in ((2.0, 2.0), (5.0, -1.0)))
        scores = [MeanOfPasses(lambda _, z=z: iter(z), binary_log_odds)(None).item() for z in (agreeing, differing)]
        assert scores[0] == pytest.approx(2, abs=1e-6)
        assert scores[1] < scores[0]

    def test_one_pass_is_maximum_class_probability(self):
        logits = torch.randn(1, 4, 5)
        torch.testing.assert_close(MeanOfPasses(lambda _: iter([logits]), softmax_log_odds)(None), softmax_log_odds(logits))

    def test_memory_does_not_grow_with_the_passes(self):
        alive = []

        class Counted(torch.Tensor):
            pass

        def passes(image):
            for _ in range(9):
                logits = torch.zeros(1, 2, 3).as_subclass(Counted)
                alive.append(weakref.ref(logits))
                assert sum(ref() is not None for ref in alive) <= 2
                yield logits

        MeanOfPasses(passes, binary_log_odds)(None)
        assert len(alive) == 9


class TestAugmentedViews:
    def views(self, network, image, count, axes, noise=0.0, seed=0):
        views = AugmentedViews(network, count, axes, noise, num_image_channels=1, generator=generator(seed))
        return [view[0, 1, 0, 0].tolist() for view in views.each(image)]

    def test_mirrored_along_allowed_axes_and_turned_back(self):
        image = torch.tensor([10.0, 20.0, 30.0]).view(1, 1, 1, 1, 3)
        assert self.views(Gradient(), image, 2, (2,)) == [[10, 21, 32], [12, 21, 30]]
        assert self.views(Gradient(), image, 3, ()) == [[10, 21, 32]] * 3
        assert self.views(Gradient(), image, 4, (0, 2)) == [[10, 21, 32], [10, 21, 32], [12, 21, 30], [12, 21, 30]]

    def test_in_two_dimensions_axes_are_those_of_the_patch(self):
        image = torch.arange(6.0).view(1, 1, 2, 3)
        views = AugmentedViews(lambda image: image, 2, (0,), 0.0, num_image_channels=1, generator=generator())
        first, second = views.each(image)
        assert torch.equal(first, image)
        assert torch.equal(second, image), "what was mirrored is turned back"
        seen = []
        views.network = lambda image: seen.append(image) or image
        list(views.each(image))
        assert torch.equal(seen[1], image.flip(2))

    def test_noise_differs_from_view_to_view_and_is_the_seed_s(self):
        image = torch.zeros(1, 1, 1, 1, 3)
        first, second = self.views(Gradient(), image, 2, (), noise=0.1)
        assert first != second
        assert self.views(Gradient(), image, 2, (), noise=0.1) == [first, second]
        assert self.views(Gradient(), image, 2, (), noise=0.1, seed=1) != [first, second]

    def test_the_mean_probability_by_hand(self):
        """At the first of three voxels the views say 0 and 2, at the last one 2 and 0."""
        views = AugmentedViews(Gradient(), 2, (2,), 0.0, num_image_channels=1, generator=generator())
        scores = MeanOfPasses(views.each, binary_log_odds)(torch.zeros(1, 1, 1, 1, 3)).flatten()
        expected = logit((expit(0) + expit(2)) / 2)
        np.testing.assert_allclose(scores, [expected, 1, expected], atol=1e-6)


def test_noise_predicted_by_hand():
    def model(_):
        return torch.full((1, 2, 3), 3.0), torch.tensor([np.log(8 / np.pi), -99.0]).float().view(1, 2, 1)

    scores = UnderNoise(model)(None)
    np.testing.assert_allclose(scores[0, :, 0], [3 / np.sqrt(2), 3], rtol=1e-5)


def test_branches_by_hand():
    conservative, radical = torch.tensor([[[2.0, -1.0, -3.0, 1.0]]]), torch.tensor([[[3.0, 4.0, -2.0, 0.5]]])
    scores = BranchAgreement(lambda image: (None, conservative, radical))(None)
    assert scores.flatten().tolist() == [2, -1, -3, 0.5]
    both = (conservative > 0) & (radical > 0)
    assert torch.equal(scores > 0, both)


class TestRanking:
    """Random criteria on a network with dropout, and on one that sees noise."""

    @pytest.fixture(params=["dropout", "augmentation"])
    def make(self, request):
        torch.manual_seed(0)
        network = unet(3).eval()
        network.decoder.deep_supervision = False

        def make(step_size: float = 0.5) -> Ranking:
            own = torch.Generator()
            several = {
                "dropout": partial(dropped_passes, network, passes=2, rate=0.3, generator=own),
                "augmentation": AugmentedViews(network, 2, (0,), 0.1, num_image_channels=1, generator=own).each,
            }[request.param]
            return Ranking(MeanOfPasses(several, softmax_log_odds), SlidingWindow(PATCH, step_size=step_size), own)

        return make

    @pytest.fixture
    def image(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(1, 20, 18, 16)).astype(np.float32)

    @pytest.fixture
    def prediction(self) -> np.ndarray:
        return np.random.default_rng(1).integers(0, 4, (20, 18, 16)).astype(np.int16)

    @torch.inference_mode()
    def test_a_case_is_scored_alike_after_whichever_others(self, make, image, prediction):
        ranking = make()
        first = ranking.scores("a", image, prediction)
        other = ranking.scores("b", image, prediction)
        torch.rand(5)
        assert (ranking.scores("a", image, prediction) == first).all()
        assert (make().scores("a", image, prediction) == first).all(), "another process"
        assert (other != first).any(), "another case, other noise"
        assert (first[prediction == 0] == 0).all()

    @torch.inference_mode()
    def test_the_random_numbers_of_others_stay_theirs(self, make, image, prediction):
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        make().scores("a", image, prediction)
        assert torch.equal(torch.rand(3), expected)


def test_a_case_has_the_same_seed_everywhere():
    assert seed_of("case_01") == 2407702615
    assert len({seed_of(f"case_{number}") for number in range(1000)}) == 1000


class TestRequest:
    def request(self, **options) -> RoundsRequest:
        known = {"dataset": "D", "configuration": "3d_fullres", "fold": 0, "trainer": "T", "plans": "P", "name": "n"}
        return RoundsRequest(**{**known, "epochs": 1, "initial_lr": 0.1, "confidence_epochs": 1, "confidence_lr": 0.1, **options})

    @pytest.mark.parametrize("name", TAKEN_BY)
    def test_options_of_other_criteria_are_refused(self, name):
        value = {"passes": 3, "dropout_rate": 0.5, "noise": 0.0}[name]
        for criterion in Criterion.__args__:
            options = {"criterion": criterion, "rounds": 1, name: value}
            if criterion in TAKEN_BY[name]:
                assert getattr(self.request(**options), name) == value
            else:
                with pytest.raises(ValidationError, match=f"'{criterion}' takes no --{name.replace('_', '-')}"):
                    self.request(**options)

    @pytest.mark.parametrize(
        ("name", "criterion", "value"),
        [
            ("passes", "dropout", 0),
            ("dropout_rate", "dropout", 1.0),
            ("dropout_rate", "dropout", 0.0),
            ("noise", "augmentation", -1),
        ],
    )
    def test_values_that_make_no_sense_are_refused(self, name, criterion, value):
        with pytest.raises(ValidationError, match=name):
            self.request(criterion=criterion, **{name: value})

    def test_differences_are_named_and_runs_of_before_go_on(self, tmp_path: Path):
        request = self.request(criterion="dropout", passes=3)
        written = json.loads(json.dumps(request.model_dump(mode="json")))
        assert request.differences(written) == []
        assert request.differences({**written, "passes": 4}) == ["passes 4 -> 3"]
        older = {name: value for name, value in written.items() if name not in TAKEN_BY}
        assert self.request(criterion="dropout").differences(older) == []
        assert request.differences(older) == ["passes 10 -> 3"]
        assert RoundsRequest.model_validate(written) == request
