"""What a conversion would do, in words, before anything is read or written."""

from collections import Counter
from pathlib import Path

from nnunet_partial.dataset_conversion.journal import Journal
from nnunet_partial.dataset_conversion.pool_config import PoolConfig
from nnunet_partial.dataset_conversion.work import Work, finished_records, plan_work, skipped_lines


def describe_pool(config: Path | PoolConfig, output_root: Path, *, copy: bool = False) -> str:
    """What `convert_pool` would do, in words; reads file names and writes nothing.

    Raises:
        ConversionError: faults of the pool, of its folders or of the place where the dataset would go; all are listed.
    """
    work = plan_work(config, output_root, copy=copy)
    journal = Journal(work.folder)
    finished = sum(record is not None for record in finished_records(work, journal)[1].values())
    cases = Counter((job.source_name, job.protocol_name) for job in work.jobs)
    lines = [
        f"{work.folder}: {len(work.jobs)} cases ({finished} are finished), labels 0 background, "
        + ", ".join(f"{n} {c}" for n, c in enumerate(work.pool.classes, 1))
    ]
    roots = {source.config.prefix: source.root for source in work.sources}
    for (name, protocol_name), count in cases.items():
        lines.append(f"  {name}: {count} cases from {roots[name]}; {_looked_for(work, protocol_name)}")
    drawn = Counter((job.source_name, who.name, who.protocol_name) for job in work.jobs for who in job.annotators)
    for (name, annotator, protocol_name), count in drawn.items():
        lines.append(f"  {name}, annotator {annotator}: {count} of these cases; {_looked_for(work, protocol_name)}")
    lines += [f"  {line.replace(' skipped', ' would be skipped', 1)}" for line in skipped_lines(work.skipped)]
    lines += [f"  {sentence}: take care how they are split" for sentence in work.overlaps]
    lines += [f"  fault: source '{record.source}': {record.reason}" for record in work.faults]
    lines += [f"  case '{identifier}' would be removed: it is no longer in the pool" for identifier in work.stale(journal)]
    return "\n".join(lines)


def _looked_for(work: Work, protocol_name: str) -> str:
    protocol = work.protocols[protocol_name]
    annotated = ", ".join(f"{number} = {' or '.join(classes)}" for number, classes in protocol.labels.items())
    missing = [name for name in work.pool.classes if name not in protocol.annotated_classes]
    return f"annotated: {annotated or 'nothing'}; unannotated: {', '.join(missing) or 'nothing'}"
