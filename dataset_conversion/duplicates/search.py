"""The duplicates of one converted dataset: which files are compared, and what came of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset_conversion.duplicates.find import Duplicate, find_duplicates
from nnunet_partial.dataset_conversion.duplicates.scan_cache import CACHE_FOLDER, ScanFile, hash_scans
from nnunet_partial.dataset_conversion.duplicates.scan_groups import group_pairs
from nnunet_partial.dataset_conversion.duplicates.scan_match import is_large_enough
from nnunet_partial.dataset_conversion.image_files.volume import NIFTI_ENDINGS
from nnunet_partial.dataset_conversion.listing import ConversionError, visible_files
from nnunet_partial.labels import MANIFEST_NAME, Annotation, read_manifest


@dataclass(frozen=True)
class Search:
    """What was found.

    Attributes:
        pairs: Every two files that show the same scan.
        groups: The training cases of each scan that has several, in the order of the dataset.
        in_words: How many were compared and found.
    """

    pairs: list[Duplicate]
    groups: list[tuple[str, ...]]
    in_words: str


def search_dataset(folder: Path, held_out: Sequence[Path] = (), *, num_processes: int = 1, progress: bool = True) -> Search:
    """Compare the cases of a dataset with one another and with held-out scans; of several channels, the first.

    Args:
        folder: The dataset in nnUNet_raw; hashes are kept below it.
        held_out: Folders of NIfTI images.
        num_processes: Scans read at the same time.
        progress: Whether to show progress.

    Raises:
        ConversionError: files that are missing or cannot be read; all are listed.
        LabelError: dataset.json has no annotation.
    """
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    scans = [*_training_scans(folder, dataset_json), *_held_out_scans(held_out)]
    is_ct = dataset_json["channel_names"]["0"].lower() == "ct"
    hashes = hash_scans(scans, folder / CACHE_FOLDER, is_ct=is_ct, num_processes=num_processes, progress=progress)
    pairs = find_duplicates(scans, hashes, num_processes=num_processes, progress=progress)
    cases = [scan.name for scan in scans if not scan.held_out]
    groups = group_pairs([(pair.first, pair.second) for pair in pairs if not pair.held_out], cases)
    hits = sum(pair.held_out for pair in pairs)
    small = sum(not is_large_enough(scan_hash) for scan_hash in hashes.values())
    in_words = f"{len(cases)} cases, {sum(map(len, groups))} of them in {len(groups)} groups that each show one scan"
    if held_out:
        in_words += f"; {len(scans) - len(cases)} held-out scans, {hits} pairs with training cases"
    if small:
        in_words += f"; {small} scans show too little to be compared by likeness, only voxel by voxel"
    return Search(pairs, groups, in_words)


def _training_scans(folder: Path, dataset_json: dict) -> list[ScanFile]:
    ending = dataset_json["file_ending"]
    if ending not in NIFTI_ENDINGS:
        raise ConversionError(f"{folder.name} has images in '{ending}'; only {' and '.join(NIFTI_ENDINGS)} can be compared")
    annotation = Annotation.from_dataset_json(dataset_json)
    words = {name: name for name in (case.source for case in annotation.cases.values())}
    if (folder / MANIFEST_NAME).exists():
        words |= {s.name: f"{s.source} {s.name} {s.path}" for s in read_manifest(folder / MANIFEST_NAME).sources}
    scans = [
        ScanFile(key, folder / "imagesTr" / f"{key}_0000{ending}", words[case.source]) for key, case in annotation.cases.items()
    ]
    missing = [f"case '{scan.name}' has no image '{scan.path}'; convert again" for scan in scans if not scan.path.is_file()]
    if missing:
        raise ConversionError(missing, where=folder.name)
    return scans


def _held_out_scans(folders: Sequence[Path]) -> list[ScanFile]:
    scans: dict[Path, ScanFile] = {}
    for folder in folders:
        files = [path for path in visible_files(folder, "*") if path.name.endswith(NIFTI_ENDINGS)]
        if not files:
            raise ConversionError(
                f"'{folder}' holds no {' or '.join(NIFTI_ENDINGS)} file; name the folder in which the images lie"
            )
        scans.update({path: ScanFile(str(path), path, str(path), held_out=True) for path in files if not _other_channel(path)})
    return list(scans.values())


def _other_channel(path: Path) -> bool:
    """Whether a file is a further channel of a scan in nnU-Net's form."""
    stem, _, ending = path.name.partition(".")
    name, _, channel = stem.rpartition("_")
    return channel.isdigit() and len(channel) == 4 and channel != "0000" and (path.parent / f"{name}_0000.{ending}").exists()
