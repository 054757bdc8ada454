"""All cases of a pool into one dataset of nnU-Net: in parallel, restartable, dataset.json last."""

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path

from tqdm import tqdm

from nnunet_partial.dataset_conversion.case import FILE_ENDING, UNREADABLE, CaseJob, convert_case
from nnunet_partial.dataset_conversion.journal import Journal
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.pool import PoolConfig
from nnunet_partial.dataset_conversion.work import Work, finished_records, plan_work
from nnunet_partial.labels import (
    ANNOTATION_KEY,
    MANIFEST_NAME,
    CaseRecord,
    LabelManifest,
    SkippedRecord,
    SourceRecord,
    write_json,
    write_manifest,
)

_CASE_FOLDERS = ("imagesTr", "labelsTr")


def convert_pool(
    config: Path | PoolConfig, output_root: Path, num_processes: int = 1, progress: bool = True, *, copy: bool = False
) -> Path:
    """Convert the sources of a pool into one dataset below `output_root`.

    A killed run goes on where it stopped. A run with a changed pool converts what changed and removes cases that left it.

    Args:
        config: A pool, or the path of a pool file.
        output_root: The nnUNet_raw folder.
        num_processes: Cases that are converted at the same time.
        progress: Whether to show a progress bar.
        copy: Copy image files that can stay as they are, in place of linking them.

    Returns:
        The dataset's folder, with imagesTr, labelsTr, dataset.json and label_manifest.json.

    Raises:
        ConversionError: faults of the pool, or of its cases; all are listed. Faulty cases leave no dataset.json behind.
    """
    work = plan_work(config, output_root, copy=copy)
    journal = Journal(work.folder)
    journal.folder.mkdir(parents=True, exist_ok=True)
    for name in _CASE_FOLDERS:
        (work.folder / name).mkdir(exist_ok=True)
    _say_skipped(work.skipped)
    fingerprints, records = finished_records(work, journal)
    open_jobs = [job for job in work.jobs if records[job.identifier] is None]
    if open_jobs or work.stale(journal):
        for name in ("dataset.json", MANIFEST_NAME):  # they are true of a finished dataset only
            (work.folder / name).unlink(missing_ok=True)
    _remove_leftovers(work, journal)
    faults = {}
    num_finished = len(work.jobs) - len(open_jobs)
    with tqdm(total=len(work.jobs), initial=num_finished, desc="converting", unit="case", disable=not progress) as bar:
        for job, result in _converted(open_jobs, journal, num_processes):
            if isinstance(result, CaseRecord):
                journal.finish(job, result, fingerprints[job.identifier])
                records[job.identifier] = result
            else:
                faults[job.identifier] = result
            bar.update()
    if faults:
        raise ConversionError([faults[job.identifier] for job in work.jobs if job.identifier in faults], where=work.folder.name)
    _write_dataset(work, [records[job.identifier] for job in work.jobs])
    _say_result(work, records, num_converted=len(open_jobs))
    return work.folder


def _remove_leftovers(work: Work, journal: Journal) -> None:
    """Remove half files of a killed run, and the cases that are no longer in the pool; refuse files that are not ours."""
    folders = [work.folder, journal.folder, *(work.folder / name for name in _CASE_FOLDERS)]
    for path in [path for folder in folders for path in folder.glob(".*.tmp*")]:
        path.unlink(missing_ok=True)
    for identifier in work.stale(journal):
        for path in (
            work.folder / "imagesTr" / f"{identifier}_0000{FILE_ENDING}",
            work.folder / "labelsTr" / f"{identifier}{FILE_ENDING}",
        ):
            path.unlink(missing_ok=True)
        journal.forget(identifier)
        print(f"removed case '{identifier}': it is no longer in the pool")
    ours = {path for job in work.jobs for path in (job.image_file, job.label_file)}
    foreign = [path for name in _CASE_FOLDERS for path in sorted((work.folder / name).iterdir()) if path not in ours]
    if foreign:
        raise ConversionError(
            [f"'{path}' was not made by this conversion; move it away" for path in foreign], where=work.folder.name
        )


def _converted(jobs: list[CaseJob], journal: Journal, num_processes: int) -> Iterator[tuple[CaseJob, CaseRecord | str]]:
    """Each job with its record, or with the sentence that says what is wrong, in whatever order they end."""
    for job in jobs:
        journal.begin(job)
    if num_processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, _try_case(job)
        return
    with ProcessPoolExecutor(min(num_processes, len(jobs)), initializer=_end_with_parent) as executor:
        futures = {executor.submit(_try_case, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise ConversionError(
                f"a worker was killed, most likely for lack of memory; run again with fewer processes than -np {num_processes}: "
                "finished cases are kept"
            ) from None
        finally:
            executor.shutdown(cancel_futures=True)


def _try_case(job: CaseJob) -> CaseRecord | str:
    try:
        return convert_case(job)
    except UNREADABLE as error:
        files = f"{job.case.image.relative_to(job.root)}, {job.case.label.relative_to(job.root)}"
        return f"case '{job.identifier}' ({files}): {error}"


def _end_with_parent() -> None:
    """Let a worker end when its parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: wait([parent.sentinel]) and os._exit(1), daemon=True).start()


def _write_dataset(work: Work, records: list[CaseRecord]) -> None:
    manifest = LabelManifest(
        dataset=work.pool.dataset,
        classes=work.pool.classes,
        protocols={source.config.prefix: source.plan.protocol for source in work.sources},
        sources=tuple(
            SourceRecord(
                name=source.config.prefix,
                source=source.config.source,
                path=source.config.path,
                licence=source.source.licence(source.root),
                options=source.config.options,
            )
            for source in work.sources
        ),
        cases=tuple(records),
        skipped=tuple(work.skipped),
    )
    write_manifest(manifest, work.folder / MANIFEST_NAME)
    first = work.sources[0]
    content = {
        "channel_names": first.source.channel_names(first.root),
        "labels": manifest.space.nnunet_labels(),
        "numTraining": len(records),
        "file_ending": FILE_ENDING,
        ANNOTATION_KEY: manifest.annotation().as_json(),
    }
    write_json(content, work.folder / "dataset.json")


def _say_skipped(skipped: list[SkippedRecord]) -> None:
    for record in skipped:
        print(f"skipped {record.source} '{record.item}': {record.reason}")


def _say_result(work: Work, records: dict[str, CaseRecord], *, num_converted: int) -> None:
    for identifier, record in records.items():
        for note in record.notes:
            print(f"note on case '{identifier}': {note}")
    counts = Counter(record.source for record in records.values())
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{work.folder.name}: {len(records)} cases ({said}); {num_converted} converted now, {len(work.skipped)} items skipped")
