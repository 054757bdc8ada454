"""Ratios of times measured side by side: what every timing benchmark needs."""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

REUSE = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(32 * 2**30)}
"""glibc told to keep what it has: fresh memory is most of the time on a CPU, and CUDA's caching allocator has none."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def alternate(
    runs: Mapping[str, Callable[[], Any]],
    reference: str,
    repetitions: int,
    clock: str,
    *,
    before: Callable[[], Any] = lambda: None,
) -> list[dict]:
    """A row a run: median and quartiles of its time over the reference's, within repetitions in shuffled order.

    Args:
        runs: What is timed, by name.
        reference: The run that the others are compared with.
        repetitions: How often; one more is done first, which warms up.
        clock: A name of `CLOCKS`.
        before: Done before each run, not timed.
    """
    seconds = {name: [] for name in runs}
    for repetition in range(repetitions + 1):
        for name in random.Random(repetition).sample(list(runs), len(runs)):
            before()
            start = CLOCKS[clock]()
            runs[name]()
            if repetition:
                seconds[name].append(CLOCKS[clock]() - start)
    rows = []
    for name, times in seconds.items():
        low, middle, high = quartiles([a / b for a, b in zip(times, seconds[reference], strict=True)])
        rows.append(
            {"name": name, "time_ratio": middle, "quartiles": [low, high], "milliseconds": 1e3 * statistics.median(times)}
        )
    return rows


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile; of a single value three times that."""
    return statistics.quantiles(values, n=4) if len(values) > 1 else 3 * list(values)


def under_both_allocators(module: str, arguments: Sequence[str]) -> list[dict]:
    """Rows that a module prints as its last line, in a process of its own under each setting of the memory allocator."""
    rows = []
    for allocator, variables in (("default", {}), ("reuse", REUSE)):
        command = [sys.executable, "-m", module, "--one-allocator", *arguments]
        found = subprocess.run(command, env={**os.environ, **variables}, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows += [{"allocator": allocator, **row} for row in json.loads(found.splitlines()[-1])]
    return rows


def machine() -> dict:
    """What a figure depends on beside the code."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    facts = {"cpu": cpu[0] if cpu else platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    return facts | {"torch": torch.__version__, "nnunetv2": version("nnunetv2"), "python": platform.python_version()}


def show(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], what: str, of: str, file: Path | None) -> None:
    """Print the facts and one table, and write both as JSON where a file is named."""
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    of_memory = any("memory_ratio" in row for row in rows)
    print(f"{'allocator':<10}{what:<44}{'x ' + of:>10}  {'quartiles':<14}{'ms':>8}" + ("  x memory" if of_memory else ""))
    for row in rows:
        spread = "[{:.2f}, {:.2f}]".format(*row["quartiles"])
        memory = f"{row['memory_ratio']:>10.2f}" if of_memory else ""
        times = f"{row['time_ratio']:>10.2f}  {spread:<14}{row['milliseconds']:>8.0f}"
        print(f"{row['allocator']:<10}{row['name']:<44}{times}{memory}")
    if file:
        file.write_text(json.dumps({"machine": dict(facts), "rows": list(rows)}, indent=2) + "\n")
