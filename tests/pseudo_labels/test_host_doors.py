"""The doors of nnU-Net's that rounds go through beside those of `tests/training/test_host_contract.py`."""

import inspect

import numpy as np
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run import run_training
from nnunetv2.training.dataloading import data_loader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def names_of(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_trainers_are_made_and_continued_by_the_host():
    assert names_of(run_training.get_trainer_from_args) == [
        "dataset_name_or_id",
        "configuration",
        "fold",
        "trainer_name",
        "plans_identifier",
        "continue_training",
        "device",
    ]
    assert names_of(run_training.maybe_load_checkpoint)[:3] == ["nnunet_trainer", "continue_training", "validation_only"]
    text = inspect.getsource(run_training.maybe_load_checkpoint)
    assert "join(nnunet_trainer.output_folder, 'checkpoint_final.pth')" in text, "a round is resumed from its own folder"


def test_everything_a_training_writes_follows_the_output_folder():
    text = inspect.getsource(nnUNetTrainer)
    assert "join(self.output_folder, 'validation')" in text, "a round's validation lies in its own folder"
    assert 'join(self.output_folder, "checkpoint_final.pth")' in text
    assert "self.log_file = join(self.output_folder" in text, "fine-tuning moves the log"


def test_the_loader_asks_the_dataset_for_cases():
    text = inspect.getsource(data_loader.nnUNetDataLoader.generate_train_batch)
    assert "data, seg, seg_prev, properties = self._data.load_case(i)" in text, "pseudo-labels stand in for labels there"
    assert "properties['class_locations']" in text, "pseudo-labels are found by them"
    assert names_of(nnUNetDatasetBlosc2.load_case) == ["self", "identifier"]


def test_class_locations_are_by_label_id_with_the_channel_first():
    labels = np.zeros((1, 3, 3, 3), np.int16)
    labels[0, 1, 2, 0] = 2
    found = DefaultPreprocessor._sample_foreground_locations(labels, [1, 2])
    assert found[2].tolist() == [[0, 1, 2, 0]]
    assert len(found[1]) == 0


def test_sliding_window():
    assert names_of(compute_gaussian)[:4] == ["tile_size", "sigma_scale", "value_scaling_factor", "dtype"]
    assert compute_steps_for_sliding_window((110,), (64,), 0.5) == [[0, 23, 46]]


def test_pieces_of_an_array_on_disk():
    assert names_of(comp_blosc2_params)[:3] == ["image_size", "patch_size", "bytes_per_pixel"]
