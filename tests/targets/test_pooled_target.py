"""Means of shares on coarser resolutions, by hand and against loops."""

import pytest
import torch
from torch.testing import assert_close

from nnunet_partial.targets import PooledTarget, SoftTarget, pooled_targets
from nnunet_partial.targets.ambiguity import by_voxel


def soft_target(shape: tuple[int, ...] = (4, 4, 8), ignore_label: int | None = None) -> SoftTarget:
    """Two cases; three annotators of classes 0 to 2, of whom one did not look for class 2."""
    labels = torch.randint(0, 4, (2, 1, *shape), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    rows = [[2 / 3, 0, 0], [0, 1, 0], [1 / 3, 0, 1 / 3], [0, 2 / 3, 1 / 3]]
    on_set = [[1 / 3], [0], [1 / 3], [0]]
    return SoftTarget(
        labels,
        torch.tensor([rows, rows]),
        torch.tensor([[True, True, True, False], [True, True, False, False]]),
        ignore_label,
        set_shares=torch.tensor([on_set, on_set]),
        sets=torch.tensor([[True, False, True]]),
    )


def test_eight_voxels_by_hand():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3]).view(1, 1, 2, 2, 2)
    target = soft_target()
    one = SoftTarget(labels, target.tables[:1], target.annotated[:1], set_shares=target.set_shares[:1], sets=target.sets)
    (pooled,) = pooled_targets(one, [(1, 1, 1)])
    assert pooled.tables.flatten().mul(24).tolist() == pytest.approx([4 * 2 + 1, 2 * 3 + 2, 1 + 1])
    assert pooled.set_shares.flatten().mul(24).tolist() == pytest.approx([4 + 1])
    assert pooled.num_counted == 1


@pytest.mark.parametrize("ignore_label", [None, 3])
@pytest.mark.parametrize("shapes", [[(2, 2, 4), (1, 1, 2)], [(4, 2, 4), (4, 1, 1)]])
def test_every_resolution_is_the_mean_of_the_voxels_it_covers(shapes, ignore_label):
    target = soft_target(ignore_label=ignore_label)
    counts = (target.labels != ignore_label) if ignore_label is not None else torch.ones_like(target.labels)
    for shape, pooled in zip(shapes, pooled_targets(target, shapes), strict=True):
        assert pooled.labels.shape == (2, 1, *shape)
        steps = [whole // part for whole, part in zip((4, 4, 8), shape, strict=True)]
        for name in ("tables", "set_shares"):
            whole = by_voxel(getattr(target, name), target) * counts
            found = by_voxel(getattr(pooled, name), pooled)
            for z, y, x in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
                corner = zip((z, y, x), steps, strict=True)
                block = whole[(..., *(slice(place * step, (place + 1) * step) for place, step in corner))]
                assert_close(found[..., z, y, x], block.mean((2, 3, 4)))
        assert_close(pooled.num_counted, counts.sum() * pooled.labels.numel() / target.labels.numel())


def test_two_axes():
    target = soft_target((4, 8))
    (pooled,) = pooled_targets(target, [(2, 4)])
    whole = by_voxel(target.tables, target)
    assert_close(by_voxel(pooled.tables, pooled), torch.nn.functional.avg_pool2d(whole, 2))


def test_more_classes_than_are_pooled_at_a_time():
    labels = torch.randint(0, 11, (1, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    nothing = {"set_shares": torch.zeros(1, 11, 0), "sets": torch.zeros(0, 11, dtype=torch.bool)}
    target = SoftTarget(labels, torch.eye(11)[None], torch.ones(1, 11, dtype=torch.bool), **nothing)
    (pooled,) = pooled_targets(target, [(2, 2)])
    whole = torch.nn.functional.one_hot(labels[:, 0], 11).movedim(-1, 1).float()
    assert_close(by_voxel(pooled.tables, pooled), torch.nn.functional.avg_pool2d(whole, 2))


def test_what_was_looked_for_does_not_depend_on_the_patch():
    target = soft_target()
    empty = SoftTarget(torch.zeros_like(target.labels), target.tables, target.annotated, **sets_of(target))
    (pooled,) = pooled_targets(empty, [(2, 2, 4)])
    assert pooled.looked_for.tolist() == target.looked_for.tolist() == [[True, True, True], [False, True, False]]


def test_everything_moves():
    (pooled,) = pooled_targets(soft_target(), [(2, 2, 4)])
    moved = pooled.to("meta")
    assert isinstance(moved, PooledTarget)
    parts = (moved.labels, moved.tables, moved.annotated, moved.set_shares, moved.counted, moved.full.labels)
    assert {part.device.type for part in parts} == {"meta"}


def sets_of(target: SoftTarget) -> dict:
    return {"set_shares": target.set_shares, "sets": target.sets}
