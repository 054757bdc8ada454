"""The trainer with organ sizes as a prior: which patches count, from when on, and whether a training goes on as it stopped."""

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from taught_trainers import add_ignore_label, batch_of, equal, forget, ready, trainer_of, weights_of

from nnunet_partial.trainers import nnUNetTrainerMarginal, nnUNetTrainerPriorAware
from nnunet_partial.trainers.prior_aware import num_random_patches
from nnunet_partial.training.fine_tuning import FineTuning, bare
from nnunet_partial.training.helped_trainer import HELPERS_KEY

LATE = {"consistency_start_epochs": 1, "num_epochs": 4}


def unannotated_batch(trainer) -> dict:
    batch = batch_of(trainer, "liver_01", "liver_04")
    return {**batch, "target": [torch.zeros_like(labels) for labels in batch["target"]]}


def test_nnunet_finds_it(root):
    assert recursive_find_trainer_class_by_name("nnUNetTrainerPriorAware") is nnUNetTrainerPriorAware


@pytest.mark.parametrize(("batch_size", "share"), [(2, 0.33), (1, 0.0), (1, 1.0), (12, 0.33), (5, 0.5), (3, 0.9)])
def test_nnunet_lays_the_first_patches_of_a_batch_anywhere(batch_size, share):
    loader = nnUNetDataLoader.__new__(nnUNetDataLoader)
    loader.batch_size, loader.oversample_foreground_percent = batch_size, share
    anywhere = [not loader._oversample_last_XX_percent(position) for position in range(batch_size)]
    number = num_random_patches(batch_size, share)
    assert anywhere == [True] * number + [False] * (batch_size - number)


class TestStep:
    def test_the_host_draws_patches_by_position(self, root):
        trainer = ready(nnUNetTrainerPriorAware, root)
        assert trainer.probabilistic_oversampling is False
        assert trainer.loss.num_random_patches == num_random_patches(trainer.batch_size, trainer.oversample_foreground_percent)

    @pytest.mark.slow
    def test_the_loss_falls(self, root):
        trainer = ready(nnUNetTrainerPriorAware, root)
        full, partly = batch_of(trainer, "full_00", "full_03"), batch_of(trainer, "liver_01", "full_00")
        losses = []
        for _ in range(20):
            trainer.train_step(full)
            losses.append(float(trainer.train_step(partly)["loss"]))
        assert np.isfinite(losses).all()
        assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])

    @pytest.mark.slow
    def test_where_nobody_looked_the_average_size_comes_near_the_usual_one(self, root):
        trainer = ready(nnUNetTrainerPriorAware, root, size_decay=0.9, change=forget("liver_01", "liver_04"))
        batch, sizes, gaps = unannotated_batch(trainer), trainer.helpers["sizes"], []
        usual = torch.tensor([0.03, 0.01, 0.05])
        sizes.annotated.copy_(usual)
        sizes.num_annotated.fill_(1)
        for _ in range(100):
            trainer.train_step(batch)
            gaps.append(float((sizes.predicted - usual).abs().max()))
        assert gaps[-1] < 0.25 * gaps[0]

    def test_before_it_begins_sizes_are_counted_and_teach_nothing(self, root):
        trainer, stock = ready(nnUNetTrainerPriorAware, root, **LATE), ready(nnUNetTrainerMarginal, root, **LATE)
        stock.network.load_state_dict(trainer.network.state_dict())
        batch = batch_of(trainer, "liver_01", "full_00")
        assert trainer.train_step(batch)["loss"] == stock.train_step(batch)["loss"]
        assert equal(weights_of(bare(trainer.network)), weights_of(bare(stock.network)))
        organs = trainer.annotation.space.classes
        assert trainer.helpers["sizes"].num_annotated.tolist() == [float(name == "liver") for name in organs]
        assert trainer.helpers["sizes"].num_predicted.tolist() == [float(name != "liver") for name in organs]

    def test_a_case_nobody_annotated_teaches_once_there_is_something_to_compare_with(self, root):
        settings = {"change": forget("liver_01", "liver_04")}
        trainer = ready(nnUNetTrainerPriorAware, root, **settings)
        batch = unannotated_batch(trainer)
        assert trainer.train_step(batch)["loss"] == 0
        trainer.train_step(batch_of(trainer, "full_00", "full_03"))
        before = weights_of(bare(trainer.network))
        assert trainer.train_step(batch)["loss"] != 0
        assert not equal(before, weights_of(bare(trainer.network)))

    def test_validation_is_by_annotation_alone(self, root):
        trainer = ready(nnUNetTrainerPriorAware, root)
        batch = batch_of(trainer, "liver_01", "kidney_02")
        trainer.network.eval()
        with torch.no_grad():
            expected = trainer.loss.supervised(trainer.network(batch["data"]), trainer._partial_target(batch))
        assert trainer.validation_step(batch)["loss"] == pytest.approx(float(expected))
        assert trainer.helpers["sizes"].num_annotated.sum() == 0

    def test_2d_without_deep_supervision(self, root):
        trainer = trainer_of(nnUNetTrainerPriorAware, root, configuration="2d")
        trainer.enable_deep_supervision = False
        trainer.initialize()
        trainer.set_deep_supervision_enabled(False)
        trainer.on_train_epoch_start()
        patch = trainer.configuration_manager.patch_size
        labels = torch.zeros(4, 1, *patch).short()
        keys = ["full_00", "liver_01"] * 2
        batch = {"data": torch.randn(labels.shape), "target": labels, "keys": keys}
        for _ in range(2):
            assert np.isfinite(trainer.train_step(batch)["loss"])

    def test_with_an_ignore_label(self, root):
        trainer = ready(nnUNetTrainerPriorAware, root, change=add_ignore_label)
        batch = batch_of(trainer, "liver_01", "kidney_02")
        assert np.isfinite(trainer.train_step(batch)["loss"])

    def test_the_plans_say_what_it_weighs(self, root):
        loss = ready(nnUNetTrainerPriorAware, root, weight_size_prior=0.5, size_decay=0.9).loss
        assert (loss.weight_size_prior, loss.sizes.decay) == (0.5, 0.9)


def test_the_model_is_stock_and_a_resumed_training_takes_the_same_steps_to_the_last_bit(root, tmp_path):
    settings = {**LATE, "optimizer": "sgd"}

    def go_on(trainer, epochs):
        for epoch in epochs:
            trainer.current_epoch = epoch
            trainer.on_train_epoch_start()
            for seed in range(2):
                trainer.train_step(batch_of(trainer, *(["liver_01", "full_00"] if seed else ["full_00", "liver_01"]), seed=seed))

    whole = ready(nnUNetTrainerPriorAware, root, **settings)
    go_on(whole, range(2))
    file = tmp_path / "checkpoint_latest.pth"
    whole.save_checkpoint(str(file))
    assert equal(torch.load(file, weights_only=False)[HELPERS_KEY], weights_of(whole.helpers))
    go_on(whole, range(2, 4))

    stock = trainer_of(nnUNetTrainer, root)
    stock.initialize()
    stock.network.load_state_dict(torch.load(file, weights_only=False)["network_weights"])

    torch.manual_seed(99)
    resumed = trainer_of(nnUNetTrainerPriorAware, root, **settings)
    resumed.initialize()
    resumed.load_checkpoint(str(file))
    resumed.set_deep_supervision_enabled(True)
    go_on(resumed, range(2, 4))
    assert equal(weights_of(bare(whole.network)), weights_of(bare(resumed.network)))
    assert equal(weights_of(whole.helpers), weights_of(resumed.helpers))


def test_a_fine_tuning_has_its_prior_from_the_first_epoch(root, tmp_path):
    source = trainer_of(nnUNetTrainerMarginal, root)
    source.initialize()
    source.save_checkpoint(str(tmp_path / "first.pth"))
    trainer = trainer_of(nnUNetTrainerPriorAware, root, consistency_start_epochs=30)
    trainer.fine_tune(FineTuning(tmp_path / "first.pth", tmp_path / "out", num_epochs=2, initial_lr=0.01))
    trainer.initialize()
    assert trainer.epochs_taught == 0


def test_patches_that_are_all_centred_on_organs_are_refused(root):
    with pytest.raises(NotImplementedError, match=r"oversample_foreground_percent=1\.0 every patch is centred on an organ"):
        trainer_of(nnUNetTrainerPriorAware, root, oversample_foreground_percent=1.0).initialize()
