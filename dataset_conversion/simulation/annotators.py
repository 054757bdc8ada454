"""Simulated annotators: each draws the boundary of every organ a little elsewhere, and now and then overlooks an organ."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy import ndimage

from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.simulation.boundary import signed_distance_mm, smooth_noise
from nnunet_partial.dataset_conversion.simulation.draw import seeded_order

MOST_ANNOTATORS = 20
_FIELD_MM = 8.0  # how far along a boundary an annotator strays to one side, about
_FIELD_SHIFTS = 4.0  # ... and at least so many shifts: a field that falls by 1 mm in 1 mm tears islands off
_LIMIT_SPREADS = 4.0


@dataclass(frozen=True)
class SimulatedAnnotators:
    """How simulated annotators draw.

    Attributes:
        number: How many there are, 2 to 20.
        shift_mm: Mean distance between the boundary they draw and the true one.
        miss: Probability that one of them overlooks an organ of a case, 0 to below 1.
        seed: Of everything that is drawn.
    """

    number: int
    shift_mm: float
    miss: float
    seed: int

    def __post_init__(self) -> None:
        faults = []
        if not 2 <= self.number <= MOST_ANNOTATORS:
            faults.append(f"--annotators {self.number}: give a number from 2 to {MOST_ANNOTATORS}")
        if not 0 <= self.shift_mm < np.inf:
            faults.append(f"--shift-mm {self.shift_mm:g}: a mean distance in mm is not negative")
        if not 0 <= self.miss < 1:
            faults.append(f"--miss {self.miss:g}: give a probability from 0 to below 1")
        if faults:
            raise ConversionError(faults)

    @property
    def arguments(self) -> dict[str, Any]:
        """As simulation.json says them."""
        return {"annotators" if key == "number" else key: value for key, value in asdict(self).items()}

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(f"annotator{number}" for number in range(1, self.number + 1))

    @property
    def spread_mm(self) -> float:
        """Standard deviation of a normal distribution whose mean distance from 0 is `shift_mm`."""
        return self.shift_mm * float(np.sqrt(np.pi / 2))

    def biases_mm(self, organ: str) -> dict[str, float]:
        """How far outwards each annotator draws an organ on the average, in every case.

        The quantiles of a normal distribution, dealt out by the seed: whatever the number of annotators, their biases add up to
        nothing, so that their majority is not biased, and have half of the variance of all shifts.
        """
        quantiles = np.array([NormalDist().inv_cdf((place + 0.5) / self.number) for place in range(self.number)])
        biases_mm = quantiles / quantiles.std() * self.spread_mm / np.sqrt(2)
        order = seeded_order(self.names, self.seed, "bias", organ)
        return {name: float(bias_mm) for name, bias_mm in zip(order, biases_mm, strict=True)}

    def misses(self, annotator: str, organ: str, case: str) -> bool:
        """Whether an annotator overlooks an organ of a case."""
        return int.from_bytes(self._digest("miss", annotator, organ, case)[:8]) < self.miss * 2**64

    def rng(self, annotator: str, organ: str, case: str) -> np.random.Generator:
        """Where the shape of one drawing comes from; no drawing depends on any other."""
        return np.random.default_rng(int.from_bytes(self._digest("shape", annotator, organ, case)))

    def _digest(self, *purpose: str) -> bytes:
        return hashlib.sha256(json.dumps([self.seed, *purpose]).encode()).digest()


def draw_label_maps(
    truth: np.ndarray, spacing_mm: np.ndarray, organs: Mapping[int, str], case: str, annotators: SimulatedAnnotators
) -> dict[str, np.ndarray]:
    """What each annotator draws of a case.

    An organ is drawn where its signed distance lies below the annotator's shift: bias + smooth noise, each with half of the
    variance. A shift stays within half of the largest depth of the organ, softly (tanh), so that a thin organ is neither lost
    nor swollen; only an overlooked one is drawn nowhere. Where two organs would overlap, a voxel goes to the one whose boundary
    is further away. Where the scan cuts an organ, the cut stays.

    Args:
        truth: Label map.
        spacing_mm: Of its axes.
        organs: Label id -> name of what it stands for.
        case: Its identifier.
        annotators: Who draws.
    Shape:
        truth (*S), three axes; spacing_mm (3,); returns (*S) for each annotator, in the type of the truth.
    """
    drawn = {name: np.zeros_like(truth) for name in annotators.names}
    furthest_mm = {name: np.zeros(truth.shape, dtype=np.float32) for name in annotators.names}  # inside what was drawn
    boxes = ndimage.find_objects(truth, max_label=max(organs, default=1))
    margin = np.ceil(_LIMIT_SPREADS * annotators.spread_mm / np.asarray(spacing_mm)).astype(int) + 1
    length_mm = max(_FIELD_MM, _FIELD_SHIFTS * annotators.shift_mm)
    for number, organ in sorted(organs.items()):
        if boxes[number - 1] is None:
            continue
        box = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(boxes[number - 1], margin, strict=True))
        distance_mm = signed_distance_mm(truth[box] == number, spacing_mm)
        room_mm = -float(distance_mm.min()) / 2
        limit_mm = min(_LIMIT_SPREADS * annotators.spread_mm, room_mm)
        near = np.abs(distance_mm) < limit_mm
        voxels = np.array(np.nonzero(near))
        for name, bias_mm in annotators.biases_mm(organ).items():
            if annotators.misses(name, organ, case):
                continue
            inside_mm = -distance_mm
            if voxels.size:
                noise = smooth_noise(near.shape, spacing_mm, length_mm, annotators.rng(name, organ, case), voxels)
                shift_mm = bias_mm + annotators.spread_mm / np.sqrt(2) * noise
                inside_mm[near] += np.clip(room_mm * np.tanh(shift_mm / room_mm), -limit_mm, limit_mm)
            wins = inside_mm > furthest_mm[name][box]
            drawn[name][box][wins] = number
            furthest_mm[name][box][wins] = inside_mm[wins]
    return drawn
