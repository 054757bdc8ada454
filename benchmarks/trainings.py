"""Trainings side by side on a CPU, as the studies run them: a job a process, a thread a job, everything below one folder."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from benchmarks.ratios import REUSE
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.paths import TRAINER_FOLDER, TRAINER_VARIABLE

PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
# nnUNetv2_train takes a thread for every core; trainings side by side that do would wait for each other
TRAIN = "import torch; torch.set_num_threads = lambda n: None; from nnunetv2.run.run_training import *; run_training_entry()"


class Job(Protocol):
    """What `run_all` runs."""

    name: str  # as it stands in logs

    def is_done(self, out: Path) -> bool:
        """Whether nothing is left to do."""

    def command(self, out: Path) -> list[str]:
        """What does the job, or what is left of it."""


def study_parser(doc: str, methods: Iterable[str], *, epochs: int, iterations: int = 50) -> argparse.ArgumentParser:
    """The arguments that all studies take.

    Args:
        doc: What the study is.
        methods: What it trains.
        epochs: Default of --epochs.
        iterations: Default of --iterations.
    """
    methods = list(methods)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with img/ and label/ of BTCV")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2], metavar="F", help="of five (default: 0 1 2)")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"default: {epochs}")
    parser.add_argument("--iterations", type=int, default=iterations, help=f"iterations an epoch (default: {iterations})")
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time, a thread each (default: 2)")
    parser.add_argument("--only", nargs="+", choices=methods, default=methods, metavar="METHOD", help="run these alone")
    parser.add_argument("--tables-only", action="store_true", help="judge what is there, and run nothing")
    return parser


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


def refuse_other_lengths(out: Path, lengths: dict) -> None:
    """Trainings of two lengths in one folder would be compared as if they were alike."""
    file = out / "study.json"
    if not file.exists():
        write_json(lengths, file)
    found = json.loads(file.read_text(encoding="utf-8"))
    if found != lengths:
        raise SystemExit(f"{out} was begun with {found}, not {lengths}; take another --out, or delete it")


def plan_tiny(dataset: str, out: Path, environment: dict[str, str], settings: Sequence[str], splits: list[dict]) -> None:
    """The tiny plan with batches of two, and the given folds; nothing where that is done.

    Batches of two, one patch of which is centred on an organ, in place of one of four: organs are found sooner on a CPU.
    """
    folder = out / "nnUNet_preprocessed" / dataset
    if (folder / "splits_final.json").exists():
        return
    run(
        ["nnunet_partial", "plan", "-d", dataset, "--tiny", "-c", CONFIGURATION, "-np", "2", "--set", *settings], out, environment
    )
    plans = json.loads((folder / f"{PLANS}.json").read_text(encoding="utf-8"))
    plans["configurations"][CONFIGURATION]["batch_size"] = 2
    write_json(plans, folder / f"{PLANS}.json")
    write_json(splits, folder / "splits_final.json")


def annotation_of(out: Path, dataset: str) -> Annotation:
    """What was looked for in each case of a dataset."""
    return Annotation.from_dataset_json(json.loads((out / "nnUNet_raw" / dataset / "dataset.json").read_text(encoding="utf-8")))


def train_command(
    dataset: str, fold: int, trainer: str, folder: Path, *, plans: str = PLANS, further: Sequence[str] = ()
) -> list[str]:
    """nnUNetv2_train from where the fold in `folder` stands."""
    finished = (folder / "checkpoint_final.pth").exists()
    rest = ["--val"] if finished else ["--c"] if any(folder.glob("checkpoint_*.pth")) else []
    where = [dataset, CONFIGURATION, str(fold), "-tr", trainer, "-p", plans, "-device", "cpu"]
    return [sys.executable, "-c", TRAIN, *where, *further, *rest]


def run_all(jobs: Iterable[Job], out: Path, environment: dict[str, str], processes: int) -> None:
    """Do the jobs in order, a few at a time; one that fails does not stop the others, but the study."""
    training = {**environment, **REUSE, "nnUNet_n_proc_DA": "0"}

    def run_job(job: Job) -> int:
        if job.is_done(out):
            return 0
        command = job.command(out)
        print(f"{job.name}: starts", flush=True)
        with (out / "logs" / f"{job.name}.log").open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            code = subprocess.run(command, cwd=out, env=training, stdout=log, stderr=log).returncode
        print(f"{job.name}: {'ends' if not code else f'fails ({code}), see its log'}", flush=True)
        return code

    jobs = list(jobs)
    with ThreadPoolExecutor(processes) as pool:
        codes = list(pool.map(run_job, jobs))
    failed = [job.name for job, code in zip(jobs, codes, strict=True) if code]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; their logs lie in {out / 'logs'}. Run the same again to go on")


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command as a user would, and say which."""
    print("$", " ".join(command), flush=True)
    subprocess.run(command, cwd=folder, env=environment, check=True)
