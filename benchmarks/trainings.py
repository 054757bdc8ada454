"""Trainings side by side on a CPU, as the studies run them: a job a process, a thread a job, everything below one folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from benchmarks.ratios import REUSE
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.paths import TRAINER_FOLDER, TRAINER_VARIABLE

PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
HALF = "--half"  # of `benchmarks.train`


class Job:
    """What `run_all` runs.

    Attributes:
        name: As it stands in logs.
        after: Name of a job that must have ended before, or nothing.
    """

    name: str
    after: str = ""

    def is_done(self, out: Path) -> bool:
        """Whether nothing is left to do."""
        raise NotImplementedError

    def command(self, out: Path) -> list[str]:
        """What does the job, or what is left of it."""
        raise NotImplementedError

    def note_seconds(self, out: Path, seconds: float) -> None:
        """Hears how long a run of it took; 0 when one starts."""


def set_up(out: Path, *, trainer_folders: Iterable[Path] = ()) -> dict[str, str]:
    """nnU-Net's folders below `out`, and settings for single-threaded trainings side by side."""
    folders = {name: str(out / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in (*folders.values(), out / "logs"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    few = {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
    trainers = os.pathsep.join(map(str, (TRAINER_FOLDER, *trainer_folders)))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    root = str(Path(__file__).parents[1])  # jobs run elsewhere, and may be modules of this folder
    packages = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **folders, **few, TRAINER_VARIABLE: trainers, "PATH": path, "PYTHONPATH": packages}


def plan_tiny(dataset: str, out: Path, environment: dict[str, str], splits: list[dict]) -> None:
    """The tiny plan and the given folds; nothing where that is done."""
    folder = out / "nnUNet_preprocessed" / dataset
    if not (folder / "splits_final.json").exists():
        run(["nnunet_partial", "plan", "-d", dataset, "--tiny", "-c", CONFIGURATION, "-np", "2"], out, environment)
        write_json(splits, folder / "splits_final.json")


def annotation_of(out: Path, dataset: str) -> Annotation:
    """What was looked for in each case of a dataset."""
    return Annotation.from_dataset_json(json.loads((out / "nnUNet_raw" / dataset / "dataset.json").read_text(encoding="utf-8")))


def train_command(dataset: str, fold: int | str, trainer: str, folder: Path, *, plans: str = PLANS) -> list[str]:
    """nnUNetv2_train by `benchmarks.train`, from where the fold in `folder` stands."""
    finished = (folder / "checkpoint_final.pth").exists()
    rest = ["--val"] if finished else ["--c"] if any(folder.glob("checkpoint_*.pth")) else []
    where = [dataset, CONFIGURATION, str(fold), "-tr", trainer, "-p", plans, "-device", "cpu"]
    return ["nnUNetv2_train", *where, *rest]


def single_threaded(command: Sequence[str], *, half: bool = False) -> list[str]:
    """A command as `benchmarks.train` runs it."""
    return [sys.executable, "-m", "benchmarks.train", *([HALF] if half else []), *command]


def run_all(jobs: Sequence[Job], out: Path, environment: dict[str, str], processes: int) -> None:
    """Do the jobs, a few at a time: always the first of which what it goes on from has ended.

    One that fails stops only those that go on from it, and the study at the end.

    Raises:
        SystemExit: a job failed; all are named.
    """
    training = {**environment, **REUSE, "nnUNet_n_proc_DA": "0"}
    waiting, running, failed = list(jobs), {}, []
    with ThreadPoolExecutor(processes) as pool:
        while waiting or running:
            unfinished = {job.name for job in (*waiting, *running.values())}
            ready = [job for job in waiting if job.after not in unfinished]
            for job in ready[: processes - len(running)]:
                waiting.remove(job)
                if job.after in failed:
                    print(f"{job.name}: not begun, as {job.after} has failed", flush=True)
                    failed.append(job.name)
                else:
                    running[pool.submit(_run_job, job, out, training)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                failed += [job.name] if future.result() else []
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; their logs lie in {out / 'logs'}. Run the same again to go on")


def _run_job(job: Job, out: Path, environment: dict[str, str]) -> int:
    if job.is_done(out):
        return 0
    command = job.command(out)
    print(f"{job.name}: starts", flush=True)
    job.note_seconds(out, 0)
    start = time.monotonic()
    with (out / "logs" / f"{job.name}.log").open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        code = subprocess.run(command, cwd=out, env=environment, stdout=log, stderr=log).returncode
    job.note_seconds(out, time.monotonic() - start)
    print(f"{job.name}: {'ends' if not code else f'fails ({code}), see its log'}", flush=True)
    return code


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command as a user would, and say which."""
    print("$", " ".join(command), flush=True)
    subprocess.run(command, cwd=folder, env=environment, check=True)
