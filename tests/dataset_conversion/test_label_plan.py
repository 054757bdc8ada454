"""Source ids to ours, under every policy."""

import pytest

from nnunet_partial.dataset_conversion.label_plan import own_classes, plan_labels
from nnunet_partial.dataset_conversion.listing import SourceLabel
from nnunet_partial.dataset_conversion.sources.btcv import SOURCE_LABELS as BTCV
from nnunet_partial.dataset_conversion.sources.kits19 import SOURCE_LABELS as KITS19
from nnunet_partial.dataset_conversion.sources.lits import SOURCE_LABELS as LITS
from nnunet_partial.labels import LabelSpace

SIDED = LabelSpace(classes=("liver", "kidney_left", "kidney_right"))
UNSIDED = {1: SourceLabel(("kidney",)), 2: SourceLabel(("adrenal_gland",))}
WITH_TUMOR = LabelSpace(classes=("kidney_left", "kidney_right", "kidney_tumor"))


def plan(table, space, **policies):
    found, faults = plan_labels(table, space, **policies)
    assert faults == []
    return found


def faults(table, space, **policies):
    found, wrong = plan_labels(table, space, **policies)
    assert found is None
    return wrong


def test_classes_outside_the_space_become_unannotated_background():
    found = plan(BTCV, LabelSpace(classes=("liver", "spleen")))
    assert {number: ours for number, ours in found.mapping.items() if ours} == {6: 1, 1: 2}
    assert found.protocol.labels == {1: ("liver",), 2: ("spleen",)}


def test_kidneys_are_split_with_their_tumors_inside():
    found = plan(KITS19, SIDED)
    assert found.right_ids == {"kidney": {1: 3, 2: 4}}
    assert found.mapping == {1: 2, 2: 2, 3: 3, 4: 3}


def test_every_organ_without_a_side_gets_ids_of_its_own():
    found = plan(UNSIDED, LabelSpace(classes=("adrenal_gland_left", "adrenal_gland_right", "kidney_left", "kidney_right")))
    assert found.right_ids == {"kidney": {1: 3}, "adrenal_gland": {2: 4}}
    assert found.mapping == {1: 3, 2: 1, 3: 4, 4: 2}
    assert plan(UNSIDED, LabelSpace(classes=("adrenal_gland_left", "kidney"))).right_ids == {"adrenal_gland": {2: 4}}
    assert found.protocol_for((1,)).annotated_classes == {"kidney_left", "kidney_right"}


def test_kidney_tumor_of_either_side_can_be_its_own_class():
    found = plan(KITS19, WITH_TUMOR, tumor="separate")
    assert found.mapping == {1: 1, 2: 3, 3: 2, 4: 3}
    assert found.protocol.labels == {1: ("kidney_left",), 2: ("kidney_right",), 3: ("kidney_tumor",)}


def test_kidneys_without_a_side_can_stay_a_union_under_a_borrowed_id():
    found = plan(KITS19, SIDED, sides="union")
    assert found.right_ids == {}
    assert found.mapping == {1: 2, 2: 2}
    assert found.protocol.labels == {2: ("kidney_left", "kidney_right")}
    assert found.protocol.faults(SIDED) == []


def test_union_of_sides_and_tumor():
    found = plan(KITS19, WITH_TUMOR, sides="union", tumor="union")
    assert found.protocol.labels == {1: ("kidney_left", "kidney_right", "kidney_tumor")}


def test_kidney_as_one_class_is_not_split():
    found = plan(KITS19, LabelSpace(classes=("kidney", "kidney_tumor")), tumor="separate")
    assert found.right_ids == {}
    assert found.mapping == {1: 1, 2: 2}


def test_organ_of_a_source_without_tumors_may_hold_one_where_the_pool_knows_tumors():
    found = plan(BTCV, LabelSpace(classes=("liver", "liver_tumor")))
    assert found.protocol.labels == {1: ("liver", "liver_tumor")}


def test_tumor_that_a_source_draws_as_a_plain_class_is_not_looked_for_in_its_organ():
    own = {1: SourceLabel(("liver",)), 2: SourceLabel(("liver_tumor",))}
    assert plan(own, LabelSpace(classes=("liver", "liver_tumor"))).protocol.labels == {1: ("liver",), 2: ("liver_tumor",)}


@pytest.mark.parametrize(
    ("table", "classes", "policies", "message"),
    [
        (LITS, ("liver",), {"tumor": "separate"}, "class 'liver_tumor' is not in the label space"),
        (LITS, ("liver",), {"tumor": "union"}, "class 'liver_tumor' is not in the label space"),
        (LITS, ("liver", "liver_tumor"), {}, "use tumor: separate or tumor: union"),
        (LITS, ("spleen",), {}, "annotates none of the classes spleen; it has liver, liver_tumor"),
        (LITS, ("liver",), {"sides": "split"}, "leave `sides` out"),
        (BTCV, ("liver", "liver_tumor"), {"tumor": "union"}, "leave `tumor` out"),
        (KITS19, WITH_TUMOR.classes, {"tumor": "union"}, "use sides: union or tumor: separate"),
        (KITS19, ("kidney", "kidney_left"), {}, "classes hold both 'kidney' and 'kidney_left'"),
        (UNSIDED, ("adrenal_gland", "kidney_left", "adrenal_gland_right"), {}, "both 'adrenal_gland' and 'adrenal_gland_right'"),
        (UNSIDED, ("kidney_left", "kidney_right"), {"tumor": "union"}, "leave `tumor` out"),
        (KITS19, ("kidney_left",), {"sides": "union"}, "class 'kidney_right' is not in the label space"),
    ],
)
def test_policies_that_do_not_fit_are_refused(table, classes, policies, message):
    assert any(message in fault for fault in faults(table, LabelSpace(classes=classes), **policies))


def test_own_classes_follow_the_tumor_policy():
    assert own_classes(LITS) == ("liver",)
    assert own_classes(LITS, "separate") == ("liver", "liver_tumor")
    assert own_classes(KITS19) == ("kidney_left", "kidney_right")


def test_what_was_drawn_without_being_looked_for():
    """A single class stays where it was drawn; of a union nobody could tell the members apart, so all remain possible."""
    whole = plan(KITS19, LabelSpace(classes=("kidney_left", "kidney_right")), sides="union")
    assert (whole.restricted_to(()).mapping, whole.restricted_to(()).protocol.labels) == ({1: 0, 2: 0}, {})
    organs = plan(BTCV, LabelSpace(classes=("liver", "spleen")))
    only_liver = organs.restricted_to((6,))
    assert only_liver.protocol.labels == {1: ("liver",)}
    assert only_liver.mapping == organs.mapping
    assert organs.restricted_to(None) is organs
