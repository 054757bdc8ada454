"""From case identifiers to the vote shares of a batch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nnunet_partial.labels import Annotation
from nnunet_partial.targets.confident_labels import confident_classes, level_confidences
from nnunet_partial.targets.partial_target import PartialTarget
from nnunet_partial.targets.soft_target import SoftTarget
from nnunet_partial.targets.tables import ProtocolTables
from nnunet_partial.targets.votes import Votes

NOTHING = -1  # an index of a class or set that is not there


class SoftTables:
    """What each id says in each case: the mean over the case's annotators, each counted by what he or she looked for.

    A case without votes has one annotator, its label map. Cases are worked out when they are first met.

    Args:
        annotation: Label space, protocols and cases of the dataset.
        votes_of: The votes of a case that several annotators drew; None of others.
        confident: Whether label maps of the others may hold pseudo-labels with a confidence (`confident_ids`).
    """

    def __init__(self, annotation: Annotation, votes_of: Callable[[str], Votes | None], *, confident: bool = False):
        self.annotation = annotation
        self._protocol_tables = ProtocolTables(annotation)
        self._votes_of, self._confident = votes_of, confident
        self._cases: dict[str, tuple[Tensor, ...]] = {}
        self._alone: dict[str, tuple[Tensor, ...]] = {}  # by protocol
        self._column = {name: column for column, name in enumerate(annotation.protocols)}
        candidates = self._protocol_tables.tables.numpy()  # (P, L, C)
        size = candidates.sum(2)
        self._single = np.where(size == 1, candidates.argmax(2), NOTHING)  # (P, L): the class an id stands for alone
        several = (size > 1) & (size < annotation.space.num_classes)
        sets, which = np.unique(candidates[several], axis=0, return_inverse=True)
        self._set = np.full(size.shape, NOTHING)  # (P, L): the set of classes it stands for
        self._set[several] = which.reshape(-1)
        self._sets = torch.from_numpy(sets)

    def target(self, labels: Tensor, keys: Sequence[str]) -> SoftTarget:
        """The target of a batch.

        Args:
            labels: Label maps of the batch, the ids of combinations where a case has votes.
            keys: Case identifiers in the order of the batch.
        Shape:
            labels (B, 1, *S); keys B strings.
        Raises:
            KeyError: a case that the annotation does not know.
        """
        tables, set_shares, annotated, _ = map(_stacked, zip(*map(self._case, keys), strict=True))
        said = set_shares.any(1).any(0)  # sets that no case of the batch has cost nothing
        ignore = self.annotation.space.ignore_id
        return SoftTarget(labels, tables, annotated, ignore, set_shares=set_shares[:, :, said], sets=self._sets[said])

    def majority_target(self, labels: Tensor, keys: Sequence[str]) -> PartialTarget:
        """The target that the majority of votes makes, by which predictions are counted right or wrong.

        Shape:
            labels (B, 1, *S); keys B strings.
        """
        majority = _stacked([self._case(key)[3] for key in keys]).to(labels.device)  # (B, L)
        hard = majority.gather(1, labels.flatten(1).long()).view(labels.shape)
        return self._protocol_tables.target(hard, keys)

    def _case(self, key: str) -> tuple[Tensor, ...]:
        key = str(key)
        if key not in self._cases:
            self.annotation.protocol_of(key)  # says in a sentence that there is no such case
            protocol = self.annotation.cases[key].protocol
            votes = self._votes_of(key)
            if votes is not None:
                self._cases[key] = tuple(map(torch.from_numpy, self._rows(votes)))
            else:
                if protocol not in self._alone:
                    self._alone[protocol] = self._single_map(protocol)
                self._cases[key] = self._alone[protocol]
        return self._cases[key]

    def _single_map(self, protocol: str) -> tuple[Tensor, ...]:
        """Of the cases under a protocol that one annotator drew."""
        votes = Votes.unanimous([protocol], self.annotation.num_label_ids)
        rows = self._rows(votes)
        if self._confident:
            rows = self._with_confident_labels(*rows)
        return tuple(map(torch.from_numpy, rows))

    def _with_confident_labels(
        self, tables: np.ndarray, set_shares: np.ndarray, annotated: np.ndarray, majority: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The same with a row for each pseudo-label: its class with its confidence, what label id 0 says with the rest."""
        num_classes = tables.shape[1]
        classes, confidence = confident_classes(num_classes), level_confidences(num_classes)[:, None]
        rows = (1 - confidence) * tables[0]
        rows[np.arange(len(rows)), classes] += confidence[:, 0]
        return (
            np.concatenate([tables, rows]),
            np.concatenate([set_shares, (1 - confidence) * set_shares[0]]),
            np.concatenate([annotated, np.zeros(len(rows), dtype=bool)]),
            np.concatenate([majority, classes.astype(majority.dtype)]),
        )

    def _rows(self, votes: Votes) -> tuple[np.ndarray, ...]:
        """Vote shares (L, C), those on sets (L, G), ids somebody looked for (L,), and the majority's label id (L,)."""
        space = self.annotation.space
        columns = np.array([self._column[name] for name in votes.protocols])
        share = np.float32(1 / len(columns))
        tables = np.zeros((len(votes.ballots), space.num_classes), dtype=np.float32)
        set_shares = np.zeros((len(votes.ballots), len(self._sets)), dtype=np.float32)
        for which, shares in ((self._single, tables), (self._set, set_shares)):
            said = which[columns, votes.ballots]  # (L, A)
            rows, annotators = np.nonzero(said != NOTHING)
            np.add.at(shares, (rows, said[rows, annotators]), share)
        annotated = np.zeros(len(votes.ballots), dtype=bool)
        annotated[: self.annotation.num_label_ids] = self._protocol_tables.annotated.numpy()[columns].any(0)
        return tables, set_shares, annotated, votes.majority(self.annotation.protocols, space)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of different lengths as one, padded with zeros: ids that a case does not have."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
