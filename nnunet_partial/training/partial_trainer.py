"""The seam to nnU-Net: its trainer, told what was looked for in each case."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import Tensor, nn
from torch import distributed as dist

from nnunet_partial.targets import PartialTarget, ProtocolTables, SoftTables
from nnunet_partial.training.class_curves import ClassCurves
from nnunet_partial.training.online_metrics import annotated_counts
from nnunet_partial.training.planned_trainer import PlannedTrainer
from nnunet_partial.training.precision import host_precision
from nnunet_partial.training.sampling import repeated_identifiers, sampling_probabilities
from nnunet_partial.training.splits import unannotated_anywhere


class PartialTrainer(PlannedTrainer):
    """Base of the trainers that learn from candidate sets; a recipe only says which loss.

    Raises:
        RuntimeError: (in `initialize`) nothing could teach some class in this fold.
    """

    _stage_one = False  # whether the loaders draw from the fully annotated cases alone

    def build_partial_loss(self) -> nn.Module:
        """The loss of one resolution, called as `loss(logits, PartialTarget)`."""
        raise NotImplementedError(f"{type(self).__name__} has to say which loss it trains with")

    def build_tables(self) -> ProtocolTables | SoftTables:
        """What a label id says in each case."""
        return ProtocolTables(self.annotation)

    def judged_target(self, target: PartialTarget, keys: Sequence[str]) -> PartialTarget:
        """The target by which predictions are counted right or wrong during training."""
        return target

    def initialize(self) -> None:
        """The host's set-up, after everything that would make the training pointless has been refused."""
        self._refuse_untrainable_fold()
        self.tables = self.build_tables()
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
            self.finish_workers()
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
        with host_precision(self.device):
            output = self.network(data)
            loss = self.loss(output, target)
        if self.enable_deep_supervision:
            output, target = output[0], target[0]
        counts = annotated_counts(output, self.judged_target(target, batch["keys"])).cpu().numpy()
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
            return self.tables.target(labels, batch["keys"])

        return [wrap(labels) for labels in batch["target"]] if isinstance(batch["target"], list) else wrap(batch["target"])

    def _identifiers_of_stage(self, identifiers: Sequence[str]) -> list[str]:
        self._stage_one = self.current_epoch < self.settings.stage_one_epochs
        return [key for key in identifiers if not self._stage_one or self.annotation.is_fully_annotated(key)]

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
