"""The trainer with a discriminator: who learns from what, from when on, and whether a training goes on as it stopped."""

import json
import math

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from taught_trainers import CPU, DATASET, add_ignore_label, batch_of, equal, forget, ready, trainer_of, weights_of

from nnunet_partial.losses import maps_to_judge
from nnunet_partial.trainers import nnUNetTrainerAdversarial, nnUNetTrainerMarginal
from nnunet_partial.training.fine_tuning import FineTuning, bare
from nnunet_partial.training.helped_trainer import HELPERS_KEY

LATE = {"consistency_start_epochs": 1, "num_epochs": 4}


def discriminator(trainer) -> torch.nn.Module:
    return trainer.helpers["discriminator"].network


def taught_loss(trainer, batch) -> torch.Tensor:
    return trainer.loss(trainer.network(batch["data"]), trainer._partial_target({**batch, "lessons": {}}))


class Nothing(torch.nn.Module):
    """In place of the loss by annotation: what is left are verdict and self-training."""

    def forward(self, output, _):
        return 0 * output[0].sum()


def unannotated_batch(trainer) -> dict:
    batch = batch_of(trainer, "liver_01", "liver_04")
    return {**batch, "target": [torch.zeros_like(labels) for labels in batch["target"]]}


def test_nnunet_finds_it(root):
    assert recursive_find_trainer_class_by_name("nnUNetTrainerAdversarial") is nnUNetTrainerAdversarial


class TestStep:
    @pytest.mark.slow
    def test_the_loss_falls_and_the_discriminator_is_no_coin(self, root):
        trainer = ready(nnUNetTrainerAdversarial, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        losses = [float(trainer.train_step(batch)["loss"]) for _ in range(40)]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
        with torch.no_grad():
            own, annotation = maps_to_judge(trainer.network(batch["data"])[0], trainer._partial_target(batch)[0])
            assert discriminator(trainer)(annotation).mean() > discriminator(trainer)(own).mean()

    def test_the_networks_loss_never_teaches_the_discriminator_and_the_discriminators_never_the_network(self, root):
        trainer = ready(nnUNetTrainerAdversarial, root)
        trainer.loss.supervised = Nothing()
        batch = batch_of(trainer, "full_00", "liver_01")
        taught_loss(trainer, batch).backward()
        taught = [parameter.grad for parameter in bare(trainer.network).parameters()]
        assert any(grad is not None and grad.abs().sum() > 0 for grad in taught)
        assert all(parameter.grad is None for parameter in discriminator(trainer).parameters())
        network, judge = weights_of(bare(trainer.network)), weights_of(discriminator(trainer))
        trainer.network.zero_grad(set_to_none=True)
        trainer._teach_discriminator(*trainer.loss.take_seen())
        assert all(parameter.grad is None for parameter in trainer.network.parameters())
        assert equal(network, weights_of(bare(trainer.network)))
        assert not any(torch.equal(judge[name], value) for name, value in discriminator(trainer).named_parameters())
        optimised = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
        assert not optimised & {id(parameter) for parameter in discriminator(trainer).parameters()}

    def test_before_it_begins_it_learns_and_is_not_asked(self, root, monkeypatch):
        trainer = ready(nnUNetTrainerAdversarial, root, **LATE)
        monkeypatch.setattr(trainer.loss, "judge", lambda _: pytest.fail("asked too early"))
        batch, before = batch_of(trainer, "full_00", "liver_01"), weights_of(discriminator(trainer))
        stock = ready(nnUNetTrainerMarginal, root, **LATE)
        stock.network.load_state_dict(trainer.network.state_dict())
        assert trainer.train_step(batch)["loss"] == stock.train_step(batch)["loss"]
        assert equal(weights_of(bare(trainer.network)), weights_of(bare(stock.network)))
        assert not equal(before, weights_of(discriminator(trainer)))

    def test_a_case_nobody_annotated_teaches_the_network_alone_and_from_the_first_epoch_on(self, root):
        settings = {"change": forget("liver_01", "liver_04"), **LATE}
        early, late = (
            ready(nnUNetTrainerAdversarial, root, **settings),
            ready(nnUNetTrainerAdversarial, root, epoch=1, **settings),
        )
        batch, before = unannotated_batch(early), weights_of(discriminator(late))
        assert early.train_step(batch)["loss"] == 0
        assert 0 < late.train_step(batch)["loss"] < math.inf
        assert equal(before, weights_of(discriminator(late)))

    def test_an_overflow_does_not_reach_the_discriminator(self, root):
        trainer = ready(nnUNetTrainerAdversarial, root)
        taught_loss(trainer, batch_of(trainer, "full_00", "liver_01"))
        logits, target = trainer.loss.take_seen()
        logits = logits.half()
        logits[0, 0], logits[1, 1] = math.inf, math.nan
        trainer._teach_discriminator(logits, target)
        assert all(parameter.isfinite().all() for parameter in discriminator(trainer).parameters())

    def test_validation_is_by_annotation_alone(self, root):
        trainer = ready(nnUNetTrainerAdversarial, root)
        batch = batch_of(trainer, "liver_01", "kidney_02")
        trainer.network.eval()
        with torch.no_grad():
            expected = trainer.loss.supervised(trainer.network(batch["data"]), trainer._partial_target(batch))
        assert trainer.validation_step(batch)["loss"] == pytest.approx(float(expected))

    def test_its_learning_rate_falls_as_the_networks(self, root):
        trainer = ready(nnUNetTrainerAdversarial, root, num_epochs=10, discriminator_lr=1e-3)
        for epoch in (0, 5, 9):
            trainer.current_epoch = epoch
            trainer.on_train_epoch_start()
            rate = trainer.helpers["discriminator"].optimizer.param_groups[0]["lr"]
            assert rate == pytest.approx(1e-3 * (1 - epoch / 10) ** 0.9)

    def test_2d_has_the_papers_channels(self, root):
        trainer = ready(nnUNetTrainerAdversarial, root, configuration="2d")
        assert discriminator(trainer).layers[0].out_channels == 64
        sizes = trainer.configuration_manager.patch_size
        scales = trainer._get_deep_supervision_scales()
        targets = [torch.zeros(2, 1, *(round(n * s) for n, s in zip(sizes, scale, strict=True))).short() for scale in scales]
        targets[0][:, :, :4] = 1
        batch = {"data": torch.randn(2, 1, *sizes), "target": targets, "keys": ["liver_01", "kidney_02"]}
        assert np.isfinite(trainer.train_step(batch)["loss"])

    def test_without_deep_supervision_and_with_an_ignore_label(self, root):
        trainer = trainer_of(nnUNetTrainerAdversarial, root, change=add_ignore_label)
        trainer.enable_deep_supervision = False
        trainer.initialize()
        trainer.set_deep_supervision_enabled(False)
        trainer.on_train_epoch_start()
        labels = torch.full((2, 1, *trainer.configuration_manager.patch_size), 4).short()
        batch = {"data": torch.randn(labels.shape), "target": labels, "keys": ["liver_01", "kidney_02"]}
        before = weights_of(discriminator(trainer))
        assert trainer.train_step(batch)["loss"] == 0
        assert equal(before, weights_of(discriminator(trainer)))
        labels[:, :, :5], labels[:, :, 5:9] = 0, 1
        assert trainer.train_step(batch)["loss"] > 0
        assert not equal(before, weights_of(discriminator(trainer)))

    def test_the_plans_say_what_terms_weigh(self, root):
        settings = {
            "weight_adversarial": 0.5,
            "weight_adversarial_ambiguous": 0.25,
            "weight_masked_self_training": 2.0,
            "discriminator_threshold": 0.75,
        }
        loss = ready(nnUNetTrainerAdversarial, root, **settings).loss
        assert loss.weights == {"weight_decided": 0.5, "weight_ambiguous": 0.25}
        assert (loss.weight_self_training, loss.threshold) == (2.0, 0.75)


class TestCheckpoint:
    def test_the_model_is_stock_and_a_resumed_training_takes_the_same_steps_to_the_last_bit(self, root, tmp_path):
        settings = {**LATE, "optimizer": "sgd"}

        def go_on(trainer, epochs):
            for epoch in epochs:
                trainer.current_epoch = epoch
                trainer.on_train_epoch_start()
                for seed in range(2):
                    trainer.train_step(batch_of(trainer, "full_00", "liver_01", seed=seed))

        whole = ready(nnUNetTrainerAdversarial, root, **settings)
        go_on(whole, range(2))
        file = tmp_path / "checkpoint_latest.pth"
        whole.save_checkpoint(str(file))
        go_on(whole, range(2, 4))

        checkpoint = torch.load(file, weights_only=False)
        stock = trainer_of(nnUNetTrainer, root)
        stock.initialize()
        stock.network.load_state_dict(checkpoint["network_weights"])

        torch.manual_seed(99)
        resumed = trainer_of(nnUNetTrainerAdversarial, root, **settings)
        resumed.initialize()
        resumed.load_checkpoint(str(file))
        steps = [state["step"] for state in resumed.helpers["discriminator"].optimizer.state_dict()["state"].values()]
        assert steps == [4] * len(list(discriminator(resumed).parameters()))
        assert equal(
            weights_of(discriminator(resumed)),
            {
                name.removeprefix("discriminator.network."): value
                for name, value in checkpoint[HELPERS_KEY].items()
                if name.startswith("discriminator.network.")
            },
        )
        resumed.set_deep_supervision_enabled(True)
        go_on(resumed, range(2, 4))
        assert equal(weights_of(bare(whole.network)), weights_of(bare(resumed.network)))
        assert equal(weights_of(discriminator(whole)), weights_of(discriminator(resumed)))


class TestRefusals:
    def test_a_fine_tuning(self, root, tmp_path):
        trainer = trainer_of(nnUNetTrainerAdversarial, root)
        trainer.fine_tune(FineTuning(tmp_path / "none.pth", tmp_path / "out", num_epochs=2, initial_lr=0.01))
        with pytest.raises(NotImplementedError, match="cannot go on from another training"):
            trainer.initialize()

    def test_a_training_that_ends_before_it_begins(self, root):
        with pytest.raises(RuntimeError, match=r"teach after 30 epochs, but training ends after 2"):
            trainer_of(nnUNetTrainerAdversarial, root, consistency_start_epochs=30).initialize()

    def test_a_network_of_unknown_width(self, root, monkeypatch):
        network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 1))
        network.decoder = torch.nn.Identity()
        monkeypatch.setattr(nnUNetTrainerAdversarial, "build_network_architecture", staticmethod(lambda *args, **kwargs: network))
        with pytest.raises(NotImplementedError, match=r"Sequential has no decoder\.seg_layers"):
            trainer_of(nnUNetTrainerAdversarial, root).initialize()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "configuration"), [("Adversarial", "3d_fullres"), ("PriorAware", "2d")])
def test_trains_through_nnunets_own_door(root, name, configuration):
    file = root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    plans["partial"]["consistency_start_epochs"] = 1
    file.write_text(json.dumps(plans), encoding="utf-8")
    name = f"nnUNetTrainer{name}"
    run_training("701", configuration, 0, name, device=CPU)
    folder = root / "nnUNet_results" / DATASET / f"{name}__nnUNetPlans__{configuration}" / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
    assert checkpoint[HELPERS_KEY]
    assert (folder / "validation" / "summary.json").exists()
