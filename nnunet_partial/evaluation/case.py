"""Overlap metrics of one case, over the classes its annotator looked for; empty policy and metrics as in nnU-Net."""

from collections.abc import Iterable

import numpy as np

from nnunet_partial.labels import AnnotationProtocol, LabelSpace, first_of

ClassKey = int | tuple[int, ...]
HOST_METRIC_NAMES = ("Dice", "IoU", "FP", "TP", "FN", "TN", "n_pred", "n_ref")  # nnU-Net's, in its order
METRIC_NAMES = (*HOST_METRIC_NAMES, "Precision", "Recall")
UNANNOTATED = dict.fromkeys(METRIC_NAMES, float("nan"))
_CHUNK = 2**20  # voxels counted at a time: the pair codes take 8 bytes each, and small ones stay in the cache


def evaluate_case(
    reference: np.ndarray, prediction: np.ndarray, protocol: AnnotationProtocol, space: LabelSpace
) -> dict[ClassKey, dict[str, float]]:
    """Dice, IoU, precision, recall and voxel counts of every class that was looked for; NaN for one nobody looked for.

    A class that stands under an id of its own is judged under its label id. Classes that share an id ("kidney" without a
    side) cannot be told apart by the reference, so they are judged together, as nnU-Net judges a region: prediction of any
    of them against reference voxels that can only be one of them, under the key (4, 5); their own keys hold NaN.
    Predictions of unannotated classes are errors only where the reference shows an annotated one.
    Voxels with the ignore label are left out. A class that neither shows has Dice and IoU NaN and counts of 0 (nnU-Net's
    policy: an empty pair says nothing about the overlap); one that only one of them shows has 0. Precision is NaN where
    nothing is predicted, Recall where the reference shows nothing.

    Args:
        reference: Label map whose ids the protocol explains.
        prediction: Label map with the label space's own ids.
        protocol: How the reference was annotated.
        space: The classes and their label ids.

    Shape:
        reference and prediction *S, integers; returns {class key: {metric: value}}.

    Raises:
        ValueError: shapes differ, or a label id that neither protocol nor label space knows.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference has shape {reference.shape}, prediction {prediction.shape}")
    table = protocol.candidate_table(space)
    counts = _pair_counts(reference, prediction, *table.shape)
    check_ids("reference", np.flatnonzero(counts.any(axis=1)), table.any(axis=1))
    if space.ignore_id is not None:
        counts[space.ignore_id] = 0
    metrics: dict[ClassKey, dict[str, float]] = {number: dict(UNANNOTATED) for number in range(1, space.num_classes)}
    for key in judged_keys(protocol, space):
        members = np.isin(np.arange(space.num_classes), key)
        metrics[key] = _overlap(counts, positive=~table[:, ~members].any(axis=1), members=members)
    return metrics


def judged_keys(protocol: AnnotationProtocol, space: LabelSpace) -> list[ClassKey]:
    """The keys a protocol's cases are judged under: a label id for a class on its own, the ids of its classes for a union."""
    groups = [tuple(sorted(space.id_of(name) for name in classes)) for classes in protocol.labels.values()]
    return [group if len(group) > 1 else group[0] for group in groups]


def check_ids(name: str, held: Iterable[int], known: np.ndarray) -> None:
    """Refuse label ids that stand for nothing: a row of the candidate table without a class would be positive for every class.

    Shape:
        known (L,) bool, by id.
    """
    unknown = [str(number) for number in held if not 0 <= number < len(known) or not known[number]]
    if unknown:
        raise ValueError(
            f"{name} holds label ids that neither label space nor protocol knows: {first_of(unknown)}; correct the file, "
            "or the labels and protocols in dataset.json"
        )


def _pair_counts(reference: np.ndarray, prediction: np.ndarray, num_label_ids: int, num_classes: int) -> np.ndarray:
    """(L, C) voxels with each pair of reference id and predicted class, in one pass."""
    for name, labels, limit in (("reference", reference, num_label_ids), ("prediction", prediction, num_classes)):
        if labels.size and not 0 <= labels.min() <= labels.max() < limit:
            raise ValueError(f"{name} holds label ids {labels.min()}..{labels.max()}, known are 0..{limit - 1}")
    counts = np.zeros(num_label_ids * num_classes, dtype=np.intp)
    flat = np.ravel(reference), np.ravel(prediction)
    for start in range(0, reference.size, _CHUNK):
        pairs = flat[0][start : start + _CHUNK].astype(np.intp)  # what bincount counts in: no further copy
        pairs *= num_classes
        np.add(pairs, flat[1][start : start + _CHUNK], out=pairs, casting="unsafe")
        counts += np.bincount(pairs, minlength=len(counts))
    return counts.reshape(num_label_ids, num_classes)


def _overlap(counts: np.ndarray, *, positive: np.ndarray, members: np.ndarray) -> dict[str, float]:
    """The metrics from pair counts (L, C), the reference ids that are positive (L,) and the classes that count as found (C,)."""
    tp = int(counts[np.ix_(positive, members)].sum())
    n_pred, n_ref = int(counts[:, members].sum()), int(counts[positive].sum())
    fp, fn = n_pred - tp, n_ref - tp
    union = tp + fp + fn
    return {
        "Dice": 2 * tp / (2 * tp + fp + fn) if union else float("nan"),
        "IoU": tp / union if union else float("nan"),
        "FP": fp,
        "TP": tp,
        "FN": fn,
        "TN": int(counts.sum()) - union,
        "n_pred": n_pred,
        "n_ref": n_ref,
        "Precision": tp / n_pred if n_pred else float("nan"),
        "Recall": tp / n_ref if n_ref else float("nan"),
    }
