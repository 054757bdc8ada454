"""Cases one after another or several at a time, with a progress bar and one error for all that went wrong."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from tqdm import tqdm

Task = TypeVar("Task")


def over_cases(
    measure: Callable[[Task], Any],
    tasks: Sequence[Task],
    *,
    num_processes: int,
    progress: bool,
    doing: str = "evaluating",
    done: str = "judged",
) -> Iterator[tuple[Task, Any]]:
    """Results as they come, in order; those that went well are not lost by those that did not.

    Args:
        measure: Gives the result of a task or, where there can be none, the sentence that says why.
        tasks: What is to be done.
        num_processes: Cases at a time; 1 stays in this process.
        progress: Show a progress bar.
        doing: What the bar says.
        done: What could not be done with a case, as the error says it.

    Raises:
        ValueError: when all are done, if some could not be; it names each of them.
    """
    faults = []
    bar = {"total": len(tasks), "desc": doing, "unit": "case", "disable": not progress}
    for task, result in zip(tasks, tqdm(_measured(measure, tasks, num_processes), **bar), strict=True):
        if isinstance(result, str):
            faults.append(result)
        else:
            yield task, result
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise ValueError(f"{len(faults)} of {len(tasks)} cases cannot be {done}:{listed}")


def _measured(measure: Callable[[Task], Any], tasks: Sequence[Task], num_processes: int) -> Iterator[Any]:
    if num_processes > 1 and len(tasks) > 1:
        with ProcessPoolExecutor(min(num_processes, len(tasks)), mp_context=get_context("spawn")) as pool:
            yield from pool.map(measure, tasks)
    else:
        yield from map(measure, tasks)
