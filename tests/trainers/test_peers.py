"""Peers of CoraNet, each by what is its own: what the networks see, what drops out, what the plans change."""

import math

import pytest
import torch
from taught_trainers import batch_of, equal, forget, ready, trainer_of, weights_of

from nnunet_partial.losses import entropy_loss
from nnunet_partial.trainers import (
    nnUNetTrainerEntropyMinimization,
    nnUNetTrainerPiModel,
    nnUNetTrainerUncertaintyAwareMeanTeacher,
)
from nnunet_partial.training.fine_tuning import bare

with_dropout = pytest.mark.parametrize("cls", [nnUNetTrainerUncertaintyAwareMeanTeacher, nnUNetTrainerPiModel])


def images_seen(network: torch.nn.Module) -> list[torch.Tensor]:
    """A list that will hold what the network is given."""
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


@with_dropout
class TestDropout:
    def test_is_in_training_alone(self, root, cls):
        trainer = ready(cls, root)
        image = batch_of(trainer, "full_00", "liver_01")["data"]
        first, second = (trainer.network(image)[0] for _ in range(2))
        assert not torch.equal(first, second)
        trainer.on_validation_epoch_start()
        first, second = (trainer.network(image)[0] for _ in range(2))
        assert torch.equal(first, second)

    def test_none_where_the_plans_want_none(self, root, cls):
        trainer = ready(cls, root, dropout_rate=0)
        image = batch_of(trainer, "full_00", "liver_01")["data"]
        assert torch.equal(trainer.network(image)[0], trainer.network(image)[0])

    def test_a_network_without_known_stages_is_refused(self, root, cls, monkeypatch):
        network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 1))
        network.decoder = torch.nn.Identity()
        monkeypatch.setattr(cls, "build_network_architecture", staticmethod(lambda *args, **kwargs: network))
        with pytest.raises(NotImplementedError, match=r"Sequential has no decoder\.seg_layers"):
            trainer_of(cls, root).initialize()


class TestUncertaintyAware:
    def test_the_teacher_is_asked_as_often_as_the_plans_say_under_noise_of_its_own(self, root):
        trainer = ready(nnUNetTrainerUncertaintyAwareMeanTeacher, root, monte_carlo_passes=3)
        seen, image = images_seen(trainer.teacher.average.module), batch_of(trainer, "full_00", "liver_01")["data"]
        trainer.lessons(image)
        assert len(seen) == 3
        assert len({float(each.sum()) for each in [image, *seen]}) == 4

    def test_it_answers_under_dropout_with_a_mean_probability(self, root):
        trainer = ready(nnUNetTrainerUncertaintyAwareMeanTeacher, root, teacher_noise=0)
        image = batch_of(trainer, "full_00", "liver_01")["data"]
        first, second = (trainer.ask_teacher(image).exp() for _ in range(2))
        torch.testing.assert_close(first.sum(1), torch.ones_like(first[:, 0]))
        assert not torch.equal(first, second)
        assert torch.equal(trainer.teacher(image), trainer.teacher(image)), "asked plainly, it has none"

    def test_the_threshold_rises_from_the_beginning_to_the_end(self, root):
        settings = {"consistency_start_epochs": 10, "num_epochs": 30, "monte_carlo_passes": 1}
        trainer = ready(nnUNetTrainerUncertaintyAwareMeanTeacher, root, epoch=10, **settings)
        batch = batch_of(trainer, "liver_01")
        for epoch, rise in ((10, math.exp(-5)), (20, math.exp(-1.25)), (30, 1)):
            trainer.current_epoch = epoch
            target = trainer._partial_target({**batch, "lessons": trainer.lessons(batch["data"])})
            assert target.entropy_threshold == pytest.approx(0.75 + 0.25 * rise)


class TestPiModel:
    def test_two_views_one_network(self, root):
        trainer = ready(nnUNetTrainerPiModel, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        seen = images_seen(bare(trainer.network))
        trainer.train_step(batch)
        assert len(seen) == 2
        assert not torch.equal(*seen)
        for view in seen:
            assert 0 < (view - batch["data"]).abs().max() <= 0.2 + 1e-5
        trainer.on_validation_epoch_start()
        trainer.validation_step(batch)
        assert torch.equal(seen[2], batch["data"])

    def test_the_step_is_that_of_the_loss_by_hand(self, root):
        """Unannotated, so that the loss is the views' distance alone; the second view is drawn first."""
        settings = {"change": forget("liver_01"), "weight_consistency": 0.25}
        trainer = ready(nnUNetTrainerPiModel, root, **settings)
        batch = batch_of(trainer, "liver_01")
        batch["target"] = [torch.zeros_like(labels) for labels in batch["target"]]
        torch.manual_seed(1)
        with torch.no_grad():
            second, first = (trainer.network(trainer.noisy(batch["data"]))[0].softmax(1) for _ in range(2))
        torch.manual_seed(1)
        found = trainer.train_step(batch)["loss"]
        assert found == pytest.approx(float(2 * 0.25 * (first - second).square().sum(1).mean()), rel=1e-4)

    def test_the_gradient_through_both_views_is_that_through_either(self):
        """Over both orders of two views: what the step leaves out in one it takes in the other."""
        weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        views = torch.randn(2, 3, dtype=torch.float64)

        def gradient(held):
            p = [(view.detach() if hold else view) for view, hold in zip((views @ weight).softmax(1), held, strict=True)]
            return torch.autograd.grad((p[0] - p[1]).square().sum(), weight)[0]

        both = gradient((False, False))
        torch.testing.assert_close(both, (2 * gradient((True, False)) + 2 * gradient((False, True))) / 2)


class TestEntropyMinimization:
    def test_entropy_falls_where_nobody_annotated(self, root):
        trainer = ready(nnUNetTrainerEntropyMinimization, root, change=forget("liver_01"), weight_entropy=1.0)
        batch = batch_of(trainer, "liver_01")
        batch["target"] = [torch.zeros_like(labels) for labels in batch["target"]]
        losses = [float(trainer.train_step(batch)["loss"]) for _ in range(5)]
        assert losses[-1] < losses[0] <= 1
        with torch.no_grad():
            last = float(entropy_loss(trainer.network(batch["data"])[0], trainer._partial_target(batch)[0]))
        assert last < losses[-1]

    def test_the_plans_say_what_it_weighs(self, root):
        settings = {"change": forget("liver_01"), "initial_lr": 1e-12}
        full, half = (
            ready(nnUNetTrainerEntropyMinimization, root, weight_entropy=weight, **settings) for weight in (0.002, 0.001)
        )
        half.network.load_state_dict(full.network.state_dict())
        batch = batch_of(full, "liver_01")
        batch["target"] = [torch.zeros_like(labels) for labels in batch["target"]]
        assert full.train_step(batch)["loss"] == pytest.approx(2 * half.train_step(batch)["loss"])

    def test_it_has_no_networks_beside_its_own(self, root):
        trainer = ready(nnUNetTrainerEntropyMinimization, root)
        assert equal(weights_of(trainer.helpers), {})
