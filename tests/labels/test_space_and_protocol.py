"""Label space and annotation protocols: what an id stands for, and what was looked for."""

from typing import ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from nnunet_partial.labels import Annotation, AnnotationProtocol, LabelError, LabelSpace

ABDOMEN = LabelSpace(classes=("liver", "spleen", "pancreas", "kidney_left", "kidney_right"))


class TestLabelSpace:
    def test_ids_follow_the_order_of_the_classes(self):
        assert [ABDOMEN.id_of(name) for name in ("background", "liver", "kidney_right")] == [0, 1, 5]
        assert ABDOMEN.nnunet_labels() == {
            "background": 0,
            "liver": 1,
            "spleen": 2,
            "pancreas": 3,
            "kidney_left": 4,
            "kidney_right": 5,
        }

    def test_round_trip_through_dataset_json(self):
        for space in (ABDOMEN, LabelSpace(classes=("liver",), has_ignore=True)):
            assert LabelSpace.from_nnunet_labels(space.nnunet_labels()) == space

    def test_left_right_pairs(self):
        space = LabelSpace(
            classes=("left-lung", "right-lung", "adrenal_gland_right", "adrenal_gland_left", "kidney_left", "leftover")
        )
        assert space.left_right_pairs() == (("left-lung", "right-lung"), ("adrenal_gland_left", "adrenal_gland_right"))

    def test_unknown_class_names_the_nearest(self):
        with pytest.raises(ValueError, match="did you mean 'spleen'"):
            ABDOMEN.id_of("spleeen")

    @pytest.mark.parametrize(
        ("classes", "words"),
        [((), "at least one"), (("liver", "liver"), "twice"), (("background",), "reserved"), (("Gall bladder",), "lower-case")],
    )
    def test_refuses(self, classes, words):
        with pytest.raises(ValidationError, match=words):
            LabelSpace(classes=classes)

    def test_refuses_ids_that_int16_cannot_hold(self):
        with pytest.raises(ValidationError, match="int16"):
            LabelSpace(classes=tuple(f"c{n}" for n in range(2**15)))
        with pytest.raises(ValidationError, match="int16"):
            AnnotationProtocol(labels={2**15: ("liver",)})

    def test_refuses_regions_and_gaps(self):
        with pytest.raises(ValueError, match="regions"):
            LabelSpace.from_nnunet_labels({"background": 0, "kidney": [1, 2], "tumor": 2})
        with pytest.raises(ValueError, match="must run"):
            LabelSpace.from_nnunet_labels({"background": 0, "liver": 2})


class TestCandidateTable:
    """The rows of DESIGN's table, counted by hand: columns background, liver, spleen, pancreas, kidney_left, kidney_right."""

    def test_one_organ_annotated(self):
        table = AnnotationProtocol(labels={1: ("liver",)}).candidate_table(ABDOMEN)
        assert table[0].tolist() == [True, False, True, True, True, True]
        assert np.array_equal(table[1:], np.eye(6, dtype=bool)[1:])  # id k stands for k, also where k is unannotated

    def test_fully_annotated(self):
        protocol = AnnotationProtocol(labels={number: (name,) for number, name in enumerate(ABDOMEN.classes, 1)})
        assert np.array_equal(protocol.candidate_table(ABDOMEN), np.eye(6, dtype=bool))

    def test_nobody_annotated_this_case(self):
        protocol = AnnotationProtocol(labels={})
        assert protocol.candidate_table(ABDOMEN)[0].all()
        assert not protocol.annotated_ids(ABDOMEN).any()

    def test_union_borrows_an_id(self):
        protocol = AnnotationProtocol(labels={4: ("kidney_left", "kidney_right")})
        table = protocol.candidate_table(ABDOMEN)
        assert table[4].tolist() == [False, False, False, False, True, True]
        assert table[0].tolist() == [True, True, True, True, False, False]  # both kidneys were looked for
        assert protocol.annotated_ids(ABDOMEN).tolist() == [False, False, False, False, True, False]

    def test_ignore_label_stands_for_everything(self):
        space = LabelSpace(classes=("liver", "spleen"), has_ignore=True)
        assert AnnotationProtocol(labels={1: ("liver",)}).candidate_table(space)[3].all()

    def test_an_id_beyond_the_label_space_gets_a_row(self):
        protocol = AnnotationProtocol(labels={9: ("kidney_left", "kidney_right")})
        assert protocol.candidate_table(ABDOMEN).shape == (10, 6)
        assert protocol.candidate_table(ABDOMEN)[9].tolist() == [False] * 4 + [True] * 2

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            ({0: ("liver",)}, "id 0"),
            ({1: ()}, "no class"),
            ({1: ("liver",), 2: ("liver", "spleen")}, "two label ids"),
            ({-1: ("liver",)}, "outside"),
        ],
    )
    def test_refuses(self, labels, words):
        with pytest.raises(ValidationError, match=words):
            AnnotationProtocol(labels=labels)

    def test_an_id_of_another_class_is_a_fault(self):
        (fault,) = AnnotationProtocol(labels={2: ("liver",)}).faults(ABDOMEN)
        assert "label id 2 is class 'spleen'" in fault


class TestAnnotation:
    dataset_json: ClassVar = {
        "labels": ABDOMEN.nnunet_labels(),
        "annotation": {
            "protocols": {
                "full": {"labels": {str(n): [name] for n, name in enumerate(ABDOMEN.classes, 1)}},
                "union": {"labels": {"4": ["kidney_left", "kidney_right"]}},
            },
            "cases": {"a_1": {"protocol": "full", "source": "a"}, "b_1": {"protocol": "union", "source": "b"}},
        },
    }

    def test_reads_and_writes_back(self):
        annotation = Annotation.from_dataset_json(self.dataset_json)
        assert annotation.as_json()["cases"] == self.dataset_json["annotation"]["cases"]
        assert annotation.annotated_cases("kidney_left", ["a_1", "b_1"]) == ["a_1", "b_1"]
        assert annotation.annotated_cases("liver", ["a_1", "b_1"]) == ["a_1"]
        assert annotation.is_fully_annotated("a_1")
        assert not annotation.is_fully_annotated("b_1")

    def test_refuses_a_dataset_without_the_block(self):
        with pytest.raises(LabelError, match="no 'annotation' block"):
            Annotation.from_dataset_json({"labels": ABDOMEN.nnunet_labels()})

    def test_lists_all_faults(self):
        broken = {
            "labels": {"background": 0, "liver": 1},
            "annotation": {
                "protocols": {"a": {"labels": {"1": ["lver"]}}},
                "cases": {"x": {"protocol": "aa", "source": "s"}, "y": {"protocol": "b", "source": "s"}},
            },
        }
        with pytest.raises(LabelError) as caught:
            Annotation.from_dataset_json(broken)
        assert len(caught.value.faults) == 4
        assert "did you mean 'liver'" in str(caught.value)
        assert "did you mean 'a'" in str(caught.value)
