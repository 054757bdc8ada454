"""Several annotators' label maps as one, countable by hand."""

import numpy as np
import pytest

from nnunet_partial.dataset_conversion.majority import majority_labels
from nnunet_partial.labels import AnnotationProtocol, LabelError, LabelSpace
from nnunet_partial.targets import Votes, encode_votes
from nnunet_partial.targets import votes as votes_module

SPACE = LabelSpace(classes=("liver", "spleen"))
BOTH = AnnotationProtocol(labels={1: ("liver",), 2: ("spleen",)})
LIVER = AnnotationProtocol(labels={1: ("liver",)})
PROTOCOLS = {"both": BOTH, "liver": LIVER}
NUM_IDS = 3


def cube(*voxels: int) -> np.ndarray:
    return np.array(voxels, dtype=np.uint8).reshape(2, 2, 2)


ANNA, BEN, CLEO = cube(1, 1, 0, 0, 2, 2, 0, 0), cube(1, 0, 1, 0, 2, 2, 0, 0), cube(1, 0, 0, 0, 2, 0, 0, 1)


class TestEncoding:
    def test_three_annotators_of_eight_voxels(self):
        labels, votes = encode_votes([ANNA, BEN, CLEO], ["both"] * 3, NUM_IDS)
        assert labels.dtype == np.int16
        assert votes.ballots[labels].tolist() == [
            [[[1, 1, 1], [0, 0, 1]], [[0, 0, 1], [0, 0, 0]]],
            [[[2, 2, 2], [0, 2, 2]], [[0, 0, 0], [0, 0, 1]]],
        ]

    def test_ids_below_are_unanimous_and_the_rest_is_used(self):
        labels, votes = encode_votes([ANNA, BEN, CLEO], ["both"] * 3, NUM_IDS)
        assert votes.ballots[:NUM_IDS].tolist() == [[0] * 3, [1] * 3, [2] * 3]
        assert set(np.unique(labels)) >= set(range(NUM_IDS, len(votes.ballots)))
        assert len(votes.ballots) == NUM_IDS + 2

    def test_who_said_it_matters_between_protocols_only(self):
        labels, votes = encode_votes([ANNA, BEN], ["both", "both"], NUM_IDS)
        assert labels[0, 0, 1] == labels[0, 1, 0]
        labels, votes = encode_votes([ANNA, BEN], ["liver", "both"], NUM_IDS)
        assert votes.protocols == ("both", "liver")
        assert votes.ballots[labels[0, 0, 1]].tolist() == [0, 1]
        assert votes.ballots[labels[0, 1, 0]].tolist() == [1, 0]

    def test_one_annotator_is_the_map(self):
        labels, votes = encode_votes([ANNA], ["both"], NUM_IDS)
        assert (labels == ANNA).all()
        assert len(votes.ballots) == NUM_IDS

    def test_twenty_annotators_who_never_agree(self):
        rng = np.random.default_rng(0)
        maps = [rng.integers(0, 3, (6, 5, 4)).astype(np.uint8) for _ in range(20)]
        labels, votes = encode_votes(maps, ["both"] * 20, NUM_IDS)
        assert (votes.ballots[labels] == np.sort(np.stack(maps, -1), -1)).all()

    def test_round_trip_on_disk(self, tmp_path):
        _, votes = encode_votes([ANNA, BEN, CLEO], ["both", "liver", "both"], NUM_IDS)
        votes.write(tmp_path / "case.json")
        read = Votes.read(tmp_path / "case.json")
        assert read.protocols == votes.protocols
        assert (read.ballots == votes.ballots).all()

    def test_refusals(self, monkeypatch):
        with pytest.raises(LabelError, match=r"different shapes: \(1, 2, 2\), \(2, 2, 2\)"):
            encode_votes([ANNA, BEN[:1]], ["both"] * 2, NUM_IDS)
        with pytest.raises(LabelError, match=r"ids from 0 to 2, known are 0..1"):
            encode_votes([ANNA, BEN], ["liver"] * 2, 2)
        monkeypatch.setattr(votes_module, "LARGEST_ID", 3)
        with pytest.raises(LabelError, match=r"in 2 different ways, of which .* can hold 1; leave annotators out"):
            encode_votes([ANNA, BEN, CLEO], ["both"] * 3, NUM_IDS)


class TestMajority:
    def test_more_than_half(self):
        votes = Votes(("both",) * 4, np.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 2, 2], [2, 2, 2, 1], [0, 0, 0, 2]]))
        assert votes.majority(PROTOCOLS, SPACE).tolist() == [0, 1, 0, 2, 0]

    def test_counts_only_those_who_looked(self):
        """One of two who looked for the spleen is no majority; the only one who did is."""
        votes = Votes(("both", "both", "liver"), np.array([[0, 2, 0], [2, 2, 0], [1, 2, 1], [1, 1, 0]]))
        assert votes.majority(PROTOCOLS, SPACE).tolist() == [0, 2, 1, 1]
        votes = Votes(("both", "liver", "liver"), np.array([[2, 0, 0], [2, 1, 1], [2, 0, 1]]))
        assert votes.majority(PROTOCOLS, SPACE).tolist() == [2, 2, 2]

    def test_is_what_conversion_calls_the_majority(self):
        """Of random maps, each with the ids of its own protocol alone: voxel by voxel the rule of `majority_labels`."""
        rng = np.random.default_rng(1)
        names = ["both", "liver", "both", "both", "liver"]
        maps = [rng.integers(0, 3 if name == "both" else 2, (7, 6, 5)).astype(np.uint8) for name in names]
        labels, votes = encode_votes(maps, names, NUM_IDS)
        expected = majority_labels(maps, [PROTOCOLS[name] for name in names])
        assert (votes.majority(PROTOCOLS, SPACE)[labels] == expected).all()

    def test_unanimous_ids_stay(self):
        votes = Votes.unanimous(["both", "liver"], 4)
        space = LabelSpace(classes=("liver", "spleen"), has_ignore=True)
        assert votes.majority(PROTOCOLS, space).tolist() == [0, 1, 2, 3]
