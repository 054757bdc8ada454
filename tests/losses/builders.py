"""Small targets whose voxels can be counted by hand, and a slow reference for every term."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nnunet_partial.targets import PartialTarget


def table(rows: dict[int, set[int]], *, num_ids: int, num_classes: int) -> Tensor:
    """(L, C) bool: the given rows, every other id standing for its own class."""
    result = torch.zeros(num_ids, num_classes, dtype=torch.bool)
    for number in range(num_ids):
        for candidate in rows.get(number, {number}):
            result[number, candidate] = True
    return result


def target_of(
    labels: Tensor, *tables_and_annotated: tuple[dict[int, set[int]], set[int]], num_classes: int, **options
) -> PartialTarget:
    """A target whose cases have the given (rows, annotated ids)."""
    num_ids = num_classes + (1 if options.get("ignore_label") is not None else 0)
    tables = torch.stack([table(rows, num_ids=num_ids, num_classes=num_classes) for rows, _ in tables_and_annotated])
    annotated = torch.tensor([[number in ids for number in range(num_ids)] for _, ids in tables_and_annotated])
    return PartialTarget(labels, tables, annotated, **options)


def fully_annotated(labels: Tensor, num_classes: int, **options) -> PartialTarget:
    """Every class was looked for in every case."""
    return target_of(labels, *[({}, set(range(1, num_classes)))] * len(labels), num_classes=num_classes, **options)


def afresh(loss: Callable, target: PartialTarget) -> Callable:
    """The loss as a function that may be differentiated again and again, as gradcheck does: each time from a new graph."""

    class Afresh(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits):
            ctx.save_for_backward(logits)
            return loss(logits, target)

        @staticmethod
        def backward(ctx, factor):
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad():
                value = loss(leaf, target)
            return torch.autograd.grad(value, leaf, factor)[0]

    return Afresh.apply


def random_case(seed: int, *, shape=(4, 5, 3), num_classes=5, dtype=torch.float64, scale=2.0) -> tuple[Tensor, PartialTarget]:
    """Two cases: one fully annotated, one in which classes 2 and 3 are one union under id 2 and class 4 was not looked for."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, num_classes, *shape, generator=generator, dtype=dtype)
    labels = torch.randint(0, num_classes, (2, 1, *shape), generator=generator).to(torch.int16)
    labels[1][labels[1] > 2] = 0
    partly = ({0: {0, 4}, 2: {2, 3}}, {1, 2})
    return logits, target_of(labels, ({}, {1, 2, 3, 4}), partly, num_classes=num_classes)


def slow_terms(logits: Tensor, target: PartialTarget, *, batch_dice: bool, smooth: float = 1e-5) -> dict[str, float]:
    """All four terms by loops over cases, voxels and classes in float64, straight from the equations."""
    p = logits.double().softmax(1).flatten(2).tolist()
    labels = target.labels.flatten(1).tolist()
    cases, num_ids, num_classes = len(p), target.num_label_ids, target.num_classes
    sets = [[{n for n in range(num_classes) if target.tables[b, i, n]} for i in range(num_ids)] for b in range(cases)]
    looked_for = [[i for i in range(1, num_ids) if target.annotated[b, i]] for b in range(cases)]
    ce = exclusion_ce = 0.0
    counted = 0
    sums = {}  # (kind, case, id or class) -> [overlap, predicted, reference]
    for b in range(cases):
        voxels = [v for v, label in enumerate(labels[b]) if label != target.ignore_label]
        counted += len(voxels)
        for v in voxels:
            ce -= math.log(sum(p[b][n][v] for n in sets[b][labels[b][v]]))
            if labels[b][v] in looked_for[b]:
                exclusion_ce += sum(math.log(p[b][n][v] + 1) for n in range(num_classes) if n not in sets[b][labels[b][v]])
        for i in looked_for[b]:
            mass = {v: sum(p[b][n][v] for n in sets[b][i]) for v in voxels}
            inside = [v for v in voxels if labels[b][v] == i]
            sums["dice", b, i] = [sum(mass[v] for v in inside), sum(mass.values()), len(inside)]
        for n in range(num_classes):
            excluding = [i for i in looked_for[b] if n not in sets[b][i]]
            if excluding:
                inside = [v for v in voxels if labels[b][v] in excluding]
                sums["exclusion", b, n] = [sum(p[b][n][v] for v in inside), sum(p[b][n][v] for v in voxels), len(inside)]
    terms = {"ce": ce / max(counted, 1), "exclusion_ce": exclusion_ce / max(counted, 1)}
    for kind in ("dice", "exclusion"):
        groups = {}
        for (found, b, index), values in sums.items():
            if found == kind:
                groups.setdefault(index if batch_dice else (b, index), []).append(values)
        added = [[sum(column) for column in zip(*group, strict=True)] for group in groups.values()]
        if kind == "dice":
            terms[kind] = sum(1 - (2 * i + smooth) / (q + r + smooth) for i, q, r in added) / max(len(added), 1)
        else:
            terms[kind] = sum(2 * i / (q + r + smooth) for i, q, r in added) / max(len(added), 1)
    return terms
