"""What earlier conversions left in a dataset's folder: half files, cases and annotators that are no longer in the pool."""

from collections.abc import Iterable
from pathlib import Path

from nnunet_partial.dataset_conversion.case_job import ANNOTATORS_FOLDER, FILE_ENDING, CaseJob
from nnunet_partial.dataset_conversion.journal import Journal
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.work import Work

CASE_FOLDERS = ("imagesTr", "labelsTr")


def remove_leftovers(work: Work, journal: Journal, part: list[CaseJob]) -> None:
    """Remove half files of a killed run, and the cases that are no longer in the pool; refuse files that are not ours.

    Raises:
        ConversionError: files in the dataset that no conversion made; all are listed.
    """
    annotators = sorted(path for path in (work.folder / ANNOTATORS_FOLDER).glob("*") if path.is_dir())
    folders = [*(work.folder / name for name in CASE_FOLDERS), *annotators]
    _remove_half_files([journal.folder, *folders], part, everything=len(part) == len(work.jobs))
    for identifier in work.stale(journal):
        for folder in folders:
            for ending in (f"_0000{FILE_ENDING}", FILE_ENDING):
                (folder / f"{identifier}{ending}").unlink(missing_ok=True)
        journal.forget(identifier)
        print(f"removed case '{identifier}': it is no longer in the pool")
    ours = {path for job in work.jobs for path in job.results}
    for path in _of_former_annotators(journal, annotators, ours):
        path.unlink(missing_ok=True)
        print(f"removed '{path.relative_to(work.folder)}': this annotator of the case is no longer in the pool")
    foreign = [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path not in ours and not path.name.startswith(".")  # another part's half files
    ]
    if foreign:
        raise ConversionError(
            [f"'{path}' was not made by this conversion; move it away" for path in foreign], where=work.folder.name
        )


def _of_former_annotators(journal: Journal, folders: list[Path], ours: set[Path]) -> list[Path]:
    """Label maps that an earlier conversion made of annotators whom the cases of this pool no longer have."""
    names = {f"{identifier}{FILE_ENDING}" for identifier in journal.identifiers()}
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.name in names and path not in ours]


def _remove_half_files(folders: Iterable[Path], part: list[CaseJob], *, everything: bool) -> None:
    """Remove what a killed run left half written; a part leaves alone what another part may be writing."""
    names = {path.name for job in part for path in job.results} | {f"{job.identifier}.json" for job in part}
    for path in [path for folder in folders for path in folder.glob(".*.tmp*")]:
        if everything or any(path.name.startswith(f".{name}.") for name in names):
            path.unlink(missing_ok=True)
