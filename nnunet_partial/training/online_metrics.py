"""Pseudo Dice during training, over the classes each case's annotator looked for."""

import torch
from torch import Tensor

from nnunet_partial.targets import PartialTarget


def annotated_counts(logits: Tensor, target: PartialTarget) -> Tensor:
    """True positives, false positives and false negatives of each foreground class in each case that judges it.

    A case judges class n if its annotator looked for n under an id of its own; elsewhere a prediction of n is neither right
    nor wrong. nnU-Net would count it as wrong.

    Args:
        logits: Network output at full resolution.
        target: Its target.
    Shape:
        logits (B, C, *S); returns (3, B, C - 1) float64, in voxels.
    """
    batch, num_classes = logits.shape[:2]
    num_ids = target.num_label_ids
    predicted = logits.argmax(1).flatten(1)  # (B, V)
    case = torch.arange(batch, device=logits.device)[:, None]
    joint = (case * num_ids + target.labels.flatten(1).long()) * num_classes + predicted
    voxels = torch.bincount(joint.flatten(), minlength=batch * num_ids * num_classes).view(batch, num_ids, num_classes).double()
    if target.ignore_label is not None:
        voxels[:, target.ignore_label] = 0
    judges = (target.annotated & (target.tables.sum(2) == 1))[
        :, :, None
    ] & target.tables  # (B, L, C): id l says class n and no other
    true_positives = (voxels * judges).sum(1)  # (B, C)
    reference = (voxels.sum(2, keepdim=True) * judges).sum(1)
    judged_predictions = voxels.sum(1) * judges.any(1)
    return torch.stack((true_positives, judged_predictions - true_positives, reference - true_positives))[:, :, 1:]
