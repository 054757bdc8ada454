"""The report of a run: one HTML file, and a viewer page a case beside it where these are asked for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any
from urllib.parse import quote

import numpy as np

from nnunet_partial import __version__
from nnunet_partial.evaluation import class_name
from nnunet_partial.labels import Annotation, write_text
from nnunet_partial.report import tables
from nnunet_partial.report.cases import JudgedCase, class_keys, metric_names, protocol_of, worst_first
from nnunet_partial.report.charts import box_plot, dice_chart, loss_chart
from nnunet_partial.report.intervals import RESAMPLES, SEED
from nnunet_partial.report.overlays import DIFFERENCES, difference_map, draw_comparison, views_of_errors
from nnunet_partial.report.reproduce import Model
from nnunet_partial.report.rounds import read_rounds
from nnunet_partial.report.slices import ShownCase, class_colour, read_shown_case
from nnunet_partial.report.templates import render
from nnunet_partial.report.training_run import read_training_run
from nnunet_partial.report.viewer import install_script, write_viewer

BOXED = ("Dice", "NSD", "HD95_mm", "ASSD_mm")  # the metrics that get a box plot, where the summary has them
PACKAGES = ("nnunetv2", "torch", "numpy", "SimpleITK", "matplotlib")


@dataclass(frozen=True)
class ReportContents:
    """Everything a report is made from.

    Attributes:
        dataset: nnU-Net's name of the dataset.
        dataset_json: Its description.
        model: The trained model.
        fold_folders: The folds whose training is shown; empty where the model is not at hand.
        cases: The judged cases.
        judged_on: Where the predictions come from, in a few words.
        notes: What a reader has to know before the numbers.
        definitions: Metric -> what it means, from the summary.
        licences: Source -> licence as the manifest records it.
        commands: How to do it again.
        images: The folder of the cases' images; None draws no pictures.
    """

    dataset: str
    dataset_json: dict[str, Any]
    model: Model
    fold_folders: Sequence[Path]
    cases: Sequence[JudgedCase]
    judged_on: str
    notes: Sequence[str]
    definitions: dict[str, str]
    licences: dict[str, str]
    commands: Sequence[str]
    images: Path | None

    @cached_property
    def annotation(self) -> Annotation:
        """Label space, protocols and cases of the dataset."""
        return Annotation.from_dataset_json(self.dataset_json)

    def image_of(self, case: JudgedCase) -> Path:
        """The first channel of a case's image."""
        return self.images / f"{case.identifier}_0000{self.dataset_json['file_ending']}"


def missing_files(contents: ReportContents, cases: Sequence[JudgedCase]) -> list[Path]:
    """What the pictures of these cases need and is not there."""
    wanted = [file for case in cases for file in (contents.image_of(case), case.reference_file, case.prediction_file)]
    return [file for file in wanted if not file.is_file()]


def write_report(contents: ReportContents, path: Path, *, num_worst: int = 3, viewer: bool = False) -> list[Path]:
    """Write the report; same run, same bytes.

    Args:
        contents: What to report.
        path: The HTML file; the viewer's pages go into <name>_viewer beside it.
        num_worst: How many of the worst cases are drawn; 0 where there are no images.
        viewer: Also write a page for every case.

    Returns:
        The viewer's pages.

    Raises:
        FileNotFoundError: images, references or predictions are not there; all are listed.
        ValueError: files that cannot be read or do not fit one another.
    """
    worst = worst_first(contents.cases)[:num_worst]
    pictured = list(contents.cases) if viewer else worst
    missing = missing_files(contents, pictured) if pictured else []
    if missing:
        listed = "".join(f"\n  - {file}" for file in missing)
        raise FileNotFoundError(
            f"{len(missing)} files that the pictures need are not there (name the images' folder with --images, or draw no "
            f"pictures with --worst 0):{listed}"
        )
    folder = path.with_name(f"{path.stem}_viewer")
    pages = {case.identifier: f"{folder.name}/{case.identifier}.html" for case in contents.cases} if viewer else {}
    if viewer:
        install_script(folder)
    drawn = {}
    for case in pictured:
        shown, difference = _read(contents, case)
        views = views_of_errors(difference, *shown.label_maps)
        if case in worst:
            drawn[case.identifier] = draw_comparison(shown, difference, views, contents.annotation.space.num_classes)
        if viewer:
            dice = "" if np.isnan(case.mean_dice) else f", mean Dice {case.mean_dice:.3f}"
            target = path.parent / pages[case.identifier]
            write_viewer(
                shown, difference, views, _names_by_id(contents, case), target,
                title=f"{case.identifier} ({case.source}){dice}", back=f"../{quote(path.name)}",
            )  # fmt: skip
    links = {identifier: quote(page) for identifier, page in pages.items()}
    write_text(render("report.html", **_values(contents, worst, drawn, links)), path)
    return [path.parent / page for page in pages.values()]


def _values(
    contents: ReportContents, worst: Sequence[JudgedCase], drawn: dict[str, bytes], pages: dict[str, str]
) -> dict[str, Any]:
    annotation, cases = contents.annotation, contents.cases
    space, names = annotation.space, metric_names(cases)
    runs = [read_training_run(folder, space.classes) for folder in contents.fold_folders]
    return {
        "title": contents.dataset,
        "subtitle": f"{contents.model.trainer} · {contents.model.configuration} · {contents.model.plans}",
        "headline": tables.headline(cases, annotation),
        "judged_on": contents.judged_on,
        "notes": contents.notes,
        "classes": tables.class_rows(cases, annotation),
        "other_metrics": [name for name in names if name != "Dice"],
        "definitions": {name: text for name, text in contents.definitions.items() if name in names},
        "sources": tables.source_rows(cases, annotation),
        "boxes": [(name, _box(cases, annotation, name, n)) for n, name in enumerate(n for n in BOXED if n in names)],
        "worst": [_worst_values(annotation, case, drawn[case.identifier], pages.get(case.identifier)) for case in worst],
        "no_worst": "No pictures were asked for (--worst 0).",
        "class_legend": [(number, name, class_colour(number)) for number, name in enumerate(space.classes, 1)],
        "differences": [(number, name, colour) for number, (name, colour) in DIFFERENCES.items()],
        "cases": tables.case_rows(cases, annotation),
        "pages": pages,
        "coverage": tables.coverage(annotation, contents.licences),
        "show_licences": any(contents.licences.values()),
        "training": [_training_values(run) for run in runs if len(run.epochs)],
        "rounds": [run for folder in contents.fold_folders for run in read_rounds(folder)],
        "no_training": "No training log is at hand, so there are no training curves.",
        "environment": _environment(contents, runs),
        "commands": contents.commands,
        "resamples": RESAMPLES,
        "seed": SEED,
        "made_by": f"nnunet_partial {__version__}",
    }


def _box(cases: Sequence[JudgedCase], annotation: Annotation, metric: str, colour: int) -> str:
    values = {class_name(key, annotation.space): tables.known(cases, key, metric) for key in class_keys(cases)}
    return box_plot({name: known for name, known in values.items() if known}, metric, colour)


def _worst_values(annotation: Annotation, case: JudgedCase, picture: bytes, page: str | None) -> dict[str, Any]:
    looked = {number for key in case.judged for number in (key if isinstance(key, tuple) else (key,))}
    return {
        "identifier": case.identifier,
        "source": case.source,
        "mean": case.mean_dice,
        "dice": [(class_name(key, annotation.space), case.value(key, "Dice")) for key in case.judged],
        "unlooked": [name for number, name in enumerate(annotation.space.classes, 1) if number not in looked],
        "picture": picture,
        "page": page,
    }


def _training_values(run: Any) -> dict[str, Any]:
    seconds = float(np.nansum(run.seconds))
    return {
        "fold": run.fold,
        "epochs": len(run.epochs),
        "hours": f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min" if seconds >= 60 else "",
        "loss": loss_chart(run),
        "dice": dice_chart(run) if run.curves else "",
        "has_sources": run.has_sources,
    }


def _environment(contents: ReportContents, runs: Sequence[Any]) -> list[tuple[str, str]]:
    trained = [(f"training of fold {run.fold}", ", ".join(f"{k} {v}" for k, v in run.environment.items())) for run in runs]
    versions = {"nnunet_partial": __version__, "Python": python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    return [
        ("dataset", f"{contents.dataset}, {len(contents.annotation.cases)} training cases"),
        ("model", contents.model.folder_name),
        *((name, text) for name, text in trained if text),
        ("this report was made with", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _read(contents: ReportContents, case: JudgedCase) -> tuple[ShownCase, np.ndarray]:
    is_ct = next(iter(contents.dataset_json["channel_names"].values())).upper() == "CT"
    shown = read_shown_case(contents.image_of(case), case.reference_file, case.prediction_file, is_ct=is_ct)
    table = protocol_of(case, contents.annotation).candidate_table(contents.annotation.space)
    try:
        return shown, difference_map(*shown.label_maps, table)
    except ValueError as error:
        raise ValueError(f"case '{case.identifier}': {error}") from None


def _names_by_id(contents: ReportContents, case: JudgedCase) -> dict[int, str]:
    """Label id -> class, and what else a reference of this case may hold: unions under ids of their own."""
    space = contents.annotation.space
    names = dict(enumerate(space.classes, 1))
    protocol = protocol_of(case, contents.annotation)
    return names | {number: "+".join(group) for number, group in protocol.labels.items() if number >= space.num_classes}


def read_definitions(summary_files: Sequence[Path]) -> dict[str, str]:
    """What the summary says its metrics mean; empty where it does not say."""
    return json.loads(summary_files[0].read_text(encoding="utf-8")).get("definitions", {})
