"""Relabelling of one case in preprocessed space: predict, rank, select, write beside the preprocessed files."""

import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from nnunet_partial.labels import Annotation, replacing, write_json
from nnunet_partial.pseudo_labels.criteria import LogOdds, Ranking
from nnunet_partial.pseudo_labels.files import RoundFiles
from nnunet_partial.pseudo_labels.selection import changed_fraction, select_pseudo_labels
from nnunet_partial.pseudo_labels.sliding_window import SlidingWindow
from nnunet_partial.targets.confident_labels import confident_ids
from nnunet_partial.training.arrays import open_array, write_array

LOCATION_SEED, MIN_LOCATIONS, LOCATION_SHARE = 1234, 10_000, 0.01  # nnU-Net's


@dataclass(frozen=True)
class Relabeller:
    """What relabels the cases of one round.

    Attributes:
        annotation: Label space, protocols and cases.
        human: Folder of nnU-Net's preprocessed cases.
        files: Of this round.
        previous: Of the round before; None in the first.
        segmentation: The network whose predictions become labels.
        log_odds: Logits -> log-odds of the foreground classes, as its trainer says.
        ranking: What ranks them; None ranks by the segmentation network's own log-odds (MCP).
        window: How images are predicted.
        fraction: t / T * gamma_max.
        max_changed: Cases whose predictions changed more than this since the round before get no new labels; None for no limit.
        soft: Whether to write the labels once more, with the confidence each was given when it became one.
    """

    annotation: Annotation
    human: Path
    files: RoundFiles
    previous: RoundFiles | None
    segmentation: nn.Module
    log_odds: LogOdds
    ranking: Ranking | None
    window: SlidingWindow
    fraction: float
    max_changed: float | None = None
    soft: bool = False

    @torch.inference_mode()
    def relabel(self, case: str) -> dict[str, Any]:
        """Relabel a case and write its files, the record last.

        Returns:
            The record.
        """
        began = time.monotonic()
        ids = unannotated_ids(self.annotation, case)
        image = open_array(self.human / f"{case}.b2nd")[:]
        human = open_array(self.human / f"{case}_seg.b2nd")[:]
        prediction, scores = self._predict(case, image, human, ids)
        earlier = self._earlier(case, human)
        changed = self._changed(case, prediction)
        dropped = changed is not None and self.max_changed is not None and changed > self.max_changed
        labels, found = select_pseudo_labels(prediction, scores, human, earlier, ids, 0.0 if dropped else self.fraction)
        self._write(case, prediction, scores, human, earlier, labels)
        record = {
            "identifier": case,
            "source": self.annotation.cases[case].source,
            "protocol": self.annotation.cases[case].protocol,
            "dropped": dropped,
            "changed_fraction": changed,
            "seconds": round(time.monotonic() - began, 3),
            "classes": {self.annotation.space.classes[number - 1]: asdict(selection) for number, selection in found.items()},
        }
        self.files.record_of(case).parent.mkdir(parents=True, exist_ok=True)
        write_json(record, self.files.record_of(case))
        return record

    def _predict(self, case: str, image: np.ndarray, human: np.ndarray, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Predicted id and score where an unannotated class is predicted and no label stands; (1, *S) int16 and float32."""
        prediction, scores = self._segment(image, human, ids)
        if self.ranking is not None:
            scores = self.ranking.scores(case, image, prediction[0])[None]
        return prediction, scores

    def _segment(self, image: np.ndarray, human: np.ndarray, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The same, with the segmentation network's own log-odds for scores, or zeros where something else ranks."""
        num_classes = self.annotation.space.num_classes
        prediction, scores = np.zeros(human.shape, np.int16), np.zeros(human.shape, np.float32)
        wanted = torch.zeros(num_classes, dtype=torch.bool, device=self.window.device)
        wanted[list(ids)] = True
        log_odds = self.log_odds if self.ranking is None else None
        for box, logits in self.window.logits(image, self.segmentation, num_classes):
            unlabelled = torch.from_numpy(human[(0, *box)] == 0).to(logits.device)
            found, numbers, own = _predicted(logits, unlabelled, wanted, log_odds)
            where = found.cpu().numpy()
            prediction[(0, *box)][where] = numbers.cpu().numpy()
            if own is not None:
                scores[(0, *box)][where] = own.cpu().numpy()
        return prediction, scores

    def _earlier(self, case: str, human: np.ndarray) -> np.ndarray:
        if self.previous is None or not self.previous.labels_of(case).exists():
            return human
        return open_array(self.previous.labels_of(case))[:]

    def _changed(self, case: str, prediction: np.ndarray) -> float | None:
        if self.previous is None or not self.previous.prediction_of(case).exists():
            return None
        return changed_fraction(prediction, open_array(self.previous.prediction_of(case))[:])

    def _write(
        self,
        case: str,
        prediction: np.ndarray,
        scores: np.ndarray,
        human: np.ndarray,
        earlier: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        write_array(prediction, self.files.prediction_of(case), self.window.patch_size)
        write_array(scores, self.files.score_of(case), self.window.patch_size)
        pseudo = np.where(human == 0, labels, 0)
        if not pseudo.any():
            return
        properties = pickle.loads((self.human / f"{case}.pkl").read_bytes())
        properties["class_locations"] = {**properties["class_locations"], **class_locations(pseudo)}
        self._write_overlay(self.files.labels_of(case), case, labels, properties)
        if self.soft:
            soft = self._with_confidence(case, labels, human, earlier, scores)
            self._write_overlay(self.files.soft_labels_of(case), case, soft, properties)

    def _write_overlay(self, file: Path, case: str, labels: np.ndarray, properties: dict[str, Any]) -> None:
        write_array(labels.astype(np.int16), file, self.window.patch_size)
        with replacing(file.with_name(f"{case}.pkl")) as temporary:
            temporary.write_bytes(pickle.dumps(properties))

    def _with_confidence(
        self, case: str, labels: np.ndarray, human: np.ndarray, earlier: np.ndarray, scores: np.ndarray
    ) -> np.ndarray:
        """The label map with ids that say how confident each pseudo-label was in the round that made it one."""
        known = self.previous is not None and self.previous.soft_labels_of(case).exists()
        soft = (open_array(self.previous.soft_labels_of(case))[:] if known else human).astype(np.int16)
        new = labels != earlier
        soft[new] = confident_ids(labels[new], expit(scores[new]), self.annotation.num_label_ids)
        return soft


def unannotated_ids(annotation: Annotation, case: str) -> list[int]:
    """The label ids of the classes that nobody looked for in a case."""
    looked_for = annotation.protocol_of(case).annotated_classes
    return [number for number, name in enumerate(annotation.space.classes, 1) if name not in looked_for]


def class_locations(pseudo: np.ndarray) -> dict[int, np.ndarray]:
    """Voxels from which nnU-Net's loader centres foreground patches, for each pseudo-labelled class; so many as nnU-Net keeps.

    Human labels keep their own locations: a class is pseudo-labelled only where nobody drew it.

    Shape:
        pseudo (1, *S), 0 where there is no pseudo-label; returns (n, 4) by id.
    """
    where = np.flatnonzero(pseudo)
    numbers = pseudo.reshape(-1)[where]
    generator = np.random.RandomState(LOCATION_SEED)
    locations = {}
    for number in np.flatnonzero(np.bincount(numbers)):
        own = where[numbers == number]
        count = max(min(MIN_LOCATIONS, len(own)), int(np.ceil(len(own) * LOCATION_SHARE)))
        chosen = own if count == len(own) else generator.choice(own, count, replace=False)
        locations[int(number)] = np.stack(np.unravel_index(chosen, pseudo.shape), axis=1)
    return locations


def _predicted(
    logits: Tensor, unlabelled: Tensor, wanted: Tensor, log_odds: LogOdds | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Where a wanted class is predicted and no label stands, its ids there, and its log-odds there if a way is given.

    The id is the argmax, which equals the rule of section 3.1.1: the largest z_k - z_0, background where all are <= 0. It is
    looked for in the foreground alone, by `max`, whose indices a CPU finds ten times sooner than `argmax`.

    Shape:
        logits (C, *S), unlabelled (*S) bool, wanted (C,) bool; returns (*S) bool, (n,), (n,).
    """
    foreground = (logits[1:].amax(0) > logits[0]).logical_and_(unlabelled)
    z = logits[:, foreground]
    numbers = z.max(0).indices
    kept = wanted[numbers]
    found = foreground.masked_scatter(foreground, kept)
    numbers = numbers[kept]
    if log_odds is None:
        return found, numbers, None
    return found, numbers, log_odds(z[None, :, kept])[0].gather(0, numbers[None] - 1)[0]
