"""Everything that must be there before jobs run, then the jobs."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.job import StudyJob, in_order
from benchmarks.study.layout import lay_out, write_plans
from benchmarks.trainings import run_all, set_up

TRAINERS = Path(__file__).parents[1] / "trainers"  # of experiments, beside the package's


def environment_of(out: Path) -> dict[str, str]:
    """Of the study's commands."""
    return set_up(out, trainer_folders=[TRAINERS])


def train(jobs: Sequence[StudyJob], data: Path, out: Path, processes: int) -> None:
    """Do the jobs, and before them what they go on from.

    Args:
        jobs: Of one study.
        data: Folder with img/ and label/ of BTCV.
        out: The study's folder.
        processes: Jobs at a time.
    """
    parents = {job.parent.name: job.parent for job in jobs if job.parent}
    every = in_order(list((parents | {job.name: job for job in jobs}).values()))
    environment = environment_of(out)
    for dataset, study in {job.study.dataset_of(job.method): job.study for job in every}.items():
        lay_out(study, dataset, data, out, environment)
    for method, study in {job.method: job.study for job in every if not job.rounds}.items():
        write_plans(study, method, out)
    run_all(every, out, environment, processes)
