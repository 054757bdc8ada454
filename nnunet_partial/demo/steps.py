"""Steps that are done once: each leaves a marker, and a rerun begins at the first step without one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_partial.demo.progress import Progress
from nnunet_partial.labels import write_json

Report = Callable[[float, str], None]  # share of the step that is done, and what is going on


@dataclass(frozen=True)
class Step:
    """One step of the demonstration.

    Attributes:
        name: Name of its marker.
        title: What the progress display says.
        seconds: What it is expected to take on two cores.
        work: Does it; called again after a run that was cut off, so it has to go on from, or redo, what it finds.
    """

    name: str
    title: str
    seconds: float
    work: Callable[[Report], None]


def run_steps(steps: Sequence[Step], markers: Path, **display: object) -> None:
    """Do the steps in order, but for those that an earlier run has finished.

    A step that has to be done again makes all later ones be done again: they stand on its files.

    Args:
        steps: What is to be done.
        markers: Folder of the markers; removing one has its step, and the later ones, done again.
        display: Passed on to `Progress`.
    """
    markers.mkdir(parents=True, exist_ok=True)
    files = [markers / f"{step.name}.json" for step in steps]
    first = next((number for number, file in enumerate(files) if not file.exists()), len(steps))
    for file in files[first:]:
        file.unlink(missing_ok=True)
    expected = [0.0 if number < first else step.seconds for number, step in enumerate(steps)]
    progress = Progress([step.title for step in steps], expected, **display)
    for number, (step, file) in enumerate(zip(steps, files, strict=True)):
        if number < first:
            progress.already_done(number)
            continue
        began = time.monotonic()
        progress.update(number, 0.0)
        try:
            step.work(lambda share, detail="", number=number: progress.update(number, share, detail))
        except BaseException:
            progress.clear()
            raise
        seconds = time.monotonic() - began
        write_json({"seconds": round(seconds, 1)}, file)
        progress.finish(number, seconds)
