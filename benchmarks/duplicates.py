"""How far apart copies of a scan, other phases of it, and other patients lie: the figures of docs/duplicates.md.

    python -m benchmarks.duplicates BTCV_FOLDER [--every 6]

The folder holds img/ and label/; every n-th scan is altered, all are compared with one another.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from nnunet_partial.dataset_conversion.duplicates.scan_hash import FLIPS, ScanHash, coarse_scan, stack_hashes
from nnunet_partial.dataset_conversion.duplicates.scan_match import MAX_HAMMING, correlation, hamming_distances
from nnunet_partial.dataset_conversion.image_files.volume import Volume, read_labels, read_nifti, to_ras

# HU taken from organs that contrast agent reaches in the portal venous phase, by BTCV label id: about what a native scan shows
WASHOUT_HU = {1: 65, 2: 140, 3: 140, 6: 50, 7: 20, 8: 110, 9: 90, 10: 100, 11: 45}


def altered(intensities: np.ndarray, spacing_mm: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Copies of a scan in RAS, and simulated second acquisitions, each with its spacing."""
    noise = np.random.default_rng(0)
    depth = intensities.shape[2]
    for name, target in (("1.5 x 1.5 x 2 mm", (1.5, 1.5, 2)), ("4 mm", (4, 4, 4)), ("5 mm slices", (*spacing_mm[:2], 5))):
        resampled = ndimage.zoom(intensities, spacing_mm / target, order=1)
        yield f"resampled to {name}", resampled, spacing_mm * intensities.shape / resampled.shape
    yield "middle 70 % of the slices", intensities[:, :, int(0.15 * depth) : int(0.85 * depth)], spacing_mm
    yield "lower half of the slices", intensities[:, :, : depth // 2], spacing_mm
    yield "upper half of the slices", intensities[:, :, depth - depth // 2 :], spacing_mm
    yield "cropped in plane", intensities[12:-12, 15:-15], spacing_mm
    yield "clipped to [-100, 240] HU", intensities.clip(-100, 240), spacing_mm
    yield "clipped to [-57, 164] HU", intensities.clip(-57, 164), spacing_mm
    for sigma in (20, 50):
        yield f"noise of {sigma} HU", intensities + noise.normal(0, sigma, intensities.shape), spacing_mm
    yield "flipped left-right", intensities[::-1], spacing_mm
    yield "flipped front-back", intensities[:, ::-1], spacing_mm
    yield "flipped head-foot", intensities[:, :, ::-1], spacing_mm
    both = ndimage.zoom(intensities, spacing_mm / 2, order=1)[::-1][10:-10, 10:-10]
    both = both[:, :, both.shape[2] // 5 :].clip(-110, 250)
    yield "resampled, flipped, cropped, clipped, noise of 20 HU", both + noise.normal(0, 20, both.shape), np.full(3, 2.0)
    washout = sum((labels == number) * np.float32(hu) for number, hu in WASHOUT_HU.items())
    phase = intensities - ndimage.gaussian_filter(washout, 1) + noise.normal(0, 15, intensities.shape)
    yield "OTHER PHASE, not moved", phase, spacing_mm
    for shift_mm in (5, 10):
        place = np.indices(intensities.shape, dtype=np.float32)
        place[2] += shift_mm / spacing_mm[2] * np.linspace(0.3, 1, intensities.shape[1])[None, :, None]
        yield f"OTHER PHASE, breath of {shift_mm} mm", ndimage.map_coordinates(phase, place, order=1, mode="nearest"), spacing_mm


def hashed(intensities: np.ndarray, spacing_mm: np.ndarray) -> ScanHash:
    """The hashes of an array in RAS; its digests are not needed here."""
    coarse = coarse_scan(Volume(intensities, np.diag([*spacing_mm, 1.0])), is_ct=True)
    return ScanHash("", "", stack_hashes(coarse), coarse)


def compare(first: ScanHash, second: ScanHash) -> tuple[int, float]:
    """Smallest Hamming distance, and the correlation under its flip."""
    distances = [
        min(hamming_distances([first], [second], n)[0, 0], hamming_distances([second], [first], n)[0, 0])
        for n in range(len(FLIPS))
    ]
    x, y, z = FLIPS[int(np.argmin(distances))]
    return int(min(distances)), correlation(first.coarse, second.coarse[::x, ::y, ::z])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=6, metavar="N", help="alter every n-th scan (default: 6)")
    args = parser.parse_args()
    images = sorted((args.folder / "img").glob("*.nii.gz"))
    volumes = [to_ras(read_nifti(path)) for path in images]
    spacings_mm = [np.linalg.norm(volume.affine[:3, :3], axis=0) for volume in volumes]
    hashes = [hashed(volume.intensities(), spacing) for volume, spacing in zip(volumes, spacings_mm, strict=True)]
    rows: dict[str, list[tuple[int, float]]] = {}
    for number in range(0, len(images), args.every):
        path = args.folder / "label" / images[number].name.replace("img", "label")
        labels = to_ras(read_labels(path)).array
        for name, copy, spacing_mm in altered(volumes[number].intensities(), spacings_mm[number], labels):
            rows.setdefault(name, []).append(compare(hashes[number], hashed(copy, spacing_mm)))
    print_rows(rows)
    began = time.process_time()
    pairs = [compare(hashes[i], hashes[j]) for i in range(len(hashes)) for j in range(i)]
    print_rows({"OTHER PATIENT": pairs})
    near = sum(distance <= MAX_HAMMING for distance, _ in pairs)
    print(
        f"{near} of {len(pairs)} pairs of patients become candidates; {(time.process_time() - began) / len(pairs):.2f} s a pair"
    )


def print_rows(rows: dict[str, list[tuple[int, float]]]) -> None:
    """One line for each alteration."""
    for name, found in rows.items():
        bits, values = (f"{min(column):.4g} to {max(column):.4g}" for column in zip(*found, strict=True))
        print(f"| {name} | {len(found)} | {bits} | {values} |", flush=True)


if __name__ == "__main__":
    main()
