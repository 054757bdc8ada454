"""What share of a case's annotators says what, counted by hand."""

import numpy as np
import pytest
import torch

from nnunet_partial.labels import Annotation
from nnunet_partial.targets import PartialTarget, ProtocolTables, SoftTables, SoftTarget, Votes, as_soft
from nnunet_partial.targets.partial_target import PartialTarget as Hard

ANNOTATION = Annotation.from_dataset_json(
    {
        "labels": {"background": 0, "liver": 1, "spleen": 2, "kidney": 3},
        "annotation": {
            "protocols": {
                "all": {"labels": {"1": ["liver"], "2": ["spleen"], "3": ["kidney"]}},
                "liver": {"labels": {"1": ["liver"]}},
                "union": {"labels": {"1": ["liver"], "2": ["spleen", "kidney"]}},
                "nothing": {"labels": {}},
            },
            "cases": {
                "one": {"protocol": "liver", "source": "s"},
                "none": {"protocol": "nothing", "source": "s"},
                "agreed": {"protocol": "all", "source": "s", "annotators": {"a": "all", "b": "all"}},
                "mixed": {"protocol": "all", "source": "s", "annotators": {"a": "all", "b": "liver", "c": "union"}},
            },
        },
    }
)
VOTES = {
    "agreed": Votes(("all", "all"), np.array([[0, 0], [1, 1], [2, 2], [3, 3], [0, 1], [1, 2]])),
    "mixed": Votes(("all", "liver", "union"), np.array([[0] * 3, [1] * 3, [2] * 3, [3] * 3, [2, 0, 2], [0, 1, 1]])),
}


def target(*keys: str) -> SoftTarget:
    return SoftTables(ANNOTATION, VOTES.get).target(torch.zeros(len(keys), 1, 1, 1, dtype=torch.int16), keys)


class TestShares:
    def test_two_who_looked_for_everything(self):
        soft = target("agreed")
        expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0]]
        assert soft.tables[0].tolist() == expected
        assert soft.sets.shape == (0, 4)
        assert (soft.known == 1).all()

    def test_who_did_not_look_says_one_of_several(self):
        soft = target("mixed")
        third = pytest.approx(1 / 3)
        sets = [set(row.nonzero()[:, 0].tolist()) for row in soft.sets]
        assert sorted(sets, key=sorted) == [{0, 2, 3}, {2, 3}]
        unlooked, union = sets.index({0, 2, 3}), sets.index({2, 3})
        background, tied, liver = soft.tables[0, 0], soft.tables[0, 4], soft.tables[0, 5]
        assert background.tolist() == [pytest.approx(2 / 3), 0, 0, 0]
        assert tied.tolist() == [0, 0, third, 0]
        assert liver.tolist() == [third, pytest.approx(2 / 3), 0, 0]
        assert soft.set_shares[0, 0, unlooked] == third
        assert soft.set_shares[0, 4].tolist() == [third, third]
        assert soft.set_shares[0, 5].tolist() == [0, 0]
        assert soft.set_shares[0, 2, union] == third
        assert soft.known[0, 0].tolist() == [pytest.approx(2 / 3), pytest.approx(1), pytest.approx(2 / 3), pytest.approx(2 / 3)]

    def test_one_label_map_is_one_annotator(self):
        soft = target("one")
        assert soft.tables[0, 0].tolist() == [0, 0, 0, 0]
        assert soft.sets[soft.set_shares[0, 0].bool()].tolist() == [[True, False, True, True]]
        assert soft.tables[0, 1].tolist() == [0, 1, 0, 0]

    def test_nothing_annotated_says_nothing(self):
        soft = target("none")
        assert soft.tables[0, 0].sum() == 0
        assert soft.sets.shape == (0, 4)

    def test_a_batch_of_unequal_cases_is_padded(self):
        soft = target("one", "mixed")
        assert soft.tables.shape == (2, 6, 4)
        assert soft.tables[0, 4:].sum() == 0
        alone = target("mixed")
        assert (soft.tables[1] == alone.tables[0]).all()

    def test_annotated_where_anybody_looked(self):
        assert target("mixed").annotated[0].tolist() == [False, True, True, True, False, False]
        assert target("one").annotated[0].tolist() == [False, True, False, False]

    def test_unknown_case(self):
        with pytest.raises(KeyError, match="case 'nobody' is not in"):
            target("nobody")


class TestMajority:
    def test_the_label_map_most_would_have_drawn(self):
        labels = torch.tensor([[[[0, 1, 4, 5]]], [[[0, 3, 4, 5]]]], dtype=torch.int16)
        hard = SoftTables(ANNOTATION, VOTES.get).majority_target(labels, ["agreed", "mixed"])
        assert type(hard) is Hard
        assert hard.labels.tolist() == [[[[0, 1, 0, 0]]], [[[0, 3, 2, 1]]]]
        assert (hard.tables == ProtocolTables(ANNOTATION).target(hard.labels, ["agreed", "mixed"]).tables).all()


class TestSoftTarget:
    def test_candidate_tables_are_one_annotator(self):
        hard = ProtocolTables(ANNOTATION).target(torch.zeros(2, 1, 1, 1, dtype=torch.int16), ["one", "agreed"])
        soft = as_soft(hard)
        assert soft.sets.tolist() == [[True, False, True, True]]
        assert soft.set_shares[:, :, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
        assert (soft.tables[1] == torch.eye(4)).all()

    def test_rows_of_probabilities_have_no_sets(self):
        rows = torch.tensor([[[0.75, 0.25]]])
        soft = as_soft(PartialTarget(torch.zeros(1, 1, 1, 1, dtype=torch.int16), rows, torch.zeros(1, 1, dtype=torch.bool)))
        assert soft.sets.shape == (0, 2)
        assert soft.tables is rows
        assert as_soft(soft) is soft

    def test_moves_between_devices_as_a_tensor_does(self):
        moved = target("mixed").to("meta")
        assert moved.tables.device.type == "meta"
        assert moved.sets.device.type == "cpu"

    def test_refusals(self):
        labels, annotated = torch.zeros(1, 1, 1, 1, dtype=torch.int16), torch.zeros(1, 2, dtype=torch.bool)
        with pytest.raises(ValueError, match="soft tables must be floating point"):
            SoftTarget(labels, torch.zeros(1, 2, 3, dtype=torch.bool), annotated)
        with pytest.raises(ValueError, match="needs set_shares and sets"):
            SoftTarget(labels, torch.zeros(1, 2, 3), annotated)
        with pytest.raises(ValueError, match=r"sets must be \(G, C\) and set_shares \(B, L, G\)"):
            SoftTarget(
                labels, torch.zeros(1, 2, 3), annotated, set_shares=torch.zeros(1, 2, 1), sets=torch.zeros(2, 3, dtype=torch.bool)
            )
