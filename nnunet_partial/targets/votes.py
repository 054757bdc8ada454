"""The label maps of several annotators as one label map, each combination of votes an id of its own.

As a label map the votes ride through nnU-Net's augmentation, patches and deep supervision like any segmentation; what an id
stands for lies in a short table beside it. Ids below the number of label ids mean that all annotators drew that id; what they
did not agree on has the ids behind. Who of several annotators under one protocol said what is not kept: it makes no difference to
a mean, and twenty annotators at one boundary then need 19 ids in place of a million.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_partial.labels import AnnotationProtocol, LabelError, LabelSpace, write_json

VOTES_PARTS = ("_seg.b2nd", ".json", ".pkl")  # of a case: label map, its votes, nnU-Net's properties; the last says it is whole
LARGEST_ID = np.iinfo(np.int16).max  # nnU-Net's loader keeps label maps in int16


def votes_folder(cases: Path) -> Path:
    """Where the votes on preprocessed cases lie: beside their folder, in which nnU-Net wants its own files alone."""
    return cases.with_name(f"{cases.name}_votes")


@dataclass(frozen=True)
class Votes:
    """What the annotators of one case said, by id of the label map that holds all their votes.

    Attributes:
        protocols: The annotation protocol of each annotator, in the order of the columns.
        ballots: (N, A) label ids; row i is what the annotators drew where the label map has id i.
    """

    protocols: tuple[str, ...]
    ballots: np.ndarray

    @classmethod
    def unanimous(cls, protocols: Sequence[str], num_label_ids: int) -> "Votes":
        """Annotators who agree everywhere, or one alone."""
        ids = np.arange(num_label_ids, dtype=np.int16)
        return cls(tuple(protocols), np.repeat(ids[:, None], len(protocols), axis=1))

    def majority(self, protocols: dict[str, AnnotationProtocol], space: LabelSpace) -> np.ndarray:
        """The label id that more than half of those voted for who looked for it; background where there is none.

        Where unequal protocols let several ids pass, the one with the larger share wins, then the smaller id.

        Shape:
            returns (N,) int16.
        """
        voted = np.unique(self.ballots)
        winner, best = np.zeros(len(self.ballots), dtype=np.int16), np.full(len(self.ballots), 0.5)
        for number in voted[voted > 0]:
            looked = np.array([number in protocols[name].labels or number == space.ignore_id for name in self.protocols])
            votes = (self.ballots == number).sum(1)
            share = votes / max(1, looked.sum()) if looked.any() else np.where(votes == len(looked), 1.0, 0.0)
            better = share > best
            winner[better], best[better] = number, share[better]
        return winner

    def write(self, path: Path) -> None:
        """Write the votes as JSON."""
        write_json({"protocols": list(self.protocols), "ballots": self.ballots.tolist()}, path)

    @classmethod
    def read(cls, path: Path) -> "Votes":
        """Read what `write` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        ballots = np.array(content["ballots"], dtype=np.int16).reshape(-1, len(content["protocols"]))
        return cls(tuple(content["protocols"]), ballots)


def encode_votes(maps: Sequence[np.ndarray], protocols: Sequence[str], num_label_ids: int) -> tuple[np.ndarray, Votes]:
    """One label map of the combinations of votes.

    Args:
        maps: The label map of each annotator, all on one grid.
        protocols: The annotation protocol of each.
        num_label_ids: L, one more than the largest label id of the dataset.
    Shape:
        maps A arrays (*S) of integers; returns (*S) int16 and the votes.
    Raises:
        LabelError: maps of different shapes, an id outside 0..L-1, or more combinations than nnU-Net's label maps can tell apart.
    """
    _check(maps, num_label_ids)
    order = sorted(range(len(maps)), key=lambda column: protocols[column])
    maps, protocols = [maps[column] for column in order], [protocols[column] for column in order]
    first = maps[0]
    differs = np.zeros(first.shape, dtype=bool)
    for other in maps[1:]:
        differs |= other != first
    ballots = np.stack([drawn[differs] for drawn in maps], axis=1).astype(np.int16)  # (n, A)
    columns = np.array(protocols)
    for name in set(protocols):
        ballots[:, columns == name] = np.sort(ballots[:, columns == name], axis=1)
    combinations, which = np.unique(ballots, axis=0, return_inverse=True)
    if num_label_ids + len(combinations) > LARGEST_ID + 1:
        raise LabelError(
            f"{len(maps)} annotators voted in {len(combinations)} different ways, of which a label map of nnU-Net can hold "
            f"{LARGEST_ID + 1 - num_label_ids}; leave annotators out"
        )
    encoded = first.astype(np.int16)
    encoded[differs] = num_label_ids + which.reshape(-1)
    known = Votes.unanimous(protocols, num_label_ids)
    return encoded, Votes(known.protocols, np.concatenate([known.ballots, combinations]))


def _check(maps: Sequence[np.ndarray], num_label_ids: int) -> None:
    shapes = {drawn.shape for drawn in maps}
    if len(shapes) > 1:
        raise LabelError(f"the annotators' label maps have different shapes: {', '.join(map(str, sorted(shapes)))}")
    for drawn in maps:
        if drawn.size and not 0 <= drawn.min() <= drawn.max() < num_label_ids:
            found = f"{drawn.min()} to {drawn.max()}"
            raise LabelError(f"an annotator's label map has ids from {found}, known are 0..{num_label_ids - 1}")
