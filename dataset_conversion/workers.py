"""Many cases at the same time, in processes that end with their parent."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Job], Result], jobs: Sequence[Job], num_processes: int) -> Iterator[tuple[Job, Result]]:
    """Each job with its result, in whatever order they end.

    Raises:
        RuntimeError: a worker was killed.
    """
    if num_processes <= 1 or len(jobs) <= 1:
        yield from ((job, work(job)) for job in jobs)
        return
    with ProcessPoolExecutor(min(num_processes, len(jobs)), initializer=_end_with_parent) as executor:
        futures = {executor.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                f"a worker was killed, most likely for lack of memory; run again with fewer processes than -np {num_processes}: "
                "finished cases are kept"
            ) from None
        finally:
            executor.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let a worker end when its parent was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: wait([parent.sentinel]) and os._exit(1), daemon=True).start()
