"""The figures of a part: those of this run, and those that are known already."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.study import annotators_tables, figures, rounds_tables, tables
from benchmarks.study.job import StudyJob
from benchmarks.study.judge import KEYS, WITH_PROBABILITIES, calibration, rows_by_annotators, rows_by_labels
from benchmarks.study.protocol import Study, several
from nnunet_partial.labels import replacing

RUN = ["method", "digest", "fold"]


def known_rows(folder: Path | None, study: Study) -> pd.DataFrame:
    """The rows of PART.csv in a folder that were made as the study would make them now.

    Args:
        folder: Of an earlier run, on this machine or another; None for nothing.
        study: By which trainings are told from others of the same name.
    """
    files = [folder / f"{name}.csv" for name in study.parts] if folder else []
    found = pd.concat([pd.DataFrame(columns=list(KEYS)), *(pd.read_csv(file) for file in files if file.exists())])
    digests = {method: study.digest(method) for method in study.methods}
    return found[found["digest"] == found["method"].map(digests)]


def is_known(job: StudyJob, known: pd.DataFrame) -> bool:
    """Whether there are rows of a job's last round."""
    own = known[(known["method"] == job.method) & (known["fold"] == job.fold)]
    return bool((own["round"] == job.rounds).any())


def write_part(name: str, jobs: Sequence[StudyJob], known: pd.DataFrame, out: Path) -> str:
    """Write PART.csv, PART.png and PART.md into `out`, and return the text; empty where nothing is there yet.

    Args:
        name: The part.
        jobs: All of the study.
        known: Rows that need not be made.
        out: The study's folder.
    """
    study = jobs[0].study
    part = study.parts[name]
    shown = {method for group in part.groups for value in group.methods.values() for method in several(value)}
    own = [job for job in jobs if job.method in part.methods]
    of_part = [job for job in jobs if job.method in shown | set(part.methods)]
    make_rows = rows_by_annotators if part.judged == WITH_PROBABILITIES else rows_by_labels
    done = [job for job in of_part if job.is_done(out)]
    rows = pd.DataFrame([row for job in done for row in make_rows(job, out)])
    rest = known[known["method"].isin({job.method for job in of_part})]
    if len(rows):
        made = set(map(tuple, rows[RUN].drop_duplicates().to_numpy()))
        rest = rest[[key not in made for key in map(tuple, rest[RUN].to_numpy())]]
    rows = pd.concat([frame for frame in (rows, rest) if len(frame)] or [rows]).dropna(axis=1, how="all")
    if rows.empty:
        return ""
    order = {method: position for position, method in enumerate(study.methods)}
    rows = rows.sort_values(
        ["method", "fold", "round", "case"], key=lambda of: of.map(order) if of.name == "method" else of, kind="stable"
    )
    with replacing(out / f"{name}.csv") as temporary:
        rows[rows["method"].isin(part.methods)].to_csv(temporary, index=False, float_format="%.5g")
    if part.judged == WITH_PROBABILITIES:
        calibrated = pd.DataFrame([row for job in done for row in calibration(job, out)])
        blocks = annotators_tables.blocks(part, rows, calibrated) if len(calibrated) else []
    else:
        blocks = [*tables.blocks(part, rows), *rounds_tables.blocks(own, rows, out)]
        figures.draw(part, rows, out / f"{name}.png")
    text = "\n\n".join([f"# {part.title}", *blocks]) + "\n"
    with replacing(out / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text
