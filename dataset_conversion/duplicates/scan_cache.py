"""Hashes of many scans: side by side, and each only once as long as its file stays as it is."""

import hashlib
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_partial.dataset_conversion.case import UNREADABLE
from nnunet_partial.dataset_conversion.duplicates.scan_hash import HASH_VERSION, ScanHash, hash_scan
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.workers import in_parallel
from nnunet_partial.labels import replacing

CACHE_FOLDER = ".scan_hashes"


@dataclass(frozen=True)
class ScanFile:
    """One scan that is to be compared.

    Attributes:
        name: The case's identifier, or the path of a held-out scan.
        path: Its image file.
        source: The dataset it came from, in words by which it is known; "" where unknown.
        held_out: Whether it must not be among the training cases.
    """

    name: str
    path: Path
    source: str = ""
    held_out: bool = False


def hash_scans(
    scans: list[ScanFile], cache: Path, *, is_ct: bool, num_processes: int = 1, progress: bool = True
) -> dict[str, ScanHash]:
    """The hash of every scan by its name, in the order of the scans.

    Each finished hash is a small file in the cache, so a killed run goes on where it stopped.

    Args:
        scans: What to hash.
        cache: A folder; made where it is missing.
        is_ct: Whether intensities are HU.
        num_processes: Scans hashed at the same time, which bounds the memory.
        progress: Whether to show a progress bar.

    Raises:
        ConversionError: scans that cannot be read (all are listed).
        RuntimeError: a worker was killed.
    """
    if num_processes < 1:
        raise ValueError(f"-np {num_processes}: at least one process is needed")
    cache.mkdir(exist_ok=True)
    for half in cache.glob(".*.tmp*"):
        half.unlink(missing_ok=True)
    found = {scan.name: _cached(scan, cache, is_ct) for scan in scans}
    missing = [scan for scan in scans if found[scan.name] is None]
    faults = {}
    with tqdm(
        total=len(scans), initial=len(scans) - len(missing), desc="hashing", unit="scan", disable=None if progress else True
    ) as bar:
        for scan, result in in_parallel(partial(_hash_one, cache=cache, is_ct=is_ct), missing, num_processes):
            (found if isinstance(result, ScanHash) else faults)[scan.name] = result
            bar.update()
    if faults:
        raise ConversionError([faults[scan.name] for scan in scans if scan.name in faults])
    return found


def _hash_one(scan: ScanFile, cache: Path, is_ct: bool) -> ScanHash | str:
    try:
        state = _state(scan, is_ct)
        scan_hash = hash_scan(scan.path, is_ct=is_ct)
    except UNREADABLE as error:
        return f"scan '{scan.path}': {error}"
    with replacing(_cache_file(scan, cache)) as temporary:
        np.savez_compressed(temporary, state=state, **vars(scan_hash))
    return scan_hash


def _cached(scan: ScanFile, cache: Path, is_ct: bool) -> ScanHash | None:
    """The hash from the cache, if the image file is what it was."""
    try:
        with np.load(_cache_file(scan, cache)) as entry:
            if str(entry["state"]) != _state(scan, is_ct):
                return None
            return ScanHash(str(entry["voxels"]), str(entry["histogram"]), entry["stacks"], entry["coarse"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _cache_file(scan: ScanFile, cache: Path) -> Path:
    return cache / f"{hashlib.sha256(str(scan.path.absolute()).encode()).hexdigest()[:24]}.npz"


def _state(scan: ScanFile, is_ct: bool) -> str:
    status = scan.path.stat()
    return f"{HASH_VERSION} {is_ct} {status.st_size} {status.st_mtime_ns}"
