"""Trainers with a teacher, through nnU-Net's own entry points and step by step: learn, resume, predict, refuse."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from phantom_dataset import offered_copy

from nnunet_partial.trainers import nnUNetTrainerCoraNet, nnUNetTrainerMarginal, nnUNetTrainerMeanTeacher
from nnunet_partial.training.fine_tuning import FineTuning, bare
from nnunet_partial.training.helped_trainer import HELPERS_KEY

DATASET = "Dataset701_Small"
CPU = torch.device("cpu")
TRAINERS = [nnUNetTrainerMeanTeacher, nnUNetTrainerCoraNet]
every_trainer = pytest.mark.parametrize("cls", TRAINERS)


@pytest.fixture
def root(small_dataset, tmp_path, monkeypatch) -> Path:
    """A copy of the planned dataset, with our trainers offered to nnU-Net."""
    torch.manual_seed(0)
    np.random.seed(0)
    return offered_copy(small_dataset, tmp_path, monkeypatch)


def trainer_of(cls, root: Path, change=lambda dataset_json: None, configuration: str = "3d_fullres", **settings):
    folder = root / "nnUNet_preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    plans["partial"] |= {"consistency_start_epochs": 0, "optimizer": "adamw", "initial_lr": 3e-3, **settings}
    change(dataset_json)
    return cls({**plans, "continue_training": False}, configuration, 0, dataset_json, CPU)


def ready(*args, epoch: int = 0, **settings):
    """A trainer at the beginning of an epoch, deep supervision on."""
    trainer = trainer_of(*args, **settings)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.current_epoch = epoch
    trainer.on_train_epoch_start()
    return trainer


def batch_of(trainer, *keys: str, seed: int = 0) -> dict:
    """A batch of whole cases, cut to the patch, with a label map a resolution."""
    generator = torch.Generator().manual_seed(seed)
    patch = trainer.configuration_manager.patch_size
    scales = trainer._get_deep_supervision_scales()
    datasets = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(keys))
    images, labels = [], []
    for key in keys:
        data, segmentation, *_ = datasets.load_case(key)
        corner = tuple(slice(0, size) for size in patch)
        images.append(torch.from_numpy(np.asarray(data[:])[(slice(None), *corner)]))
        labels.append(torch.from_numpy(np.asarray(segmentation[:])[(slice(None), *corner)].clip(0).astype(np.int16)))
    images = torch.stack(images).float()
    labels = torch.stack(labels)
    strides = [[round(1 / share) for share in scale] for scale in scales]
    targets = [labels[(..., *(slice(None, None, step) for step in steps))] for steps in strides]
    noise = 0.01 * torch.randn(images.shape, generator=generator)
    return {"data": images + noise, "target": targets, "keys": list(keys)}


def forget(*keys: str):
    """Nobody has annotated these cases."""

    def change(dataset_json):
        dataset_json["annotation"]["protocols"]["nothing"] = {"labels": {}}
        for key in keys:
            dataset_json["annotation"]["cases"][key]["protocol"] = "nothing"

    return change


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@every_trainer
def test_nnunet_finds_one_and_the_same_class(root, cls):
    assert recursive_find_trainer_class_by_name(cls.__name__) is cls
    assert recursive_find_trainer_class_by_name(cls.__name__) is cls


@every_trainer
class TestStep:
    @pytest.mark.slow
    def test_the_loss_falls(self, root, cls):
        trainer = ready(cls, root)
        batch = batch_of(trainer, "full_00", "liver_01")
        losses = [float(trainer.train_step(batch)["loss"]) for _ in range(40)]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])

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

    def test_a_case_nobody_annotated_is_learned_from_once_the_teacher_has_begun(self, root, cls):
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

    def test_the_teacher_sees_noise_and_the_student_does_not(self, root, cls, monkeypatch):
        trainer = ready(cls, root)
        batch = batch_of(trainer, "liver_01", "kidney_02")
        seen = {}
        bare(trainer.network).register_forward_pre_hook(lambda _, inputs: seen.__setitem__("student", inputs[0]))
        trainer.teacher.average.register_forward_pre_hook(lambda _, inputs: seen.__setitem__("teacher", inputs[0]))
        trainer.train_step(batch)
        assert torch.equal(seen["student"], batch["data"])
        gap = (seen["teacher"] - batch["data"]).abs()
        assert 0 < gap.mean() < 0.1
        assert gap.max() <= 0.2 + 1e-5

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
        def add_ignore_label(dataset_json):
            dataset_json["labels"]["ignore"] = 4
            dataset_json["annotation"]["ignore_label"] = 4

        trainer = ready(cls, root, change=add_ignore_label)
        assert trainer.annotation.space.ignore_id == 4
        batch = batch_of(trainer, "liver_01", "kidney_02")
        assert np.isfinite(trainer.train_step(batch)["loss"])
        ignored = {**batch, "target": [torch.full_like(labels, 4) for labels in batch["target"]]}
        assert trainer.train_step(ignored)["loss"] == 0


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
def test_a_teacher_that_would_never_begin_is_refused(root, cls):
    with pytest.raises(RuntimeError, match=r"teach after 30 epochs, but training ends after 2.*consistency_start_epochs=0"):
        trainer_of(cls, root, consistency_start_epochs=30).initialize()


def test_a_fine_tuning_has_a_teacher_from_its_first_epoch(root, tmp_path):
    source = trainer_of(nnUNetTrainerMarginal, root)
    source.initialize()
    source.save_checkpoint(str(tmp_path / "first.pth"))
    trainer = trainer_of(nnUNetTrainerMeanTeacher, root, consistency_start_epochs=30)
    trainer.fine_tune(FineTuning(tmp_path / "first.pth", tmp_path / "out", num_epochs=2, initial_lr=0.01))
    trainer.initialize()
    trainer.on_train_epoch_start()
    assert equal(weights_of(bare(source.network)), weights_of(trainer.teacher.average.module))


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "configuration"), [(TRAINERS[0], "2d"), (TRAINERS[1], "3d_fullres")])
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
