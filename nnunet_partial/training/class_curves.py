"""Pseudo Dice of every class in every source, an epoch at a time: a CSV and a picture beside nnU-Net's progress.png."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_partial.labels import Annotation, replacing, write_text
from nnunet_partial.report.class_curves import ALL_SOURCES, COLUMNS, CSV_NAME, PNG_NAME, draw_class_curves, read_class_curves


class ClassCurves:
    """The curves of one fold. The CSV is their only memory: a resumed training cuts it where its checkpoint stands.

    A row is written for each source and class that the source's cases judge; its pseudo Dice is empty in epochs whose
    validation patches neither held nor were predicted to hold the class.

    Args:
        annotation: Label space, protocols and sources of the cases.
        folder: The fold's folder.
    """

    def __init__(self, annotation: Annotation, folder: Path | str):
        self.annotation = annotation
        self.sources = sorted({case.source for case in annotation.cases.values()})
        self.folder = Path(folder)
        self._row_of = {source: row for row, source in enumerate(self.sources)}
        self._judged = self._judged_pairs()

    def by_source(self, counts: np.ndarray, keys: Sequence[str]) -> np.ndarray:
        """Add the counts of a batch's cases up by source.

        Args:
            counts: True positives, false positives, false negatives, in voxels.
            keys: Case identifiers in the order of the batch.
        Shape:
            counts (3, B, K); returns (sources, 3, K), K the number of foreground classes.
        """
        total = np.zeros((len(self.sources), *counts[:, 0].shape))
        for position, key in enumerate(keys):
            total[self._row_of[self.annotation.cases[str(key)].source]] += counts[:, position]
        return total

    def add_epoch(self, epoch: int, counts: np.ndarray) -> None:
        """Write an epoch's rows behind those of earlier epochs; rows of this epoch and later ones are replaced.

        Args:
            epoch: Counted from 0.
            counts: The epoch's counts by source.
        Shape:
            counts (sources, 3, K).
        """
        kept = [line for line in self._lines() if int(line.partition(",")[0]) < epoch]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        text.writelines(kept)
        rows = [(ALL_SOURCES, self._judged.any(0), counts.sum(0))]
        rows += [
            (source, judged, of_source) for source, judged, of_source in zip(self.sources, self._judged, counts, strict=True)
        ]
        for source, judged, (tp, fp, fn) in rows:
            for n in np.flatnonzero(judged):
                numbers = [int(tp[n]), int(fp[n]), int(fn[n])]
                writer.writerow([epoch, source, self.annotation.space.classes[n], _dice_text(*numbers), *numbers])
        write_text(text.getvalue(), self.folder / CSV_NAME)

    def draw(self) -> None:
        """Draw what the CSV holds."""
        curves = read_class_curves(self.folder / CSV_NAME)
        if not curves:  # every class is annotated in unions only
            return
        with replacing(self.folder / PNG_NAME) as temporary:
            draw_class_curves(curves, self.sources, temporary)

    def _lines(self) -> list[str]:
        file = self.folder / CSV_NAME
        return file.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if file.exists() else []

    def _judged_pairs(self) -> np.ndarray:
        """(sources, K) bool: whether any case of the source judges the class, under an id of its own."""
        judged = np.zeros((len(self.sources), len(self.annotation.space.classes)), dtype=bool)
        for source, protocol in {(case.source, case.protocol) for case in self.annotation.cases.values()}:
            for classes in self.annotation.protocols[protocol].labels.values():
                if len(classes) == 1:
                    judged[self._row_of[source], self.annotation.space.id_of(classes[0]) - 1] = True
        return judged


def _dice_text(tp: int, fp: int, fn: int) -> str:
    return f"{2 * tp / (2 * tp + fp + fn):.4f}" if tp + fp + fn else ""
