"""What a loss is told: built valid or not at all, and joined to a batch by case."""

import numpy as np
import pytest
import torch

from nnunet_partial.labels import Annotation
from nnunet_partial.targets import PartialTarget, ProtocolTables

LABELS = torch.zeros(2, 1, 3, 3, dtype=torch.int16)
TABLES = torch.eye(4, dtype=torch.bool).repeat(2, 1, 1)
ANNOTATED = torch.ones(2, 4, dtype=torch.bool)

ANNOTATION = Annotation.from_dataset_json(
    {
        "labels": {"background": 0, "liver": 1, "kidney_left": 2, "kidney_right": 3},
        "annotation": {
            "protocols": {"liver": {"labels": {"1": ["liver"]}}, "kidney": {"labels": {"5": ["kidney_left", "kidney_right"]}}},
            "cases": {"a": {"protocol": "liver", "source": "s"}, "b": {"protocol": "kidney", "source": "t"}},
        },
    }
)


@pytest.mark.parametrize(
    ("labels", "tables", "annotated", "words"),
    [
        (LABELS[:, 0], TABLES, ANNOTATED, r"labels must have shape \(B, 1, \*S\)"),
        (LABELS.float(), TABLES, ANNOTATED, "labels must be integers"),
        (LABELS, TABLES[:1], ANNOTATED, r"tables must have shape \(B, L, C\) with B = 2"),
        (LABELS, TABLES, ANNOTATED[:, :2], "annotated must be bool of shape"),
        (LABELS, TABLES, ANNOTATED.int(), "annotated must be bool"),
        (LABELS + 4, TABLES, ANNOTATED, r"run from 4 to 4, but the tables have rows for 0\.\.3"),
        (LABELS - 1, TABLES, ANNOTATED, "run from -1"),
    ],
)
def test_refuses(labels, tables, annotated, words):
    with pytest.raises(ValueError, match=words):
        PartialTarget(labels, tables, annotated)


def test_moves_like_a_tensor():
    moved = PartialTarget(LABELS, TABLES, ANNOTATED, ignore_label=3).to("meta", non_blocking=True)
    assert {part.device.type for part in (moved.labels, moved.tables, moved.annotated)} == {"meta"}
    assert moved.ignore_label == 3


def test_a_batch_gets_the_tables_of_its_cases():
    tables = ProtocolTables(ANNOTATION)
    target = tables.target(LABELS, np.array(["b", "a"]))  # nnU-Net's loader hands keys over as a numpy array
    assert target.num_label_ids == 6
    assert target.tables[0, 0].tolist() == [True, True, False, False]
    assert target.tables[0, 5].tolist() == [False, False, True, True]
    assert target.tables[1, 0].tolist() == [True, False, True, True]
    assert target.annotated.tolist() == [[False] * 5 + [True], [False, True] + [False] * 4]


def test_an_unknown_case_is_named():
    with pytest.raises(KeyError, match="case 'c'"):
        ProtocolTables(ANNOTATION).target(LABELS, ["a", "c"])
