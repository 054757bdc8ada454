"""Soft labels: several annotators, calibrated predictions (Silva & Oliveira 2021)."""

from pathlib import Path
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from torch import nn

from nnunet_partial.losses import SoftLabelLoss
from nnunet_partial.targets import PartialTarget, ProtocolTables, SoftTables, Votes, pooled_targets
from nnunet_partial.targets.votes import votes_folder
from nnunet_partial.training.fine_tuning import OverlaidDataset
from nnunet_partial.training.partial_trainer import PartialTrainer


class nnUNetTrainerMajorityLabels(PartialTrainer):
    """Cross entropy on the one label map of each case: what soft labels are held against.

    It differs from `nnUNetTrainerSoftLabels` in the labels alone; those of coarse resolutions are the nearest voxel's, as in
    nnU-Net. Unannotated organs are treated as by the marginal loss. In pseudo-label rounds it can learn each label with its
    confidence (`nnunet_partial rounds --soft`).
    """

    takes_soft_labels = True

    def build_partial_loss(self) -> nn.Module:
        """Cross entropy; a Dice term where the plans give it a weight."""
        return SoftLabelLoss(
            batch_dice=self.configuration_manager.batch_dice, ddp=self.is_ddp, weight_dice=self.settings.weight_soft_dice
        )

    def build_tables(self) -> ProtocolTables | SoftTables:
        """What label ids say; shares, where pseudo-labels keep their confidence."""
        return self._soft_tables() if self._learns_confident_labels else super().build_tables()

    def judged_target(self, target: PartialTarget, keys: list[str]) -> PartialTarget:
        """Of shares, the majority's."""
        if not isinstance(self.tables, SoftTables):
            return target
        return self.tables.majority_target(target.labels, keys).to(self.device)

    @property
    def _learns_confident_labels(self) -> bool:
        return self.fine_tuning is not None and self.fine_tuning.confident

    def _soft_tables(self) -> SoftTables:
        return SoftTables(self.annotation, self._votes_of, confident=self._learns_confident_labels)

    def _votes_of(self, key: str) -> Votes | None:
        """None: every case has the one label map."""

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> BasicTransform:
        """The host's; label maps are turned and scaled by the nearest voxel, since their ids are hundreds and mean no order."""
        transforms = PartialTrainer.get_training_transforms(*args, **kwargs)
        for transform in transforms.transforms:
            if isinstance(transform, SpatialTransform):
                transform.mode_seg = "nearest"
        return transforms


class nnUNetTrainerSoftLabels(nnUNetTrainerMajorityLabels):
    """Cross entropy with the share of annotators who said each class (Silva & Oliveira 2021, section 3.2).

    Cases that one annotator drew train beside the others. Final validation and pseudo Dice hold predictions against the majority.

    Raises:
        RuntimeError: (in `initialize`) no training case of the fold has several annotators, or their votes are not preprocessed.
    """

    def initialize(self) -> None:
        """The set-up of every trainer, after a fold without votes has been refused."""
        self._votes_folder = votes_folder(Path(self.preprocessed_dataset_folder))
        self._refuse_without_votes()
        super().initialize()

    def build_tables(self) -> SoftTables:
        """Shares of votes by case and id; pseudo-labels are added to cases that one annotator drew alone."""
        return self._soft_tables()

    def get_tr_and_val_datasets(self) -> tuple:
        """The datasets of every trainer; the label maps of votes stand in for those of the majority."""
        datasets = tuple(OverlaidDataset(dataset, self._votes_folder) for dataset in super().get_tr_and_val_datasets())
        training, validation = (len(dataset.overlaid) for dataset in datasets)
        self.print_to_log_file(f"drawn by several annotators: {training} training and {validation} validation cases")
        return datasets

    def _partial_target(self, batch: dict[str, Any]) -> PartialTarget | list[PartialTarget]:
        """With deep supervision the means of the shares on coarser resolutions, where the host takes the nearest voxel."""
        if not isinstance(batch["target"], list):
            return super()._partial_target(batch)
        labels, *coarse = batch["target"]
        full = super()._partial_target({**batch, "target": labels}).to(self.device, non_blocking=True)
        return [full, *pooled_targets(full, [labels.shape[2:] for labels in coarse])]

    def _votes_of(self, key: str) -> Votes | None:
        annotators = self.annotation.cases[key].annotators
        if not annotators:
            return None
        votes = Votes.read(self._votes_folder / f"{key}.json")
        if sorted(annotators.values()) != list(votes.protocols):
            raise RuntimeError(f"case '{key}': its annotators have changed since preprocessing; {self._plan_again}")
        return votes

    def _refuse_without_votes(self) -> None:
        drawn = [key for key, case in self.annotation.cases.items() if case.annotators]
        training = set(self.do_split()[0])
        if not training & set(drawn):
            raise RuntimeError(
                f"fold {self.fold} of {self.plans_manager.dataset_name} has no training case that several annotators drew; "
                f"nnUNetTrainerMajorityLabels trains on single label maps"
            )
        missing = [key for key in drawn if not (self._votes_folder / f"{key}.pkl").exists()]
        if missing:
            raise RuntimeError(
                f"the votes on {len(missing)} of {len(drawn)} cases that several annotators drew are not in "
                f"{self._votes_folder}, such as case '{missing[0]}'; {self._plan_again}"
            )

    @property
    def _plan_again(self) -> str:
        return f"run `nnunet_partial plan -d {self.plans_manager.dataset_name} -c {self.configuration_name}`"
