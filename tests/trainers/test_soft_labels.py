"""Trainers on soft and on majority labels, through nnU-Net's own entry points."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from phantom_dataset import offered_copy

from nnunet_partial.targets import PartialTarget, SoftTarget, Votes
from nnunet_partial.targets.ambiguity import by_voxel
from nnunet_partial.trainers import nnUNetTrainerMajorityLabels, nnUNetTrainerSoftLabels

DATASET = "Dataset702_Readers"
CPU = torch.device("cpu")


@pytest.fixture
def root(annotators_dataset, tmp_path, monkeypatch) -> Path:
    """A copy of the planned dataset, with our trainers offered to nnU-Net."""
    torch.manual_seed(0)
    np.random.seed(0)
    return offered_copy(annotators_dataset, tmp_path, monkeypatch)


@pytest.fixture
def votes(root) -> Path:
    return root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans_3d_fullres_votes"


def trainer_of(cls, root: Path, change=lambda dataset_json: None, **settings):
    folder = root / "nnUNet_preprocessed" / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    plans["partial"] |= settings
    change(dataset_json)
    return cls({**plans, "continue_training": False}, "3d_fullres", 0, dataset_json, CPU)


class TestTarget:
    def batch(self, trainer, key: str, split: str = "training") -> dict:
        """The whole label map of a case as a batch."""
        trainer.initialize()
        datasets = dict(zip(("training", "validation"), trainer.get_tr_and_val_datasets(), strict=True))
        labels = datasets[split].load_case(key)[1][:].clip(0)
        return {"target": torch.from_numpy(labels.astype(np.int16))[None], "keys": [key]}

    def test_is_the_share_of_those_who_said_it(self, root, votes):
        trainer = trainer_of(nnUNetTrainerSoftLabels, root)
        key = next(key for key in trainer.do_split()[0] if key.startswith("full"))
        batch = self.batch(trainer, key)
        target = trainer._partial_target(batch)
        assert isinstance(target, SoftTarget)
        labels = batch["target"][0, 0].long()
        drawn = Votes.read(votes / f"{key}.json").ballots[labels]  # (z, y, x, 3): full, full, liver
        liver = torch.from_numpy((drawn == 1).mean(-1))
        assert torch.allclose(target.tables[0][labels][..., 1].double(), liver)
        assert set(liver.unique().mul(3).round().int().tolist()) == {0, 1, 2, 3}
        kidney = torch.from_numpy((drawn[..., :2] == 2).sum(-1) / 3)
        assert torch.allclose(target.tables[0][labels][..., 2].double(), kidney)
        knows = target.known[0][labels][..., 2]  # Cleo's word counts where she drew the liver alone
        assert torch.allclose(knows, torch.where(labels.new_tensor(drawn[..., 2]) == 1, 1.0, 2 / 3))

    def test_majority_is_held_against_predictions(self, root):
        trainer = trainer_of(nnUNetTrainerSoftLabels, root)
        key = next(key for key in trainer.do_split()[0] if key.startswith("full"))
        batch = self.batch(trainer, key)
        judged = trainer.judged_target(trainer._partial_target(batch), batch["keys"])
        assert type(judged) is PartialTarget
        assert judged.labels.max() <= 3
        majority = self.batch(trainer_of(nnUNetTrainerMajorityLabels, root), key)["target"]
        assert 0 < (judged.labels != majority).float().mean() < 0.1  # labelsTr is Anna's map here

    def test_cases_with_one_label_map_stay_as_they_are(self, root):
        soft, hard = (trainer_of(cls, root) for cls in (nnUNetTrainerSoftLabels, nnUNetTrainerMajorityLabels))
        key = next(key for key in soft.do_split()[0] if key.startswith("kidney"))
        assert (self.batch(soft, key)["target"] == self.batch(hard, key)["target"]).all()

    def test_label_maps_of_votes_are_turned_by_the_nearest_voxel(self, root):
        trainer = trainer_of(nnUNetTrainerSoftLabels, root)
        arguments = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        transforms = trainer.get_training_transforms(
            trainer.configuration_manager.patch_size, arguments[0], None, arguments[3], arguments[1], use_mask_for_norm=[False]
        )
        (spatial,) = (transform for transform in transforms.transforms if isinstance(transform, SpatialTransform))
        assert spatial.mode_seg == "nearest"

    def test_coarse_resolutions_have_the_mean_of_shares(self, root):
        trainer = trainer_of(nnUNetTrainerSoftLabels, root)
        key = next(key for key in trainer.do_split()[0] if key.startswith("full"))
        batch = self.batch(trainer, key)
        labels = batch["target"]
        full, half, quarter = trainer._partial_target(
            {**batch, "target": [labels, labels[..., ::2, ::2, ::2], labels[..., ::4, ::4, ::4]]}
        )
        shares = by_voxel(full.tables, full)
        for pooled, size in ((half, 2), (quarter, 4)):
            assert torch.allclose(by_voxel(pooled.tables, pooled), torch.nn.functional.avg_pool3d(shares, size))
            assert pooled.sets is full.sets

    def test_dice_is_an_option(self, root):
        assert trainer_of(nnUNetTrainerSoftLabels, root).settings.weight_soft_dice == 0
        trainer = trainer_of(nnUNetTrainerSoftLabels, root, weight_soft_dice=0.5)
        assert trainer.build_partial_loss().weight_dice == 0.5


@pytest.mark.slow
class TestTraining:
    @pytest.mark.parametrize("trainer", ["nnUNetTrainerSoftLabels", "nnUNetTrainerMajorityLabels"])
    @pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
    def test_trains_resumes_and_the_stock_predictor_runs_it(self, root, trainer, configuration, tmp_path, monkeypatch):
        def die(self):
            if self.current_epoch == 1:
                raise KeyboardInterrupt
            nnUNetTrainer.on_epoch_start(self)

        with monkeypatch.context() as patch:
            patch.setattr(nnUNetTrainerMajorityLabels, "on_epoch_start", die)
            with pytest.raises(KeyboardInterrupt):
                run_training("702", configuration, 0, trainer, device=CPU)
        run_training("702", configuration, 0, trainer, continue_training=True, device=CPU)
        folder = root / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{configuration}" / "fold_0"
        checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
        assert np.isfinite(checkpoint["logging"]["train_losses"]).all()
        predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder.parent), (0,))
        image = root / "nnUNet_raw" / DATASET / "imagesTr" / "full_00_0000.nii.gz"
        one = {"num_processes_preprocessing": 1, "num_processes_segmentation_export": 1}
        predictor.predict_from_files([[str(image)]], [str(tmp_path / "full_00")], save_probabilities=True, **one)
        assert np.load(tmp_path / "full_00.npz")["probabilities"].shape == (4, 24, 24, 24)

    def test_the_loss_falls(self, root):
        trainer = trainer_of(nnUNetTrainerSoftLabels, root, optimizer="adamw", initial_lr=3e-3)
        trainer.on_train_start()
        batch = next(trainer.dataloader_train)
        losses = [float(trainer.train_step(batch)["loss"]) for _ in range(40)]
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


class TestRefusals:
    def test_votes_that_are_not_preprocessed(self, root, votes):
        (votes / "full_03.pkl").unlink()
        with pytest.raises(RuntimeError, match=r"1 of 3 cases .*'full_03'; run `nnunet_partial plan -d Dataset702_Readers"):
            trainer_of(nnUNetTrainerSoftLabels, root).initialize()

    def test_a_fold_without_votes(self, root):
        def forget(dataset_json):
            for case in dataset_json["annotation"]["cases"].values():
                case.pop("annotators", None)

        with pytest.raises(RuntimeError, match="no training case that several annotators drew; nnUNetTrainerMajorityLabels"):
            trainer_of(nnUNetTrainerSoftLabels, root, forget).initialize()

    def test_annotators_who_changed_since_preprocessing(self, root):
        def change(dataset_json):
            for case in dataset_json["annotation"]["cases"].values():
                if case.get("annotators"):
                    case["annotators"] = {"anna": "full", "ben": "full"}

        trainer = trainer_of(nnUNetTrainerSoftLabels, root, change)
        trainer.initialize()
        with pytest.raises(RuntimeError, match="its annotators have changed since preprocessing; run `nnunet_partial plan"):
            trainer.tables.target(torch.zeros(1, 1, 1, 1, 1, dtype=torch.int16), ["full_00"])
