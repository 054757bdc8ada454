"""The figures of a part: those of this run, and those that are known already."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.study import annotators_tables, figures, rounds_tables, tables
from benchmarks.study.job import StudyJob
from benchmarks.study.judge import KEYS, WITH_PROBABILITIES, calibration, rows_by_annotators, rows_by_labels
from benchmarks.study.protocol import Study, several
from benchmarks.study.repeats import TRAINING, repeats, repeats_text
from nnunet_partial.labels import write_text

REPEATS = "repeats"
OF_ROUNDS, OF_CALIBRATION = "_rounds", "_calibration"
DIGITS = 5  # significant ones, of what is kept and of what tables are made from


@dataclass(frozen=True)
class Known:
    """Figures that need not be made again.

    Attributes:
        rows: A row a method, fold, round, case and organ.
        rounds: A row a method, fold, round of pseudo-labels and organ.
        calibration: Of what annotators judge: a row a method, fold and organ, over the voxels of all cases.
    """

    rows: pd.DataFrame
    rounds: pd.DataFrame
    calibration: pd.DataFrame


def known_figures(folder: Path | None, study: Study) -> Known:
    """What was made in an earlier run as the study would make it now, out of PART.csv and what stands beside it.

    Args:
        folder: Of that run, on this machine or another; None for nothing.
        study: By which trainings are told from others of the same name.
    """
    digests = {method: study.digest(method) for method in study.methods}
    return Known(*(_read(folder, study.parts, kind, digests) for kind in ("", OF_ROUNDS, OF_CALIBRATION)))


def is_known(job: StudyJob, known: Known) -> bool:
    """Whether there are rows of a job's last round."""
    own = known.rows[(known.rows["method"] == job.method) & (known.rows["fold"] == job.fold)]
    return bool((own["round"] == job.rounds).any())


def write_part(name: str, jobs: Sequence[StudyJob], known: Known, out: Path) -> str:
    """Write PART.md, what it is made from (.csv) and its picture into `out`; return the text, empty where nothing is there yet.

    Args:
        name: The part.
        jobs: All of the study.
        known: Figures that need not be made.
        out: The study's folder.
    """
    study = jobs[0].study
    part = study.parts[name]
    shown = {method for group in part.groups for value in group.methods.values() for method in several(value)}
    of_part = [job for job in jobs if job.method in shown | set(part.methods)]
    own = [job for job in of_part if job.method in part.methods]
    done = [job for job in of_part if job.is_done(out)]
    make_rows = rows_by_annotators if part.judged == WITH_PROBABILITIES else rows_by_labels
    rows = _with_known((row for job in done for row in make_rows(job, out)), known.rows, of_part)
    if rows.empty:
        return ""
    out.mkdir(parents=True, exist_ok=True)
    _write(rows[rows["method"].isin(part.methods)], out / f"{name}.csv")
    if part.judged == WITH_PROBABILITIES:
        made = (row for job in done for row in calibration(job, out))
        calibrated = _with_known(made, known.calibration, of_part)
        _write_any(calibrated[calibrated["method"].isin(part.methods)], out / f"{name}{OF_CALIBRATION}.csv")
        blocks = annotators_tables.blocks(part, rows, calibrated)
    else:
        made = (row for job in done if job.method in part.methods for row in rounds_tables.audit_rows(job, out))
        rounds = _with_known(made, known.rounds, own)
        _write_any(rounds, out / f"{name}{OF_ROUNDS}.csv")
        blocks = [*tables.blocks(part, rows), *rounds_tables.blocks(own, rows, rounds)]
        figures.draw(part, rows, out / f"{name}.png")
    text = "\n\n".join([f"# {part.title}", *blocks]) + "\n"
    write_text(text, out / f"{name}.md")
    return text


def write_repeats(earlier: Sequence[Known], jobs: Sequence[StudyJob], out: Path) -> str:
    """Write repeats.csv and repeats.md into `out`: what was trained here beside what was before, and return the text.

    Args:
        earlier: Figures of other runs, oldest first.
        jobs: All of the study.
        out: The study's folder, with its PART.csv.

    Returns:
        The text; empty where nothing was trained more than once.
    """
    study = jobs[0].study
    trained = {(job.method, job.fold) for job in jobs if job.is_done(out)}  # the tables may have known figures too
    made = known_figures(out, study).rows
    made = made[[run in trained for run in zip(made["method"], made["fold"], strict=True)]]
    found = _rounded(repeats([*(run.rows for run in earlier), made]))
    if found.empty:
        return ""
    _write(found.reset_index(), out / f"{REPEATS}.csv")
    text = repeats_text(found, study)
    write_text(text, out / f"{REPEATS}.md")
    return text


def _read(folder: Path | None, parts: Iterable[str], kind: str, digests: dict[str, str]) -> pd.DataFrame:
    files = [folder / f"{name}{kind}.csv" for name in parts] if folder else []
    found = pd.concat([pd.DataFrame(columns=list(KEYS)), *(pd.read_csv(file) for file in files if file.exists())])
    return found[found["digest"] == found["method"].map(digests)]


def _with_known(made: Iterable[dict[str, Any]], known: pd.DataFrame, jobs: Sequence[StudyJob]) -> pd.DataFrame:
    """What was made, and what is known of jobs of which nothing was; in the order of the jobs' methods, folds and rounds."""
    rows = _rounded(pd.DataFrame(made))
    order = {method: place for place, method in enumerate(dict.fromkeys(job.method for job in jobs))}
    known = known[known["method"].isin(order)]
    if len(rows):
        runs = set(map(tuple, rows[TRAINING].to_numpy()))
        known = known[[run not in runs for run in map(tuple, known[TRAINING].to_numpy())]]
    if rows.empty and known.empty:
        return known
    found = pd.concat([frame for frame in (rows, known) if len(frame)]).dropna(axis=1, how="all")
    by = [key for key in ("method", "fold", "round", "case") if key in found]
    return found.sort_values(by, key=lambda of: of.map(order) if of.name == "method" else of, kind="stable")


def _rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """As a CSV keeps them, so that tables are the same from either."""
    numbers = rows.select_dtypes("float").columns
    return rows.assign(**rows[numbers].map(lambda value: float(f"{value:.{DIGITS}g}")))


def _write_any(rows: pd.DataFrame, file: Path) -> None:
    if len(rows):
        _write(rows, file)


def _write(rows: pd.DataFrame, file: Path) -> None:
    write_text(rows.to_csv(index=False, float_format=f"%.{DIGITS}g"), file)
