"""Every door of nnU-Net's that this package goes through. A new release that moves one fails here, with a sentence.

Each test says what relies on the door.
"""

import inspect

import numpy as np
import torch
from nnunetv2.training.dataloading import data_loader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

HOOKS = {
    "initialize": "refusals come before the host's set-up",
    "_build_loss": "our loss replaces the one inside the deep supervision wrapper",
    "configure_optimizers": "AdamW where the settings ask for it",
    "do_split": "our splits file is written before the host would write its own",
    "get_tr_and_val_datasets": "balanced sampling repeats identifiers there",
    "get_dataloaders": "stage two begins with new loaders",
    "configure_rotation_dummyDA_mirroring_and_inital_patch_size": "left-right mirroring is taken out there",
    "on_train_epoch_start": "stage two begins there, and the progress bar",
    "on_train_epoch_end": "the progress bar ends there",
    "on_validation_epoch_end": "pseudo Dice by class and source is written there",
    "train_step": "the one seam: the target is wrapped there",
    "validation_step": "pseudo Dice over annotated classes",
    "perform_actual_validation": "summary.json over annotated classes",
    "save_checkpoint": "checkpoints are written under a temporary name",
    "load_checkpoint": "teachers and branches are loaded with the host's own network",
    "set_deep_supervision_enabled": "called by the host before validation",
}


def source_of(name: str) -> str:
    return inspect.getsource(getattr(nnUNetTrainer, name))


def test_hooks_exist():
    missing = {name: why for name, why in HOOKS.items() if not callable(getattr(nnUNetTrainer, name, None))}
    assert not missing, f"nnUNetTrainer has lost {missing}"


def test_signature_of_init():
    parameters = list(inspect.signature(nnUNetTrainer.__init__).parameters)
    assert parameters == ["self", "plans", "configuration", "fold", "dataset_json", "device"], (
        "the host re-creates trainers by name"
    )


def test_lengths_are_attributes_set_in_init():
    for name in (
        "num_epochs",
        "num_iterations_per_epoch",
        "num_val_iterations_per_epoch",
        "initial_lr",
        "save_every",
        "oversample_foreground_percent",
    ):
        assert f"self.{name} =" in source_of("__init__"), f"settings of the plans are written to self.{name}"


def test_train_step_moves_the_target_and_calls_the_loss():
    text = source_of("train_step")
    assert "target = [i.to(self.device, non_blocking=True) for i in target]" in text, "PartialTarget.to stands in for a tensor's"
    assert "self.loss(output, target)" in text


def test_train_step_runs_network_and_loss_within_one_autocast():
    text = source_of("train_step")
    assert "data = data.to(self.device" in text, "a batch that lies on the device already stays there"
    assert text.index("with autocast(") < text.index("output = self.network(data)") < text.index("self.loss(output, target)"), (
        "CoraNet's branches run within the loss"
    )
    assert "clip_grad_norm_(self.network.parameters(), 12)" in text, "CoraNet's branches are clipped at the same norm"


def test_the_loss_is_built_after_network_and_optimizer():
    text = source_of("initialize")
    assert text.index("self.configure_optimizers()") < text.index("self._build_loss()"), "a teacher's trainer wraps the loss last"


def test_validation_step_returns_these_keys():
    returned = source_of("validation_step").rsplit("return", 1)[1]
    assert {key for key in ("loss", "tp_hard", "fp_hard", "fn_hard") if f"'{key}'" in returned} == {
        "loss",
        "tp_hard",
        "fp_hard",
        "fn_hard",
    }
    assert "outputs_collated['tp_hard']" in source_of("on_validation_epoch_end")


def test_batches_carry_keys():
    assert "'keys': selected_keys" in inspect.getsource(data_loader.nnUNetDataLoader.generate_train_batch), (
        "cases are joined to protocols by them"
    )


def test_loader_draws_from_the_dataset_identifiers():
    assert "self.indices = data.identifiers" in inspect.getsource(data_loader.nnUNetDataLoader.__init__), (
        "balanced sampling rests on it"
    )

    class Dataset:
        identifiers = np.array(["a"] * 99 + ["b"])

    class Labels:
        all_labels, has_ignore_label = [0, 1], False

    loader = data_loader.nnUNetDataLoader(Dataset(), 1000, (4, 4, 4), (4, 4, 4), Labels())
    drawn = loader.get_indices()
    assert 0.95 < np.mean([key == "a" for key in drawn]) <= 1


def test_deep_supervision_wrapper():
    wrapper = DeepSupervisionWrapper(lambda output, target: output * target, [0.5, 0.5])
    assert hasattr(wrapper, "loss"), "our loss is put there"
    assert wrapper([torch.tensor(2.0), torch.tensor(4.0)], [1, 2]) == 5, "targets need not be tensors"


def test_datasets_list_their_cases():
    assert callable(nnUNetDatasetBlosc2.get_identifiers)


def test_checkpoint_keys():
    text = source_of("save_checkpoint")
    for key in ("network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes"):
        assert f"'{key}'" in text, f"export and prediction rely on checkpoint['{key}']"


def test_plans_carry_the_continue_flag():
    assert 'plans.pop("continue_training")' in source_of("__init__"), "settings are read from the same dictionary before"
