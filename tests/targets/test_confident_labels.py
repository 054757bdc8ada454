"""Pseudo-labels that keep their confidence, counted by hand."""

import numpy as np
import pytest
import torch

from nnunet_partial.labels import Annotation
from nnunet_partial.targets import SoftTables
from nnunet_partial.targets.confident_labels import LEVELS, confident_classes, confident_ids, level_confidences

ANNOTATION = Annotation.from_dataset_json(
    {
        "labels": {"background": 0, "liver": 1, "spleen": 2},
        "annotation": {
            "protocols": {"liver": {"labels": {"1": ["liver"]}}, "nothing": {"labels": {}}},
            "cases": {"one": {"protocol": "liver", "source": "s"}, "none": {"protocol": "nothing", "source": "s"}},
        },
    }
)
NUM_IDS = 3


class TestIds:
    def test_ten_levels_behind_the_dataset_s_ids(self):
        ids = confident_ids(np.array([1, 1, 1, 2, 2]), np.array([0.0, 0.73, 1.0, 0.1, 0.099]), NUM_IDS)
        assert ids.dtype == np.int16
        assert ids.tolist() == [3, 10, 12, 14, 13]

    @pytest.mark.parametrize("confidence", [0.05, 0.5, 0.999])
    def test_an_id_tells_its_class_and_level(self, confidence):
        (number,) = confident_ids(np.array([2]), np.array([confidence]), NUM_IDS) - NUM_IDS
        assert confident_classes(3)[number] == 2
        assert abs(level_confidences(3)[number] - confidence) <= 0.5 / LEVELS + 1e-6


class TestShares:
    def target(self, key: str, number: int):
        tables = SoftTables(ANNOTATION, lambda _: None, confident=True)
        return tables.target(torch.full((1, 1, 1, 1), number), [key])

    def test_the_class_with_its_confidence_and_what_the_human_label_says_with_the_rest(self):
        number = NUM_IDS + LEVELS + 7  # spleen, confidence 0.75
        target = self.target("one", number)
        assert target.tables[0, number].tolist() == pytest.approx([0, 0, 0.75])
        assert target.sets.tolist() == [[True, False, True]]
        assert target.set_shares[0, number].tolist() == pytest.approx([0.25])

    def test_where_nobody_looked_for_anything_the_rest_says_nothing(self):
        number = NUM_IDS + 9  # liver, confidence 0.95
        target = self.target("none", number)
        assert target.tables[0, number].tolist() == pytest.approx([0, 0.95, 0])
        assert target.sets.shape == (0, 3)

    def test_the_majority_is_its_class(self):
        tables = SoftTables(ANNOTATION, lambda _: None, confident=True)
        labels = torch.tensor([[[[0, 1, NUM_IDS + 2, NUM_IDS + LEVELS]]]])
        assert tables.majority_target(labels, ["one"]).labels.tolist() == [[[[0, 1, 1, 2]]]]

    def test_cases_of_one_protocol_share_their_rows(self):
        annotation = ANNOTATION.model_copy(update={"cases": dict.fromkeys("ab", ANNOTATION.cases["one"])})
        tables = SoftTables(annotation, lambda _: None, confident=True)
        tables.target(torch.zeros(2, 1, 1, 1, dtype=torch.int16), ["a", "b"])
        assert tables._cases["a"][0] is tables._cases["b"][0]
