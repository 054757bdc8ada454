"""Work on a folder of cases that goes on where a killed run stopped: each case is made under a temporary name and renamed.

The last part of a case says that it is whole; a stamp says what it was made from, and makes it anew when that has changed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_partial.labels import write_json


def run_open_cases(
    folder: Path,
    parts: tuple[str, ...],
    stamps: Mapping[str, str],
    make_case: Callable,
    jobs: Mapping[str, tuple],
    *,
    num_processes: int,
    what: str,
) -> None:
    """Make every case of a folder that is not there yet, or was made from something else.

    Args:
        folder: Where the cases lie.
        parts: What is added to a case's name for each of its files, the last written last.
        stamps: Case -> what it depends on, in a word.
        make_case: A function of a module, called with the job of a case in a process of its own.
        jobs: Case -> its arguments.
        num_processes: Cases worked on at a time.
        what: Said of the progress, and in errors ("preprocessing 3d_fullres").

    Raises:
        RuntimeError: a case that could not be made, with the error; the others are kept.
    """
    stamps_file = folder.with_name(f".{folder.name}.preprocessed_with.json")  # in the folder it would confuse nnU-Net
    known = json.loads(stamps_file.read_text(encoding="utf-8")) if stamps_file.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    whole = parts[-1]
    stale = [path for path in folder.glob(f"*{whole}") if known.get(case := path.name.removesuffix(whole)) != stamps.get(case)]
    for leftover in [*folder.glob(".*.tmp*"), *stale]:
        _remove(leftover, parts)
    todo = [case for case in jobs if not (folder / f"{case}{whole}").exists()]
    write_json(dict(stamps), stamps_file)
    if len(todo) < len(jobs):
        print(f"{what}: {len(jobs) - len(todo)} of {len(jobs)} cases are already done")
    failed = {}
    # spawned, as the host does: forking a process that has used torch can hang
    with ProcessPoolExecutor(max(1, min(num_processes, len(todo))), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(make_case, *jobs[case]): case for case in todo}
        for future in tqdm(as_completed(futures), total=len(futures), desc=what, unit="case", disable=not futures):
            if error := future.exception():
                failed[futures[future]] = error
    if failed:
        lines = "\n".join(f"  case '{case}': {type(error).__name__}: {error}" for case, error in sorted(failed.items()))
        raise RuntimeError(
            f"{what}: {len(failed)} of {len(todo)} cases failed; mend them and run the same command again:\n{lines}"
        )


def stamp(files: Iterable[Path | str], recipe: Any) -> str:
    """What a case depends on, in a word: its files, and what it is made with."""
    states = [(str(path), Path(path).stat()) for path in files]
    facts = [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return hashlib.sha256(json.dumps([facts, recipe], sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def case_files(folder: Path, case: str, parts: tuple[str, ...]) -> Iterator[Path]:
    """A temporary folder for the files of a case; they are moved to `folder` when the block ends well."""
    temporary = folder / f".{case}.{os.getpid()}.tmp"
    temporary.mkdir(exist_ok=True)
    yield temporary
    for part in parts:
        (temporary / f"{case}{part}").replace(folder / f"{case}{part}")
    temporary.rmdir()


def _remove(path: Path, parts: tuple[str, ...]) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        return
    case = path.name.removesuffix(parts[-1])
    for part in reversed(parts):
        path.with_name(case + part).unlink(missing_ok=True)
