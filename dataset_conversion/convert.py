"""All cases of a pool into one dataset of nnU-Net: in parallel, restartable, dataset.json last."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from nnunet_partial.dataset_conversion.case_job import FILE_ENDING, CaseJob
from nnunet_partial.dataset_conversion.duplicates.scan_groups import with_recorded_scans
from nnunet_partial.dataset_conversion.journal import Journal
from nnunet_partial.dataset_conversion.leftovers import CASE_FOLDERS, remove_leftovers
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.pool_config import PoolConfig
from nnunet_partial.dataset_conversion.run_cases import run_cases
from nnunet_partial.dataset_conversion.work import Work, finished_records, plan_work, skipped_lines
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
from nnunet_partial.labels.manifest import protocols_in_use


@dataclass(frozen=True)
class ConvertOptions:
    """How a pool is converted; none of it changes what comes out.

    Attributes:
        num_processes: Cases that are converted at the same time.
        progress: Whether to show a progress bar.
        copy: Copy image files that can stay as they are, in place of linking them.
        skip_bad: Leave faulty cases out (the manifest lists them) in place of refusing the dataset.
        part: (which, of how many): convert every n-th case only; the part that ends last writes dataset.json.
        scheduler: Address of a Dask scheduler whose workers convert.
    """

    num_processes: int = 1
    progress: bool = True
    copy: bool = False
    skip_bad: bool = False
    part: tuple[int, int] = (0, 1)
    scheduler: str | None = None

    def __post_init__(self) -> None:
        part_id, num_parts = self.part
        if not 0 <= part_id < num_parts:
            raise ValueError(f"-part_id {part_id} of -num_parts {num_parts}: parts are numbered from 0 to {num_parts - 1}")
        if self.num_processes < 1:
            raise ValueError(f"-np {self.num_processes}: at least one process is needed")
        if self.skip_bad and num_parts > 1:
            raise ValueError(
                "--skip-bad cannot be used for a part: no part knows of another's faulty cases; "
                "run all parts, then once more without -num_parts"
            )


def convert_pool(config: Path | PoolConfig, output_root: Path, options: ConvertOptions | None = None) -> Path:
    """Convert the sources of a pool into one dataset below `output_root`.

    A killed run goes on where it stopped. A run with a changed pool converts what changed and removes cases that left it.

    Args:
        config: A pool, or the path of a pool file.
        output_root: The nnUNet_raw folder.
        options: How to do it.

    Returns:
        The dataset's folder, with imagesTr, labelsTr, dataset.json and label_manifest.json; of a part of the work, perhaps
        without the latter two.

    Raises:
        ConversionError: faults of the pool, or of its cases; all are listed. Faulty cases leave no dataset.json behind.
    """
    options = options or ConvertOptions()
    work = plan_work(config, output_root, copy=options.copy)
    journal = Journal(work.folder)
    journal.folder.mkdir(parents=True, exist_ok=True)
    for name in CASE_FOLDERS:
        (work.folder / name).mkdir(exist_ok=True)
    overlaps = [f"{sentence}: take care how they are split" for sentence in work.overlaps]
    for line in [
        *overlaps,
        *skipped_lines(work.skipped),
        *(f"fault: source '{fault.source}': {fault.reason}" for fault in work.faults),
    ]:
        print(line)
    part_id, num_parts = options.part
    part = work.jobs[part_id::num_parts]
    fingerprints, records = finished_records(work, journal)
    open_jobs = [job for job in part if records[job.identifier] is None]
    if open_jobs or work.faults or work.stale(journal):
        for name in ("dataset.json", MANIFEST_NAME):  # they are true of a finished dataset only
            (work.folder / name).unlink(missing_ok=True)
    remove_leftovers(work, journal, part)
    faults = _run(open_jobs, len(part), journal, fingerprints, records, options)
    _judge_faults(work, faults, records, skip_bad=options.skip_bad)
    if num_parts > 1:
        records = finished_records(work, journal)[1]  # what the other parts have done meanwhile
        num_open = sum(record is None for record in records.values())
        if num_open:
            print(f"part {part_id} of {num_parts} is done; {num_open} cases of other parts are open")
            return work.folder
    _write_dataset(work, [records[job.identifier] for job in work.jobs if records[job.identifier]])
    _say_result(work, records, num_converted=len(open_jobs))
    return work.folder


def _run(
    jobs: list[CaseJob],
    num_cases: int,
    journal: Journal,
    fingerprints: dict[str, str],
    records: dict[str, CaseRecord | None],
    options: ConvertOptions,
) -> dict[str, str]:
    """Convert the open cases into `records` and the journal; returns what is wrong with the others."""
    faults = {}
    for job in jobs:
        journal.begin(job)
    with tqdm(
        total=num_cases, initial=num_cases - len(jobs), desc="converting", unit="case", disable=not options.progress
    ) as bar:
        for job, result in run_cases(jobs, options.num_processes, options.scheduler) if jobs else ():
            if isinstance(result, CaseRecord):
                journal.finish(job, result, fingerprints[job.identifier])
                records[job.identifier] = result
            else:
                faults[job.identifier] = result
            bar.update()
    return faults


def _judge_faults(work: Work, faults: dict[str, str], records: dict[str, CaseRecord | None], *, skip_bad: bool) -> None:
    """Refuse the dataset for its faults, all of them in one report, or list them as skipped where that was asked for."""
    bad = [job for job in work.jobs if job.identifier in faults]
    if not skip_bad or not any(records.values()):
        found = [f"source '{fault.source}': {fault.reason}" for fault in work.faults] + [faults[job.identifier] for job in bad]
        if found:
            raise ConversionError(found, where=work.folder.name)
        return
    for path in [path for job in bad for path in job.results]:
        path.unlink(missing_ok=True)
    skipped = [*work.faults, *(SkippedRecord(source=j.source_name, item=j.identifier, reason=faults[j.identifier]) for j in bad)]
    for record in skipped:
        print(f"skipped as faulty: {record.reason}")
    work.skipped.extend(skipped)


def _write_dataset(work: Work, records: list[CaseRecord]) -> None:
    in_use = protocols_in_use(records)
    manifest = LabelManifest(
        dataset=work.pool.dataset,
        classes=work.pool.classes,
        protocols={name: protocol for name, protocol in work.protocols.items() if name in in_use},
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
        ANNOTATION_KEY: with_recorded_scans(manifest.annotation(), work.folder).as_json(),
    }
    write_json(content, work.folder / "dataset.json")


def _say_result(work: Work, records: dict[str, CaseRecord | None], *, num_converted: int) -> None:
    done = {identifier: record for identifier, record in records.items() if record is not None}
    for identifier, record in done.items():
        for note in record.notes:
            print(f"note on case '{identifier}': {note}")
    counts = Counter(record.source for record in done.values())
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"{work.folder.name}: {len(done)} cases ({said}); {num_converted} converted now, {len(work.skipped)} items skipped")
