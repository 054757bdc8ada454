"""The seam to nnU-Net: its trainer, told what was looked for in each case."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn
from torch import distributed as dist

from nnunet_partial.evaluation import evaluate_folder, write_summary
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.targets import PartialTarget, ProtocolTables
from nnunet_partial.training.class_curves import ClassCurves
from nnunet_partial.training.epoch_bar import EpochBar
from nnunet_partial.training.mirroring import allowed_mirror_axes
from nnunet_partial.training.online_metrics import annotated_counts
from nnunet_partial.training.sampling import repeated_identifiers, sampling_probabilities
from nnunet_partial.training.settings import TrainingSettings
from nnunet_partial.training.splits import stratified_splits, unannotated_anywhere


class PlannedTrainer(nnUNetTrainer):
    """nnU-Net's trainer with lengths, mirroring and splits from the plans and the annotation; the loss is still nnU-Net's own.

    Raises:
        LabelError: dataset.json has no annotation block, or one that contradicts itself.
        ValueError: the plans' `partial` block has a setting that does not exist or a value it does not take.
    """

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


class PartialTrainer(PlannedTrainer):
    """Base of the trainers that learn from candidate sets; a recipe only says which loss.

    Raises:
        RuntimeError: (in `initialize`) nothing could teach some class in this fold.
    """

    _stage_one = False  # whether the loaders draw from the fully annotated cases alone

    def build_partial_loss(self) -> nn.Module:
        """The loss of one resolution, called as `loss(logits, PartialTarget)`."""
        raise NotImplementedError(f"{type(self).__name__} has to say which loss it trains with")

    def initialize(self) -> None:
        """The host's set-up, after everything that would make the training pointless has been refused."""
        self._refuse_untrainable_fold()
        self.protocol_tables = ProtocolTables(self.annotation)
        self.class_curves = ClassCurves(self.annotation, self.output_folder)
        super().initialize()

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if isinstance(loss, DeepSupervisionWrapper):
            loss.loss = self.build_partial_loss()
            return loss
        return self.build_partial_loss()

    def get_tr_and_val_datasets(self) -> tuple:
        """The host's datasets; the training identifiers stand as often as their source's share asks."""
        training, validation = super().get_tr_and_val_datasets()
        identifiers = self._identifiers_of_stage(training.identifiers)
        sources = [self.annotation.cases[key].source for key in identifiers]
        training.identifiers = repeated_identifiers(identifiers, sampling_probabilities(sources, self.settings.sampling))
        self._log_annotation(identifiers)
        return training, validation

    def on_train_epoch_start(self) -> None:
        """The host's epoch start; where stage one ends, training goes on with all cases."""
        if self.current_epoch == self.settings.stage_one_epochs and self._stage_one:
            self._finish_workers()
            self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        super().on_train_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict:
        """The host's step, on a target that knows what was looked for."""
        return super().train_step({**batch, "target": self._partial_target(batch)})

    def validation_step(self, batch: dict[str, Any]) -> dict:
        """Loss, and hits and misses where a class was looked for; the host would count every prediction elsewhere as wrong."""
        target = self._partial_target(batch)
        target = [t.to(self.device, non_blocking=True) for t in target] if isinstance(target, list) else target.to(self.device)
        data = batch["data"].to(self.device, non_blocking=True)
        with torch.autocast(self.device.type) if self.device.type == "cuda" else nullcontext():
            output = self.network(data)
            loss = self.loss(output, target)
        if self.enable_deep_supervision:
            output, target = output[0], target[0]
        counts = annotated_counts(output, target).cpu().numpy()
        hits = dict(zip(("tp_hard", "fp_hard", "fn_hard"), counts.sum(1), strict=True))
        return {"loss": loss.detach().cpu().numpy(), **hits, "by_source": self.class_curves.by_source(counts, batch["keys"])}

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """The host's pseudo Dice, then that of each class and source, into files of their own."""
        super().on_validation_epoch_end(val_outputs)
        counts = np.sum([output["by_source"] for output in val_outputs], axis=0)
        if self.is_ddp:
            gathered = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, counts)
            counts = np.sum(gathered, axis=0)
        if self.local_rank == 0:
            self.class_curves.add_epoch(self.current_epoch, counts)
            self.class_curves.draw()

    def _partial_target(self, batch: dict[str, Any]) -> PartialTarget | list[PartialTarget]:
        def wrap(labels: Tensor) -> PartialTarget:
            return self.protocol_tables.target(labels, batch["keys"])

        return [wrap(labels) for labels in batch["target"]] if isinstance(batch["target"], list) else wrap(batch["target"])

    def _identifiers_of_stage(self, identifiers: Sequence[str]) -> list[str]:
        self._stage_one = self.current_epoch < self.settings.stage_one_epochs
        return [key for key in identifiers if not self._stage_one or self.annotation.is_fully_annotated(key)]

    def _finish_workers(self) -> None:
        for loader in (self.dataloader_train, self.dataloader_val):
            if hasattr(loader, "_finish"):  # a single-threaded loader has no workers
                loader._finish()

    def _refuse_untrainable_fold(self) -> None:
        training, _ = self.do_split()
        untaught = unannotated_anywhere(self.annotation, training)
        if untaught:
            raise RuntimeError(
                f"fold {self.fold} of {self.plans_manager.dataset_name} has no training case in which somebody looked for "
                f"{', '.join(untaught)}; leave the class out of the label space, add a source, or mend splits_final.json"
            )
        if self.settings.stage_one_epochs and not any(map(self.annotation.is_fully_annotated, training)):
            raise RuntimeError(
                f"stage_one_epochs is {self.settings.stage_one_epochs}, but fold {self.fold} has no fully annotated training "
                f"case; plan again with --set stage_one_epochs=0"
            )

    def _log_annotation(self, identifiers: Sequence[str]) -> None:
        stage = "fully annotated cases alone" if self._stage_one else "all cases"
        self.print_to_log_file(f"training on {stage} ({len(identifiers)}), sampling over sources: {self.settings.sampling}")
        for name in self.annotation.space.classes:
            found = self.annotation.annotated_cases(name, identifiers)
            self.print_to_log_file(f"  {name}: looked for in {len(found)} training cases")
