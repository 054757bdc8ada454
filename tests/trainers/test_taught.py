"""What every trainer that learns from open voxels keeps to: when it begins, what it refuses, what a checkpoint has."""

import math

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from taught_trainers import TAUGHT, add_ignore_label, batch_of, equal, forget, ready, trainer_of, weights_of

from nnunet_partial.trainers import (
    nnUNetTrainerAdversarial,
    nnUNetTrainerAmbiguity,
    nnUNetTrainerMarginal,
    nnUNetTrainerMarginalExclusion,
    nnUNetTrainerPriorAware,
)
from nnunet_partial.training.fine_tuning import bare
from nnunet_partial.training.helped_trainer import HELPERS_KEY

every_trainer = pytest.mark.parametrize("cls", TAUGHT)
OTHERS = [
    nnUNetTrainerMarginal,
    nnUNetTrainerMarginalExclusion,
    nnUNetTrainerAmbiguity,
    nnUNetTrainerAdversarial,
    nnUNetTrainerPriorAware,
]


@every_trainer
def test_nnunet_finds_one_and_the_same_class(root, cls):
    assert recursive_find_trainer_class_by_name(cls.__name__) is cls
    assert recursive_find_trainer_class_by_name(cls.__name__) is cls


@pytest.mark.parametrize("cls", [*TAUGHT, *OTHERS])
def test_a_step_under_autocast_is_nearly_that_in_float32(root, cls):
    losses = []
    for half in (False, True):
        torch.manual_seed(0)
        trainer = ready(cls, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses += [float(trainer.train_step(batch)["loss"])]
        assert all(weights.isfinite().all() for weights in trainer.network.parameters())
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@every_trainer
class TestStep:
    @pytest.mark.slow
    def test_the_loss_falls(self, root, cls):
        trainer = ready(cls, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        losses = [float(trainer.train_step(batch)["loss"]) for _ in range(40)]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])

    def test_a_case_nobody_annotated_is_learned_from_once_it_begins(self, root, cls):
        settings = {"change": forget("liver_01", "liver_04"), "consistency_start_epochs": 1, "num_epochs": 3}
        early, late = ready(cls, root, **settings), ready(cls, root, epoch=1, **settings)
        batch = batch_of(early, "liver_01", "liver_04")
        batch["target"] = [torch.zeros_like(labels) for labels in batch["target"]]
        assert early.train_step(batch)["loss"] == 0
        assert 0 < late.train_step(batch)["loss"] < math.inf

    def test_a_fully_annotated_batch_has_nothing_to_be_taught(self, root, cls):
        trainer = ready(cls, root)
        batch = batch_of(trainer, "full_00", "full_03")
        loss = trainer.loss
        trainer.network.eval()
        with torch.no_grad():
            plain = loss.supervised(trainer.network(batch["data"]), trainer._partial_target(batch))
            lessons = trainer.lessons(batch["data"])
            taught = loss(trainer.network(batch["data"]), trainer._partial_target({**batch, "lessons": lessons}))
            without = loss(trainer.network(batch["data"]), trainer._partial_target({**batch, "lessons": {}}))
        torch.testing.assert_close(taught, without, rtol=0, atol=0)
        assert taught >= plain

    def test_validation_is_by_annotation_alone(self, root, cls):
        trainer = ready(cls, root)
        batch = batch_of(trainer, "liver_01", "kidney_02")
        trainer.network.eval()
        with torch.no_grad():
            expected = trainer.loss.supervised(trainer.network(batch["data"]), trainer._partial_target(batch))
            found = trainer.validation_step(batch)["loss"]
        assert found == pytest.approx(float(expected))

    def test_the_weight_rises(self, root, cls):
        trainer = ready(cls, root, ramp_up_epochs=10, num_epochs=20)
        batch = {**batch_of(trainer, "liver_01"), "lessons": {}}
        for epoch, weight in ((0, math.exp(-5)), (5, math.exp(-1.25)), (10, 1), (15, 1)):
            trainer.current_epoch = epoch
            assert trainer._partial_target(batch).weight == pytest.approx(weight)

    def test_2d(self, root, cls):
        trainer = ready(cls, root, configuration="2d")
        sizes = trainer.configuration_manager.patch_size
        scales = trainer._get_deep_supervision_scales()
        targets = [torch.zeros(2, 1, *(round(n * s) for n, s in zip(sizes, scale, strict=True))).short() for scale in scales]
        batch = {"data": torch.randn(2, 1, *sizes), "target": targets, "keys": ["liver_01", "kidney_02"]}
        assert np.isfinite(trainer.train_step(batch)["loss"])

    def test_without_deep_supervision(self, root, cls):
        trainer = trainer_of(cls, root)
        trainer.enable_deep_supervision = False
        trainer.initialize()
        trainer.set_deep_supervision_enabled(False)
        trainer.on_train_epoch_start()
        patch = trainer.configuration_manager.patch_size
        batch = {
            "data": torch.randn(2, 1, *patch),
            "target": torch.zeros(2, 1, *patch).short(),
            "keys": ["liver_01", "kidney_02"],
        }
        assert np.isfinite(trainer.train_step(batch)["loss"])

    def test_with_an_ignore_label(self, root, cls):
        trainer = ready(cls, root, change=add_ignore_label)
        assert trainer.annotation.space.ignore_id == 4
        batch = batch_of(trainer, "liver_01", "kidney_02")
        assert np.isfinite(trainer.train_step(batch)["loss"])
        ignored = {**batch, "target": [torch.full_like(labels, 4) for labels in batch["target"]]}
        assert trainer.train_step(ignored)["loss"] == 0


@every_trainer
class TestCheckpoint:
    def test_a_checkpoint_has_every_network_and_a_stock_one_under_the_hosts_key(self, root, cls, tmp_path):
        trainer = ready(cls, root)
        trainer.train_step(batch_of(trainer, "full_00", "liver_01"))
        trainer.logger.log("lrs", 0.1, 0)
        trainer.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
        assert [path.name for path in tmp_path.glob("*check*")] == ["checkpoint_latest.pth"]
        checkpoint = torch.load(tmp_path / "checkpoint_latest.pth", weights_only=False)
        assert equal(checkpoint[HELPERS_KEY], weights_of(trainer.helpers))
        stock = trainer_of(nnUNetTrainer, root)
        stock.initialize()
        stock.network.load_state_dict(checkpoint["network_weights"])
        assert equal(weights_of(stock.network), weights_of(bare(trainer.network)))

    def test_a_kill_while_writing_leaves_the_checkpoint_before(self, root, cls, tmp_path, monkeypatch):
        trainer = ready(cls, root)
        file = tmp_path / "checkpoint_latest.pth"
        trainer.save_checkpoint(str(file))
        before = file.read_bytes()
        trainer.train_step(batch_of(trainer, "full_00", "liver_01"))
        monkeypatch.setattr(type(trainer.helpers), "state_dict", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trainer.save_checkpoint(str(file))
        assert file.read_bytes() == before

    def test_a_resumed_training_takes_the_same_steps_to_the_last_bit(self, root, cls, tmp_path):
        settings = {"consistency_start_epochs": 1, "num_epochs": 4, "relabel_every": 2, "optimizer": "sgd"}

        def go_on(trainer, epochs):
            for epoch in epochs:
                trainer.current_epoch = epoch
                trainer.on_train_epoch_start()
                torch.manual_seed(epoch)
                for seed in range(2):
                    trainer.train_step(batch_of(trainer, "full_00", "liver_01", seed=seed))

        whole = ready(cls, root, **settings)
        go_on(whole, range(2))
        whole.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
        go_on(whole, range(2, 4))

        torch.manual_seed(99)
        resumed = trainer_of(cls, root, **settings)
        resumed.initialize()
        resumed.load_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
        assert resumed.current_epoch == 2
        assert equal(torch.load(tmp_path / "checkpoint_latest.pth", weights_only=False)[HELPERS_KEY], weights_of(resumed.helpers))
        resumed.set_deep_supervision_enabled(True)
        go_on(resumed, range(2, 4))
        assert equal(weights_of(bare(whole.network)), weights_of(bare(resumed.network)))
        assert equal(weights_of(whole.helpers), weights_of(resumed.helpers))

    def test_a_checkpoint_of_another_trainer_is_refused(self, root, cls, tmp_path):
        other = trainer_of(nnUNetTrainerMarginal, root)
        other.initialize()
        other.save_checkpoint(str(tmp_path / "checkpoint.pth"))
        with pytest.raises(RuntimeError, match="written by nnUNetTrainerMarginal and has no 'partial' networks"):
            trainer_of(cls, root).load_checkpoint(str(tmp_path / "checkpoint.pth"))


@every_trainer
def test_what_would_never_begin_is_refused(root, cls):
    with pytest.raises(RuntimeError, match=r"teach after 30 epochs, but training ends after 2.*consistency_start_epochs=0"):
        trainer_of(cls, root, consistency_start_epochs=30).initialize()
