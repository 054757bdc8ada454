"""All cases of a converted dataset: listed, checked in parallel, remembered."""

from pathlib import Path

from tqdm import tqdm

from nnunet_partial.dataset_conversion.verify.annotator_check import agreement_findings
from nnunet_partial.dataset_conversion.verify.cache import Cache, fingerprint
from nnunet_partial.dataset_conversion.verify.case_check import CaseResult, check_case
from nnunet_partial.dataset_conversion.verify.coverage import measure_coverage
from nnunet_partial.dataset_conversion.verify.dataset_check import list_dataset
from nnunet_partial.dataset_conversion.verify.report import Report
from nnunet_partial.dataset_conversion.workers import in_parallel


def verify_dataset(folder: Path, num_processes: int = 1, *, fresh: bool = False, progress: bool = True) -> Report:
    """Check a converted dataset.

    Cases that an earlier run checked, and whose files have not changed since, are not read again.

    Args:
        folder: The dataset's folder below nnUNet_raw.
        num_processes: Cases that are checked at the same time.
        fresh: Read every case, whatever earlier runs found.
        progress: Whether to show a progress bar.

    Returns:
        What was found; the same whatever the number of processes.

    Raises:
        FileNotFoundError, ValueError: there is no dataset that could be checked (see `list_dataset`).
    """
    files = list_dataset(folder)
    cache = Cache(folder, fresh=fresh)
    cache.keep_only({job.identifier for job in files.jobs})
    prints = {job.identifier: fingerprint(job) for job in files.jobs}
    results: dict[str, CaseResult] = {}
    for job in files.jobs:
        known = cache.result(job, prints[job.identifier])
        if known is not None:
            results[job.identifier] = known
    num_cached = len(results)
    open_jobs = [job for job in files.jobs if job.identifier not in results]
    try:
        with tqdm(total=len(files.jobs), initial=num_cached, desc="verifying", unit="case", disable=not progress) as bar:
            for job, result in in_parallel(check_case, open_jobs, num_processes):
                results[job.identifier] = result
                cache.add(job, prints[job.identifier], result)
                bar.update()
    finally:
        cache.write()
    in_order = [finding for job in files.jobs for finding in results[job.identifier].findings]
    sources = {identifier: case.source for identifier, case in files.annotation.cases.items()}
    pairs = {job.identifier: results[job.identifier].pairs for job in files.jobs}
    counts = {identifier: result.label_counts for identifier, result in results.items()}
    return Report(
        dataset=folder.name,
        sources=sources,
        findings=tuple(files.findings + agreement_findings(pairs, sources) + in_order),
        coverage=measure_coverage(files.annotation, counts),
        num_cached=num_cached,
        num_checked=len(open_jobs),
    )
