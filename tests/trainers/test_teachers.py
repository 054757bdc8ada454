"""Trainers with a teacher, through nnU-Net's own entry points and step by step: learn, resume, predict, refuse."""

import json

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from taught_trainers import CPU, DATASET, WITH_TEACHER, batch_of, equal, ready, trainer_of, weights_of

from nnunet_partial.trainers import (
    nnUNetTrainerCoraNet,
    nnUNetTrainerMarginal,
    nnUNetTrainerMeanTeacher,
    nnUNetTrainerUncertaintyAwareMeanTeacher,
)
from nnunet_partial.training.fine_tuning import FineTuning, bare
from nnunet_partial.training.helped_trainer import HELPERS_KEY

every_trainer = pytest.mark.parametrize("cls", WITH_TEACHER)


@every_trainer
class TestStep:
    def test_the_teacher_follows_and_gets_no_gradient(self, root, cls):
        trainer = ready(cls, root, ema_decay=0.9)
        student, teacher = bare(trainer.network), trainer.teacher
        before = weights_of(student)
        assert equal(before, weights_of(teacher.average.module))
        trainer.train_step(batch_of(trainer, "full_00", "liver_01"))
        after = weights_of(student)
        for name, value in teacher.average.module.state_dict().items():
            torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * after[name])
        assert all(parameter.grad is None for parameter in teacher.parameters())
        optimised = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
        assert not optimised & {id(parameter) for parameter in teacher.parameters()}

    def test_before_it_begins_the_teacher_says_nothing(self, root, cls, monkeypatch):
        trainer = ready(cls, root, consistency_start_epochs=1)
        monkeypatch.setattr(type(trainer), "lessons", lambda *_: pytest.fail("asked too early"))
        trainer.train_step(batch_of(trainer, "full_00", "liver_01"))
        assert not trainer.teacher.has_begun
        trainer.current_epoch = 1
        trainer.on_train_epoch_start()
        assert equal(weights_of(bare(trainer.network)), weights_of(trainer.teacher.average.module))

    def test_the_teacher_sees_noise_and_the_student_does_not(self, root, cls, monkeypatch):
        trainer = ready(cls, root)
        batch = batch_of(trainer, "liver_01", "kidney_02")
        seen = {}
        bare(trainer.network).register_forward_pre_hook(lambda _, inputs: seen.__setitem__("student", inputs[0]))
        trainer.teacher.average.module.register_forward_pre_hook(lambda _, inputs: seen.__setitem__("teacher", inputs[0]))
        trainer.train_step(batch)
        assert torch.equal(seen["student"], batch["data"])
        gap = (seen["teacher"] - batch["data"]).abs()
        assert 0 < gap.mean() < 0.1
        assert gap.max() <= 0.2 + 1e-5


class TestCoraNet:
    def test_the_branches_learn_within_the_hosts_clipping(self, root):
        trainer = ready(nnUNetTrainerCoraNet, root, optimizer="sgd")
        branches = trainer.helpers["branches"]
        before = weights_of(branches)
        norms = []
        trainer.optimizer.register_step_pre_hook(
            lambda *_: norms.append(float(torch.stack([p.grad.norm() for p in branches.parameters()]).norm()))
        )
        trainer.loss.cost = 1.0
        for parameter in branches.parameters():
            parameter.register_hook(lambda gradient: 1e6 * gradient)
        trainer.train_step(batch_of(trainer, "full_00", "liver_01"))
        assert norms[0] == pytest.approx(12, rel=1e-3)
        assert all(not torch.equal(before[name], value) for name, value in branches.named_parameters() if value.grad.any())

    def test_branches_teach_the_shared_features(self, root):
        trainer = ready(nnUNetTrainerCoraNet, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        trainer.network(batch["data"])
        conservative, radical = trainer.loss.branches()
        (conservative.sum() + radical.sum()).backward()
        first = next(iter(bare(trainer.network).encoder.parameters()))
        assert first.grad.abs().sum() > 0
        assert bare(trainer.network).decoder.seg_layers[-1].weight.grad is None

    def test_labels_are_renewed_every_few_epochs(self, root):
        trainer = ready(nnUNetTrainerCoraNet, root, consistency_start_epochs=1, relabel_every=2, num_epochs=9, epoch=1)
        batch = batch_of(trainer, "full_00", "liver_01")
        renewed = []
        for epoch in range(1, 6):
            trainer.current_epoch = epoch
            trainer.on_train_epoch_start()
            renewed.append(equal(weights_of(bare(trainer.network)), weights_of(trainer.helpers["relabeller"].network)))
            trainer.train_step(batch)
        assert renewed == [True, False, True, False, True]
        branches = weights_of(trainer.helpers["branches"])
        trainer.helpers["relabeller"].refresh(bare(trainer.network), trainer.helpers["branches"])
        assert equal(branches, weights_of(trainer.helpers["relabeller"].branches))

    def test_the_copy_labels_as_the_network_did(self, root):
        trainer = ready(nnUNetTrainerCoraNet, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        lessons = trainer.lessons(batch["data"])
        trainer.network.eval()
        with torch.no_grad():
            torch.testing.assert_close(lessons["label_logits"], trainer.network(batch["data"])[0])
            conservative, radical = trainer.loss.branches()
        assert torch.equal(lessons["branches_agree"], (conservative > 0) == (radical > 0))

    def test_a_fine_tuning_goes_on_with_the_branches_that_learned(self, root, tmp_path):
        source = ready(nnUNetTrainerCoraNet, root)
        source.train_step(batch_of(source, "full_00", "liver_01"))
        source.save_checkpoint(str(tmp_path / "first.pth"))
        trainer = trainer_of(nnUNetTrainerCoraNet, root, consistency_start_epochs=30)
        trainer.fine_tune(FineTuning(tmp_path / "first.pth", tmp_path / "out", num_epochs=2, initial_lr=0.01))
        trainer.initialize()
        learned = weights_of(source.helpers["branches"])
        assert equal(learned, weights_of(trainer.helpers["branches"]))
        assert equal(learned, weights_of(trainer.branch_copy().branches))
        trainer.set_deep_supervision_enabled(True)
        trainer.on_train_epoch_start()
        batch = batch_of(trainer, "full_00", "liver_01")
        conservative, radical = source.branch_copy()(batch["data"])[1:]
        assert torch.equal(trainer.lessons(batch["data"])["branches_agree"], (conservative > 0) == (radical > 0))
        trainer.train_step(batch)
        assert not equal(learned, weights_of(trainer.helpers["branches"])), "they do not learn on"

    def test_a_fine_tuning_from_a_training_without_branches_is_refused(self, root, tmp_path):
        for source in (nnUNetTrainerMarginal, nnUNetTrainerMeanTeacher):
            other = trainer_of(source, root)
            other.initialize()
            other.save_checkpoint(str(tmp_path / "first.pth"))
            trainer = trainer_of(nnUNetTrainerCoraNet, root)
            trainer.fine_tune(FineTuning(tmp_path / "first.pth", tmp_path / "out", num_epochs=2, initial_lr=0.01))
            with pytest.raises(RuntimeError, match=f"written by {source.__name__} and has no branches: new ones would decide"):
                trainer.initialize()

    def test_a_network_without_known_features_is_refused(self, root, monkeypatch):
        network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 1))
        network.decoder = torch.nn.Identity()
        monkeypatch.setattr(nnUNetTrainerCoraNet, "build_network_architecture", staticmethod(lambda *args, **kwargs: network))
        with pytest.raises(NotImplementedError, match=r"Sequential has no decoder\.seg_layers"):
            trainer_of(nnUNetTrainerCoraNet, root).initialize()

    def test_the_plans_say_what_terms_weigh(self, root):
        settings = {"misclassification_cost": 2.0, "weight_self_training": 0.5, "weight_consistency": 0.25}
        trainer = trainer_of(nnUNetTrainerCoraNet, root, **settings)
        trainer.initialize()
        loss = trainer.loss
        assert (loss.cost, loss.weight_self_training, loss.weight_consistency) == (2.0, 0.5, 0.25)


@pytest.mark.parametrize("cls", [nnUNetTrainerMeanTeacher, nnUNetTrainerUncertaintyAwareMeanTeacher])
def test_a_fine_tuning_has_a_teacher_from_its_first_epoch(root, cls, tmp_path):
    source = trainer_of(nnUNetTrainerMarginal, root)
    source.initialize()
    source.save_checkpoint(str(tmp_path / "first.pth"))
    trainer = trainer_of(cls, root, consistency_start_epochs=30)
    trainer.fine_tune(FineTuning(tmp_path / "first.pth", tmp_path / "out", num_epochs=2, initial_lr=0.01))
    trainer.initialize()
    trainer.on_train_epoch_start()
    assert equal(weights_of(bare(source.network)), weights_of(trainer.teacher.average.module))
    trainer.set_deep_supervision_enabled(True)
    assert np.isfinite(trainer.train_step(batch_of(trainer, "full_00", "liver_01"))["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "configuration"), zip(WITH_TEACHER, ("2d", "3d_fullres", "3d_fullres"), strict=True))
def test_trains_resumes_and_the_stock_predictor_runs_it(root, cls, configuration, tmp_path, monkeypatch):
    def die(self):
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        nnUNetTrainer.on_epoch_start(self)

    file = root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    plans["partial"]["consistency_start_epochs"] = 1
    file.write_text(json.dumps(plans), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(cls, "on_epoch_start", die)
        with pytest.raises(KeyboardInterrupt):
            run_training("701", configuration, 0, cls.__name__, device=CPU)
    run_training("701", configuration, 0, cls.__name__, continue_training=True, device=CPU)
    folder = root / "nnUNet_results" / DATASET / f"{cls.__name__}__nnUNetPlans__{configuration}" / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
    assert checkpoint[HELPERS_KEY]["teacher.average.n_averaged"] == 1 + 2  # the beginning, and two iterations
    predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder.parent), (0,))
    image = root / "nnUNet_raw" / DATASET / "imagesTr" / "full_00_0000.nii.gz"
    one = {"num_processes_preprocessing": 1, "num_processes_segmentation_export": 1}
    predictor.predict_from_files([[str(image)]], [str(tmp_path / "full_00")], save_probabilities=True, **one)
    assert np.load(tmp_path / "full_00.npz")["probabilities"].shape == (4, 24, 24, 24)
