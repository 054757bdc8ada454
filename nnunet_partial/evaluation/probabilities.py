"""nnU-Net's .npz probabilities of one case against its reference, over annotated classes."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nnunet_partial.evaluation.calibration import CalibrationCounts
from nnunet_partial.evaluation.case import ClassKey
from nnunet_partial.evaluation.regions import Region, grown_box, judged_regions
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

MARGIN_MM = 10.0
_ENTRY = "probabilities"
_MARGIN_OF_ERROR = 0.01  # of a probability; `nnUNetv2_predict` keeps half precision
_MAX_DISAGREEMENT = 0.01  # share of voxels: postprocessing changes few


def calibration_counts(
    probability_file: Path,
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    protocol: AnnotationProtocol,
    space: LabelSpace,
) -> dict[ClassKey, CalibrationCounts]:
    """Counts of every class that was looked for, over the box around reference and prediction grown by MARGIN_MM.

    A box, because the far background, right with probability 1, would hide everything else. A class that neither shows has no
    box and counts nothing. Classes that share an id are taken together: their probabilities add up. Voxels with the ignore
    label are left out. One class's probabilities are in memory at a time.

    Raises:
        ValueError: the file cannot be read, or its probabilities are not those of this prediction.
    """
    regions = {key: region for key, region in judged_regions(reference, prediction, protocol, space) if region is not None}
    margin = [int(np.ceil(MARGIN_MM / step)) for step in spacing_mm]
    boxes = {key: grown_box(region.box, margin, reference.shape) for key, region in regions.items()}
    summed = {key: np.zeros([part.stop - part.start for part in box], dtype=np.float32) for key, box in boxes.items()}
    for number, channel in enumerate(checked_channels(probability_file, prediction, space.num_classes)):
        for key, sums in summed.items():
            if number in (key if isinstance(key, tuple) else (key,)):
                sums += channel[boxes[key]]
    counts = {}
    for key, region in regions.items():
        known = reference[boxes[key]] != space.ignore_id  # None is no id
        masks = [_placed(mask, region, boxes[key]) for mask in (region.reference, region.prediction)]
        counts[key] = CalibrationCounts.of_voxels(summed[key][known], masks[0][known], masks[1][known])
    return counts


def checked_channels(path: Path, prediction: np.ndarray, num_classes: int) -> Iterator[np.ndarray]:
    """The classes' probabilities one after another, background first.

    After the last one it is known whether the prediction is their argmax; until then nothing computed of them is certain.

    Shape:
        prediction *S; yields *S, in the type of the file.

    Raises:
        ValueError: the file cannot be read, or its probabilities are not those of this prediction.
    """
    highest = np.zeros(prediction.shape, dtype=np.float32)
    of_predicted = np.zeros(prediction.shape, dtype=np.float32)
    for number, channel in enumerate(_channels(path, (num_classes, *prediction.shape))):
        np.maximum(highest, channel, out=highest)
        np.copyto(of_predicted, channel, where=prediction == number)
        yield channel
    disagreement = np.mean(of_predicted < highest - _MARGIN_OF_ERROR)
    if disagreement > _MAX_DISAGREEMENT:
        raise ValueError(
            f"{path}: in {disagreement:.1%} of the voxels another class than the predicted one has the highest "
            "probability; give the .npz that were saved with these predictions, in the same orientation"
        )


def probability_faults(path: Path, shape: tuple[int, ...]) -> list[str]:
    """What keeps a file from holding the probabilities of these classes and voxels; a look at its header only.

    Shape:
        shape is (C, *S).
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{_ENTRY}.npy") as stream:
            _check_header(stream, shape)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        return [f"{path}: {str(error).strip(chr(34))}"]
    return []


def reaches(probability: np.ndarray, level: float) -> np.ndarray:
    """Where a probability is at least the level, which is rounded as the file is: half precision has 0.09998 for 0.1.

    Shape:
        probability *S, floating; returns *S bool.
    """
    return probability >= probability.dtype.type(level)


def _placed(mask: np.ndarray, region: Region, box: tuple[slice, ...]) -> np.ndarray:
    """A region's mask within a larger box."""
    placed = np.zeros([part.stop - part.start for part in box], dtype=bool)
    inner = (slice(small.start - big.start, small.stop - big.start) for small, big in zip(region.box, box, strict=True))
    placed[tuple(inner)] = mask
    return placed


def _channels(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The classes' probabilities one after another, without unpacking all of them at once."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{_ENTRY}.npy") as stream:
            dtype = _check_header(stream, shape)
            size = dtype.itemsize * int(np.prod(shape[1:]))
            for _ in range(shape[0]):
                yield np.frombuffer(stream.read(size), dtype=dtype).reshape(shape[1:])
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path}: {str(error).strip(chr(34))}") from None


def _check_header(stream, shape: tuple[int, ...]) -> np.dtype:
    """The type of the probabilities that follow in the stream, where they have this shape."""
    found, fortran_order, dtype = _header(stream)
    if found != shape:
        raise ValueError(f"probabilities have shape {found}, {shape} (classes, z, y, x) is expected")
    if fortran_order or dtype.kind != "f":
        raise ValueError(f"probabilities of type {dtype}{' in Fortran order' * fortran_order} cannot be read in pieces")
    return dtype


def _header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return readers[np.lib.format.read_magic(stream)](stream)
