"""From case identifiers to the candidate tables of a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnunet_partial.labels import Annotation
from nnunet_partial.targets.partial_target import PartialTarget


class ProtocolTables:
    """The candidate tables of all protocols of a dataset, stacked once; a batch picks its rows by case.

    Args:
        annotation: Label space, protocols and cases of the dataset.

    Attributes:
        tables: (P, L, C) bool, the candidate table of every protocol.
        annotated: (P, L) bool, the ids that were looked for under it.
    """

    def __init__(self, annotation: Annotation):
        self.annotation = annotation
        space, num_label_ids = annotation.space, annotation.num_label_ids
        self._row = {name: row for row, name in enumerate(annotation.protocols)}
        tables = np.zeros((len(self._row), num_label_ids, space.num_classes), dtype=bool)
        annotated = np.zeros((len(self._row), num_label_ids), dtype=bool)
        for name, row in self._row.items():
            protocol = annotation.protocols[name]
            own = protocol.num_label_ids(space)
            tables[row, :own] = protocol.candidate_table(space)
            annotated[row, :own] = protocol.annotated_ids(space)
        self.tables, self.annotated = torch.from_numpy(tables), torch.from_numpy(annotated)

    def target(self, labels: Tensor, keys: Sequence[str]) -> PartialTarget:
        """The target of a batch.

        Args:
            labels: Label maps of the batch.
            keys: Case identifiers in the order of the batch.
        Shape:
            labels (B, 1, *S); keys B strings.
        Raises:
            KeyError: a case that the annotation does not know.
        """
        rows = torch.tensor([self._row[self.annotation.cases[key].protocol] for key in map(self._known, keys)])
        return PartialTarget(labels, self.tables[rows], self.annotated[rows], self.annotation.space.ignore_id)

    def _known(self, key: str) -> str:
        self.annotation.protocol_of(key)
        return str(key)
