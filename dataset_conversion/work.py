"""What a pool amounts to: its cases, listed and checked before any of them is read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.dataset_conversion.case import CaseJob
from nnunet_partial.dataset_conversion.journal import JOURNAL_FOLDER, Journal, fingerprint
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.pool import PoolConfig, PreparedSource, load_pool, prepare_pool
from nnunet_partial.labels import CaseRecord, SkippedRecord


@dataclass(frozen=True)
class Work:
    """The cases of a pool.

    Attributes:
        pool: What the user asked for.
        sources: Its sources, checked.
        jobs: Their labelled cases, in the order of the sources and of the cases' numbers.
        skipped: What was left out, and why.
        folder: Where the dataset goes.
    """

    pool: PoolConfig
    sources: list[PreparedSource]
    jobs: list[CaseJob]
    skipped: list[SkippedRecord]
    folder: Path

    def stale(self, journal: Journal) -> list[str]:
        """Cases of an earlier conversion that are no longer in the pool."""
        return sorted(set(journal.identifiers()) - {job.identifier for job in self.jobs})


def finished_records(work: Work, journal: Journal) -> tuple[dict[str, str], dict[str, CaseRecord | None]]:
    """The fingerprint of every case, and its record where it need not be converted again."""
    fingerprints = {job.identifier: fingerprint(job) for job in work.jobs}
    return fingerprints, {job.identifier: journal.finished(job, fingerprints[job.identifier]) for job in work.jobs}


def plan_work(config: Path | PoolConfig, output_root: Path, *, copy: bool) -> Work:
    """List the cases, and check everything that can be checked without opening an image.

    Raises:
        ConversionError: faults of the pool, of its folders or of the place where the dataset would go; all are listed.
    """
    pool = config if isinstance(config, PoolConfig) else load_pool(config)
    sources = prepare_pool(pool)
    folder = Path(output_root).absolute() / pool.dataset.folder_name
    work = Work(pool, sources, [], [], folder)
    faults = _place_faults(folder)
    for source in sources:
        name = source.config.prefix
        listing = source.source.list_cases(source.root)
        faults += [f"source '{name}': {fault}" for fault in listing.faults]
        if not listing.cases:
            faults.append(f"source '{name}': no labelled case below '{source.root}'; expected {source.source.layout}")
        work.skipped.extend(SkippedRecord(source=name, item=item, reason=reason) for item, reason in listing.skipped)
        is_ct = list(source.source.channel_names(source.root).values()) == ["CT"]
        work.jobs.extend(
            CaseJob(
                identifier=f"{name}_{case.name}",
                source_name=name,
                root=source.root,
                case=case,
                plan=source.plan,
                label_grid=source.source.label_grid,
                axes=source.source.axes,
                is_ct=is_ct,
                dataset_folder=folder,
                copy=copy,
            )
            for case in listing.cases
        )
    repeated = [name for name, count in Counter(job.identifier for job in work.jobs).items() if count > 1]
    faults += [f"case identifier '{name}' arises twice; give the sources other names" for name in repeated]
    if faults:
        raise ConversionError(faults, where=folder.name)
    return work


def _place_faults(folder: Path) -> list[str]:
    """Why the dataset cannot go where it should."""
    prefix = folder.name.split("_", 1)[0]
    faults = [
        f"'{other}' has the same id; choose another id, or remove it"
        for other in sorted(folder.parent.glob(f"{prefix}_*"))
        if other != folder
    ]
    if folder.is_dir() and any(folder.iterdir()) and not (folder / JOURNAL_FOLDER).is_dir():
        faults.append(f"'{folder}' exists and was not made by `nnunet_partial convert`; choose another id or name, or remove it")
    return faults


def describe_pool(config: Path | PoolConfig, output_root: Path, *, copy: bool = False) -> str:
    """What `convert_pool` would do, in words; reads file names and writes nothing.

    Raises:
        ConversionError: faults of the pool, of its folders or of the place where the dataset would go; all are listed.
    """
    work = plan_work(config, output_root, copy=copy)
    journal = Journal(work.folder)
    finished = sum(record is not None for record in finished_records(work, journal)[1].values())
    cases = Counter(job.source_name for job in work.jobs)
    lines = [
        f"{work.folder}: {len(work.jobs)} cases ({finished} are finished), labels 0 background, "
        + ", ".join(f"{n} {c}" for n, c in enumerate(work.pool.classes, 1))
    ]
    for source in work.sources:
        name = source.config.prefix
        protocol = ", ".join(f"{number} = {' or '.join(classes)}" for number, classes in source.plan.protocol.labels.items())
        missing = [c for c in work.pool.classes if c not in source.plan.protocol.annotated_classes]
        lines.append(
            f"  {name}: {cases[name]} cases from {source.root}; annotated: {protocol}; "
            f"unannotated: {', '.join(missing) or 'nothing'}"
        )
    lines += [f"  {record.source}: '{record.item}' would be skipped: {record.reason}" for record in work.skipped]
    lines += [f"  case '{identifier}' would be removed: it is no longer in the pool" for identifier in work.stale(journal)]
    return "\n".join(lines)
