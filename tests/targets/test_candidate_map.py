"""Candidate sets voxel by voxel, and targets on which a teacher has a say."""

import torch

from nnunet_partial.targets import (
    PartialTarget,
    TaughtTarget,
    ambiguous_voxels,
    candidate_map,
    decided_voxels,
    unannotated_organs,
)

EVERY = [True, True, True]
TABLE = torch.tensor([[[True, False, True], [False, True, False], [False, True, True], EVERY]])  # 0 or 2; 1; 1 or 2; ignore
LABELS = torch.tensor([[[0, 1, 2, 3]]], dtype=torch.int16)


def target(**options) -> PartialTarget:
    return PartialTarget(LABELS, TABLE, torch.zeros(1, 4, dtype=torch.bool), **options)


def test_each_voxel_has_its_row():
    assert candidate_map(target())[0].T.tolist() == TABLE[0].tolist()


def test_several_candidates_are_ambiguous_and_the_ignore_label_is_not():
    assert ambiguous_voxels(target())[0, 0].tolist() == [True, False, True, True]
    assert ambiguous_voxels(target(ignore_label=3))[0, 0].tolist() == [True, False, True, False]


def test_one_candidate_is_decided():
    assert decided_voxels(target())[0, 0].tolist() == [False, True, False, False]
    single = PartialTarget(LABELS, TABLE, torch.zeros(1, 4, dtype=torch.bool), ignore_label=1)
    assert not decided_voxels(single).any()


def test_organs_that_some_id_leaves_open_are_unannotated():
    assert unannotated_organs(target(ignore_label=3)).tolist() == [[True, True]]
    only_one = TABLE[:, :2]  # 0 or 2; 1
    first = PartialTarget(LABELS[..., :2], only_one, torch.zeros(1, 2, dtype=torch.bool))
    assert unannotated_organs(first).tolist() == [[False, True]]


def test_a_taught_target_moves_as_a_whole():
    taught = TaughtTarget([target(), target()], 0.5, teacher_logits=torch.zeros(1, 3, 4))
    moved = taught.to("meta", non_blocking=True)
    assert [part.labels.device.type for part in moved.supervised] == ["meta", "meta"]
    assert moved.teacher_logits.device.type == "meta"
    assert (moved.weight, moved.label_logits, moved.branches_agree) == (0.5, None, None)


def test_full_resolution_comes_first():
    first, second = target(), target()
    assert TaughtTarget([first, second]).full_resolution is first
    assert TaughtTarget(second).full_resolution is second
