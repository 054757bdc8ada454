"""Cases converted side by side: in this process, in worker processes, or on a Dask cluster; only paths and records travel."""

import errno
from collections.abc import Iterator

from nnunet_partial.dataset_conversion.case import UNREADABLE, convert_case
from nnunet_partial.dataset_conversion.case_job import CaseJob
from nnunet_partial.dataset_conversion.listing import ConversionError
from nnunet_partial.dataset_conversion.workers import in_parallel
from nnunet_partial.labels import CaseRecord

CaseResult = tuple[CaseJob, CaseRecord | str]


def run_cases(jobs: list[CaseJob], num_processes: int, scheduler: str | None = None) -> Iterator[CaseResult]:
    """Each job with its record, or with the sentence that says what is wrong, in whatever order they end.

    Args:
        jobs: The cases to convert.
        num_processes: Cases converted at the same time, which bounds the memory: each holds one scan.
        scheduler: Address of a Dask scheduler, whose workers then convert; all machines must see the same paths.

    Raises:
        RuntimeError: a worker was killed.
    """
    if scheduler is not None:
        return _on_cluster(jobs, scheduler)
    return in_parallel(_try_case, jobs, num_processes)


def _on_cluster(jobs: list[CaseJob], scheduler: str) -> Iterator[CaseResult]:
    try:
        import joblib
        from dask.distributed import Client
    except ImportError:
        raise ConversionError("-scheduler needs dask: pip install 'nnunet_partial[cluster]'") from None
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise ConversionError(f"no Dask scheduler answers at '{scheduler}': {error}") from None
    with client, joblib.parallel_config(backend="dask"):
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(
            joblib.delayed(_job_and_result)(job) for job in jobs
        )


def _job_and_result(job: CaseJob) -> CaseResult:
    return job, _try_case(job)


def _try_case(job: CaseJob) -> CaseRecord | str:
    try:
        return convert_case(job)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConversionError(
                f"no space left below '{job.dataset_folder}': free some and run again; finished cases are kept"
            ) from None
        return f"case '{job.identifier}' ({', '.join(job.relative((job.case.image, *job.case.label_files[:1])))}): {error}"
