"""nnU-Net's trainer with the plans' settings: lengths, mirroring, splits, whole checkpoints, judging what was looked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.losses.log_odds import softmax_log_odds
from nnunet_partial.training.epoch_bar import EpochBar
from nnunet_partial.training.fine_tuning import FineTuning, OverlaidDataset, load_weights
from nnunet_partial.training.mirroring import allowed_mirror_axes
from nnunet_partial.training.settings import TrainingSettings
from nnunet_partial.training.splits import stratified_splits


class PlannedTrainer(nnUNetTrainer):
    """nnU-Net's trainer with lengths, mirroring and splits from the plans and the annotation; the loss is still nnU-Net's own.

    Raises:
        LabelError: dataset.json has no annotation block, or one that contradicts itself.
        ValueError: the plans' `partial` block has a setting that does not exist or a value it does not take.
    """

    log_odds = staticmethod(softmax_log_odds)  # how sure the network is of each class; a loss on other probabilities says so
    takes_soft_labels = False  # whether the loss is defined where annotators differ, or a pseudo-label is not certain
    has_branches = False  # whether a conservative and a radical branch learn beside the network, see `branch_copy`
    fine_tuning: FineTuning | None = None

    def __init__(
        self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device = torch.device("cuda")
    ):
        self.annotation = Annotation.from_dataset_json(dataset_json)
        self.settings = TrainingSettings.from_plans(plans)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.settings.num_epochs
        self.num_iterations_per_epoch = self.settings.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = self.settings.num_val_iterations_per_epoch
        self.initial_lr = self.settings.initial_lr
        self.save_every = self.settings.save_every
        self.oversample_foreground_percent = self.settings.oversample_foreground_percent
        self.epoch_bar = EpochBar()

    def fine_tune(self, fine_tuning: FineTuning) -> None:
        """Make this a training that goes on from another one; to be said before `initialize`."""
        self.fine_tuning = fine_tuning
        self.settings = self.settings.model_copy(update={"stage_one_epochs": 0, "num_epochs": fine_tuning.num_epochs})
        self.num_epochs, self.initial_lr = fine_tuning.num_epochs, fine_tuning.initial_lr
        fine_tuning.output_folder.mkdir(parents=True, exist_ok=True)
        self.output_folder = str(fine_tuning.output_folder)
        self.log_file = str(Path(self.log_file).replace(fine_tuning.output_folder / Path(self.log_file).name))

    def initialize(self) -> None:
        """The host's set-up; a fine-tuning then takes over the weights it goes on from."""
        super().initialize()
        if self.fine_tuning is not None:
            load_weights(self.network, self.fine_tuning.initial_checkpoint)

    def get_tr_and_val_datasets(self) -> tuple:
        """The host's datasets; a fine-tuning trains on its own label maps and validates on the host's."""
        training, validation = super().get_tr_and_val_datasets()
        if self.fine_tuning is not None and self.fine_tuning.labels is not None:
            training = OverlaidDataset(training, self.fine_tuning.labels)
            self.print_to_log_file(f"pseudo-labels in {len(training.overlaid)} of {len(training.identifiers)} training cases")
        return training, validation

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:
        """The host's choice, without the mirroring that would make a left kidney a right one."""
        *others, mirror_axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        allowed = allowed_mirror_axes(
            mirror_axes, self.plans_manager.transpose_forward, self.annotation.space, self.settings.mirroring
        )
        if allowed != tuple(mirror_axes):
            pairs = ", ".join("/".join(pair) for pair in self.annotation.space.left_right_pairs())
            self.print_to_log_file(
                f"mirroring along axes {allowed} of {tuple(mirror_axes)} only (left/right pairs: {pairs or 'none'})"
            )
        self.inference_allowed_mirroring_axes = allowed  # goes into the checkpoint; the stock predictor obeys it
        return (*others, allowed)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """The host's optimiser and schedule, or AdamW on the host's schedule where the settings ask for it."""
        if self.settings.optimizer == "sgd":
            return super().configure_optimizers()
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def do_split(self) -> tuple[list[str], list[str]]:
        """The host's split, from a splits file that is stratified by protocol and source."""
        splits_file = Path(self.preprocessed_dataset_folder_base) / "splits_final.json"
        if self.fold != "all" and not splits_file.exists():
            write_json(stratified_splits(self.annotation, self._preprocessed_cases()), splits_file)
        return super().do_split()

    def on_train_epoch_start(self) -> None:
        """The host's epoch start; on a terminal, a progress bar."""
        super().on_train_epoch_start()
        if self.local_rank == 0:
            self.epoch_bar.open(self.current_epoch, self.num_epochs, self.num_iterations_per_epoch)

    def train_step(self, batch: dict[str, Any]) -> dict:
        """The host's step."""
        outputs = super().train_step(batch)
        self.epoch_bar.advance()
        return outputs

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """The host's epoch end, without the bar."""
        self.epoch_bar.close()
        super().on_train_epoch_end(train_outputs)

    def finish_workers(self) -> None:
        """End the augmentation workers; a single-threaded loader has none."""
        for loader in (self.dataloader_train, self.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()

    def save_checkpoint(self, filename: str) -> None:
        """Write the host's checkpoint under a temporary name, then rename it: a kill leaves the one before."""
        super().save_checkpoint(f"{filename}.tmp")
        if self.local_rank == 0 and not self.disable_checkpointing:
            Path(f"{filename}.tmp").replace(filename)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """The host's validation, then its summary.json again over the classes that each case's annotator looked for."""
        super().perform_actual_validation(save_probabilities)
        if self.local_rank == 0:
            self._summarise_annotated_classes(Path(self.output_folder) / "validation")

    def _summarise_annotated_classes(self, folder: Path) -> None:
        references = Path(self.preprocessed_dataset_folder_base) / "gt_segmentations"
        summary = evaluate_folder(references, folder, self.annotation, self.dataset_json["file_ending"])
        write_summary(summary, folder / "summary.json")
        for number, name in enumerate(self.annotation.space.classes, 1):
            self.print_to_log_file(f"Validation Dice over annotated cases, {name}: {summary['mean'][number]['Dice']:.4f}")
            self.logger.log_summary(f"final_val/class_{number}_dice", summary["mean"][number]["Dice"])
        self.print_to_log_file(f"Mean Validation Dice over annotated classes: {summary['foreground_mean']['Dice']:.4f}")
        self.logger.log_summary("final_val/foreground_dice", summary["foreground_mean"]["Dice"])

    def _preprocessed_cases(self) -> Sequence[str]:
        return infer_dataset_class(self.preprocessed_dataset_folder).get_identifiers(self.preprocessed_dataset_folder)
