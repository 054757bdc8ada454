"""What a pool amounts to: its cases, listed and checked before any of them is read."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_partial.dataset_conversion.case_job import AnnotatorJob, CaseJob
from nnunet_partial.dataset_conversion.dataset_ids import same_id_faults
from nnunet_partial.dataset_conversion.journal import JOURNAL_FOLDER, Journal, fingerprint
from nnunet_partial.dataset_conversion.label_plan import LabelPlan
from nnunet_partial.dataset_conversion.listing import CaseAnnotator, ConversionError, Listing, SourceCase
from nnunet_partial.dataset_conversion.majority import majority_protocol
from nnunet_partial.dataset_conversion.pool import PreparedSource, case_plan, known_overlaps, load_pool, prepare_pool
from nnunet_partial.dataset_conversion.pool_config import PoolConfig
from nnunet_partial.dataset_conversion.sources import SOURCES
from nnunet_partial.labels import AnnotationProtocol, CaseRecord, SkippedRecord, first_of


@dataclass(frozen=True)
class Work:
    """The cases of a pool.

    Attributes:
        pool: What the user asked for.
        sources: Its sources, checked.
        jobs: Their cases, in the order of the sources and of the cases' numbers.
        protocols: The annotation protocols of these cases by name.
        skipped: What was left out, and why.
        overlaps: Which sources hold the same scans, where the pool allows that.
        faults: What is wrong with single items of a source; the other cases can be converted all the same.
        folder: Where the dataset goes.
    """

    pool: PoolConfig
    sources: list[PreparedSource]
    jobs: list[CaseJob]
    protocols: dict[str, AnnotationProtocol]
    skipped: list[SkippedRecord]
    overlaps: list[str]
    faults: list[SkippedRecord]
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
        ConversionError: faults of the pool, of its folders or of the place where the dataset would go; all are listed. Faults of
            single items of a source alone are no reason to stop: they stand in the result.
    """
    pool = config if isinstance(config, PoolConfig) else load_pool(config)
    sources = prepare_pool(pool)
    folder = Path(output_root).absolute() / pool.dataset.folder_name
    work = Work(pool, sources, [], {}, [], known_overlaps(sources), [], folder)
    faults = _place_faults(folder)
    for source in sources:
        listing = source.source.list_cases(source.root)
        if not listing.cases and not listing.faults:
            faults.append(
                f"source '{source.config.prefix}': no labelled case below '{source.root}'; expected {source.source.layout}"
                + _other_layout(source.root)
            )
        _add_source(work, source, listing, copy=copy)
    repeated = [name for name, count in Counter(job.identifier for job in work.jobs).items() if count > 1]
    faults += [f"case identifier '{name}' arises twice; give the sources other names" for name in repeated]
    if faults:
        raise ConversionError(
            [*faults, *(f"source '{fault.source}': {fault.reason}" for fault in work.faults)], where=folder.name
        )
    return work


def _add_source(work: Work, source: PreparedSource, listing: Listing, *, copy: bool) -> None:
    """The cases of one source, what of it is left out, and the protocols its cases need."""
    name = source.config.prefix
    cases = list(listing.cases)
    if source.config.unlabelled == "keep":
        cases += [replace(case, looked_for=()) for case in listing.unlabelled]
    else:
        listing.skipped += [(str(case.image.relative_to(source.root)), "no label belongs to it") for case in listing.unlabelled]
    work.skipped.extend(SkippedRecord(source=name, item=item, reason=reason) for item, reason in listing.skipped)
    work.faults.extend(SkippedRecord(source=name, item=str(source.root), reason=fault) for fault in listing.faults)
    is_ct = list(source.source.channel_names(source.root).values()) == ["CT"]
    names = {tuple(source.plan.protocol.labels.items()): name}
    for case in cases:
        whole_plan = _plan_of(work, source, case)
        case, plan, annotators = _voters(work, source, case, whole_plan)
        if not plan.protocol.labels:
            if source.config.unlabelled != "keep":
                reason = "none of the pool's classes was looked for"
                work.skipped.append(SkippedRecord(source=name, item=case.name, reason=reason))
                continue
            case = replace(case, label_files=(), looked_for=())
        work.jobs.append(
            CaseJob(
                identifier=f"{name}_{case.name}",
                source_name=name,
                protocol_name=_named(work, names, plan.protocol),
                protocol=plan.protocol,
                root=source.root,
                case=replace(case, label_files=_used_files(case.label_files, source, plan)),
                plan=plan,
                read_labels=source.source.read_labels,
                label_grid=source.source.label_grid,
                axes=source.source.axes,
                is_ct=is_ct,
                dataset_folder=work.folder,
                copy=copy,
                annotators=tuple(
                    AnnotatorJob(who.name, _used_files(who.files, source, own), _named(work, names, own.protocol), own)
                    for who, own in annotators
                ),
            )
        )


def _named(work: Work, names: dict[tuple, str], protocol: AnnotationProtocol) -> str:
    """The name of a protocol within its source: the source's own for the first one."""
    first = next(iter(names.values()))
    following = f"{first}_{len(names) + 1}" if protocol.labels else f"{first}_unlabelled"
    name = names.setdefault(tuple(protocol.labels.items()), following)
    work.protocols[name] = protocol
    return name


def _voters(
    work: Work, source: PreparedSource, case: SourceCase, plan: LabelPlan
) -> tuple[SourceCase, LabelPlan, list[tuple[CaseAnnotator, LabelPlan]]]:
    """The case, its plan, and those of its annotators who looked for any of the pool's classes, if there are several.

    One annotator alone makes an ordinary case: his or her label map is that of the case, unless the source has another one.
    """
    annotators = [(who, own) for who in case.annotators if (own := plan.holding_only(who.looked_for)).protocol.labels]
    if len(annotators) > 1 and case.by_majority:
        protocol = majority_protocol([own.protocol for _, own in annotators])
        return case, replace(plan, protocol=protocol), annotators
    if len(annotators) > 1:
        return case, plan.restricted_to(case.looked_for), annotators
    if case.by_majority:
        (who,) = [who for who, _ in annotators] or case.annotators[:1]
        case = replace(case, label_files=who.files, looked_for=who.looked_for, annotators=(), by_majority=False)
    elif case.annotators:
        reason = "fewer than two annotators drew the pool's classes; the case's own label map is all that is kept"
        work.skipped.append(SkippedRecord(source=source.config.prefix, item=f"annotators of {case.name}", reason=reason))
        case = replace(case, annotators=())
    return case, plan.restricted_to(case.looked_for), []


def _plan_of(work: Work, source: PreparedSource, case: SourceCase) -> LabelPlan:
    """How the labels of a case are rewritten where all was looked for; a case's own table may not fit the pool."""
    plan, faults = case_plan(source, case, work.pool)
    for fault in faults:
        reason = f"case '{case.name}': {fault}"
        work.faults.append(SkippedRecord(source=source.config.prefix, item=case.name, reason=reason))
    return source.plan.restricted_to(()) if plan is None else plan


def _used_files(files: tuple[Path, ...], source: PreparedSource, plan: LabelPlan) -> tuple[Path, ...]:
    """The files of a label map without those that hold only classes which are not kept."""
    id_of_file = source.source.id_of_file
    return files if id_of_file is None else tuple(file for file in files if plan.mapping[id_of_file(file)])


def _other_layout(root: Path) -> str:
    """Which source a folder looks like, where it is not the one it was said to be."""
    fitting = []
    for key, source in SOURCES.items():
        with suppress(ConversionError):
            fitting += [key] if source.list_cases(root).cases else []
    return f"; it looks like {' or '.join(fitting)}" if fitting else ""


def _place_faults(folder: Path) -> list[str]:
    """Why the dataset cannot go where it should."""
    faults = same_id_faults(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / JOURNAL_FOLDER).is_dir():
        faults.append(f"'{folder}' exists and was not made by `nnunet_partial convert`; choose another id or name, or remove it")
    return faults


def skipped_lines(skipped: list[SkippedRecord]) -> list[str]:
    """What was left out, a line for each source and reason."""
    items: dict[tuple[str, str], list[str]] = {}
    for record in skipped:
        items.setdefault((record.source, record.reason), []).append(record.item)
    return [f"{source}: {len(names)} skipped, {reason}: {first_of(names)}" for (source, reason), names in items.items()]
