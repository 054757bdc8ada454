"""Ambiguity maps: figure 2 of Petit et al. 2021, and every kind of label id."""

import pytest
import torch

from nnunet_partial.labels import Annotation
from nnunet_partial.targets import PartialTarget, ProtocolTables, ambiguity_map, ambiguity_tables, positive_map

LIVER, KIDNEY, SPLEEN, PANCREAS = range(1, 5)
KIDNEYS, IGNORE = 6, 5  # label ids that are no class's own


def target_of(labels: list[list[int]], annotated: dict[int, list[str]], *, ignoring: bool = False) -> PartialTarget:
    """One case of liver, kidney (left), spleen and pancreas under a protocol that lists the given ids."""
    names = {"background": 0, "liver": LIVER, "kidney_left": KIDNEY, "spleen": SPLEEN, "pancreas": PANCREAS}
    annotation = Annotation.from_dataset_json(
        {
            "labels": {**names, "ignore": IGNORE} if ignoring else names,
            "annotation": {
                "protocols": {"here": {"labels": {str(number): classes for number, classes in annotated.items()}}},
                "cases": {"a": {"protocol": "here", "source": "s"}},
            },
        }
    )
    return ProtocolTables(annotation).target(torch.tensor(labels, dtype=torch.int16)[None, None], ["a"])


class TestFigure2:
    """Three organs are labelled, the spleen is missing: its map is 0 everywhere but on the other organs' labels."""

    LABELS = ((0, LIVER, LIVER, 0), (0, KIDNEY, 0, PANCREAS), (0, 0, 0, 0))
    DREW = {LIVER: ["liver"], KIDNEY: ["kidney_left"], PANCREAS: ["pancreas"]}  # noqa: RUF012

    def test_the_missing_organ(self):
        found = ambiguity_map(target_of(self.LABELS, self.DREW))
        assert found.shape == (1, 4, 3, 4)
        assert found.dtype == torch.bool
        assert found[0, SPLEEN - 1].int().tolist() == [[0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]

    def test_the_labelled_organs(self):
        found = ambiguity_map(target_of(self.LABELS, self.DREW))[0]
        for organ in (LIVER, KIDNEY, PANCREAS):
            assert found[organ - 1].all()

    def test_where_an_organ_is(self):
        found = positive_map(target_of(self.LABELS, self.DREW))[0]
        assert found[LIVER - 1].int().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
        assert not found[SPLEEN - 1].any()

    def test_an_organ_that_is_not_in_the_patch_was_still_looked_for(self):
        without_pancreas = [[number * (number != PANCREAS) for number in row] for row in self.LABELS]
        assert ambiguity_map(target_of(without_pancreas, self.DREW))[0, PANCREAS - 1].all()


def test_a_pseudo_label_is_certain_for_every_organ():
    """Label id 3 says "spleen" though nobody looked for spleens: nothing is ambiguous on that voxel."""
    target = target_of([[0, SPLEEN]], {LIVER: ["liver"]})
    assert ambiguity_map(target)[0, :, 0].int().tolist() == [[1, 1], [0, 1], [0, 1], [0, 1]]
    weights, positive = ambiguity_tables(target)
    assert weights[0, SPLEEN].all()
    assert positive[0, SPLEEN].int().tolist() == [0, 0, 1, 0]


def test_a_union_is_ambiguous_for_its_classes_and_negative_for_the_others():
    target = target_of([[0, KIDNEYS]], {KIDNEYS: ["kidney_left", "spleen"], LIVER: ["liver"]})
    assert ambiguity_map(target)[0, :, 0].int().tolist() == [[1, 1], [1, 0], [1, 0], [0, 1]]  # only the pancreas is unknown
    assert not ambiguity_tables(target)[1][0, KIDNEYS].any()


def test_a_fully_annotated_case_has_no_ambiguity():
    everything = {LIVER: ["liver"], KIDNEY: ["kidney_left"], SPLEEN: ["spleen"], PANCREAS: ["pancreas"]}
    weights, positive = ambiguity_tables(target_of([[0, LIVER]], everything))
    assert weights.all()
    assert torch.equal(positive[0], torch.eye(5, dtype=torch.bool)[:, 1:])


def test_a_case_nobody_annotated_says_nothing():
    assert not ambiguity_map(target_of([[0, 0]], {})).any()


def test_the_ignore_label_says_nothing_about_any_organ():
    target = target_of([[0, IGNORE]], {LIVER: ["liver"]}, ignoring=True)
    assert ambiguity_map(target)[0, :, 0].int().tolist() == [[1, 0], [0, 0], [0, 0], [0, 0]]
    tables = target.tables.clone()
    tables[0, IGNORE] = torch.tensor([False, True, False, False, False])  # whatever its row holds
    weights, positive = ambiguity_tables(PartialTarget(target.labels, tables, target.annotated, IGNORE))
    assert not weights[0, IGNORE].any()
    assert not positive[0, IGNORE].any()


def test_cases_of_a_batch_keep_their_own_tables():
    one, other = target_of([[0]], {LIVER: ["liver"]}), target_of([[0]], {SPLEEN: ["spleen"]})
    parts = zip(*((t.labels, t.tables, t.annotated) for t in (one, other)), strict=True)
    both = ambiguity_map(PartialTarget(*(torch.cat(part) for part in parts)))
    assert both[..., 0, 0].int().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]


def test_soft_tables_are_refused():
    target = target_of([[0]], {LIVER: ["liver"]})
    with pytest.raises(ValueError, match="soft tables"):
        ambiguity_tables(PartialTarget(target.labels, target.tables.float(), target.annotated))
