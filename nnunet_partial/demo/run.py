"""The demonstration from phantom to picture: seven steps, each of which a user would do the same way on real data."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunet_partial import __version__
from nnunet_partial.demo import layouts, table
from nnunet_partial.demo.commands import Command, installed, run_together
from nnunet_partial.demo.phantom import ORGANS, make_phantom
from nnunet_partial.demo.steps import Report, Step, run_steps
from nnunet_partial.labels import Annotation, write_json
from nnunet_partial.paths import TRAINER_FOLDER, TRAINER_VARIABLE

DATASET_ID, DATASET_NAME = 500, "Abdomen"
DATASET = f"Dataset{DATASET_ID}_{DATASET_NAME}"
CONFIGURATION, FOLD = "3d_fullres", "all"
TRAINERS = {"naive": "nnUNetTrainerNaive", "ours": "nnUNetTrainerMarginalExclusion"}
SETTINGS_FILE = "demo.json"
HELD_OUT_SEED = 9000
INITIAL_LR = 0.007  # AdamW; measured: 0.003 needs twice the iterations to find the spleen
VALIDATION_SHARE = 0.1  # of a training's time that goes into nnU-Net's final validation


@dataclass(frozen=True)
class DemoSettings:
    """How large and how long.

    Attributes:
        cases: Training cases of each source.
        held_out: Cases with the full truth that nobody trains on.
        num_epochs: Epochs of both trainings.
        num_iterations_per_epoch: Batches an epoch.
        seconds: What each step is expected to take on two cores.
    """

    cases: dict[str, int]
    held_out: int
    num_epochs: int
    num_iterations_per_epoch: int
    seconds: dict[str, float]


FULL = DemoSettings(
    cases={"btcv": 3, "lits": 6, "tcia_pancreas": 6, "msd": 6, "kits19": 6},
    held_out=6,
    num_epochs=30,
    num_iterations_per_epoch=32,
    seconds={"phantom": 15, "convert": 15, "plan": 30, "train": 480, "predict": 30, "evaluate": 5, "picture": 5},
)
QUICK = DemoSettings(
    cases={"btcv": 2, "lits": 2, "tcia_pancreas": 2, "msd": 2, "kits19": 2},
    held_out=2,
    num_epochs=2,
    num_iterations_per_epoch=3,
    seconds={"phantom": 5, "convert": 10, "plan": 25, "train": 50, "predict": 20, "evaluate": 3, "picture": 5},
)


def run_demo(folder: Path, settings: DemoSettings = FULL, *, num_processes: int = 2, overwrite: bool = False) -> Path:
    """Run the demonstration, or what an interrupted run has left of it.

    Args:
        folder: Where everything goes.
        settings: How large and how long.
        num_processes: Cases and trainings that are worked on side by side.
        overwrite: Remove an earlier demonstration in the folder first.

    Returns:
        The picture.

    Raises:
        ValueError: the folder holds something else, or a demonstration of another size; or a command failed.
    """
    demo = Demo(folder.resolve(), settings, max(1, num_processes))
    demo.prepare(overwrite)
    run_steps(demo.steps(), demo.folder / "steps")
    return demo.folder / "demo.png"


@dataclass(frozen=True)
class Demo:
    """One demonstration in one folder."""

    folder: Path
    settings: DemoSettings
    num_processes: int

    @property
    def raw(self) -> Path:
        """The converted dataset."""
        return self.folder / "nnUNet_raw" / DATASET

    @cached_property
    def env(self) -> dict[str, str]:
        """What nnU-Net has to be told.

        On a CPU each training takes a thread for every core, and two run side by side: threads that wait must not spin. Limiting
        their number (OMP_THREAD_LIMIT) is no way out: oneDNN's first convolution then never returns.
        """
        folders = {name: str(self.folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        return {
            **folders,
            TRAINER_VARIABLE: str(TRAINER_FOLDER),
            "nnUNet_compile": "f",
            "nnUNet_def_n_proc": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def prepare(self, overwrite: bool) -> None:
        """Make the folder, or make sure that what is in it is this demonstration."""
        file = self.folder / SETTINGS_FILE
        if self.folder.is_dir() and any(self.folder.iterdir()) and not file.exists():
            raise ValueError(f"{self.folder} is not empty and holds no demonstration; choose another folder with -o")
        if file.exists() and overwrite:
            shutil.rmtree(self.folder)
        elif file.exists() and json.loads(file.read_text(encoding="utf-8"))["settings"] != asdict(self.settings):
            raise ValueError(
                f"{self.folder} holds a demonstration of another size (--quick or not, or another version); "
                f"choose another folder with -o, or replace it with --overwrite"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        versions = {"nnunet_partial": __version__, **{name: version(name) for name in ("nnunetv2", "torch", "numpy")}}
        write_json({"settings": asdict(self.settings), "num_processes": self.num_processes, "versions": versions}, file)

    def steps(self) -> list[Step]:
        """The steps in order."""
        seconds = self.settings.seconds
        sources = len(self.settings.cases)
        return [
            Step("phantom", f"make a phantom abdomen, {sources} sources", seconds["phantom"], self.make_sources),
            Step("convert", "pool them (convert)", seconds["convert"], self.convert),
            Step("plan", "plan and preprocess (plan --tiny)", seconds["plan"], self.plan),
            Step("train", "train naive and ours (nnUNetv2_train)", seconds["train"], self.train),
            Step("predict", "predict held-out cases (nnUNetv2_predict)", seconds["predict"], self.predict),
            Step("evaluate", "compare with the truth", seconds["evaluate"], self.evaluate),
            Step("picture", "draw the picture", seconds["picture"], self.draw),
        ]

    def make_sources(self, report: Report) -> None:
        """Five sources in their native layouts, the held-out cases, and the pool file."""
        from nnunet_partial.dataset_conversion.image_files.volume import AXES

        for name in ("sources", "held_out"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        jobs = [(source, n, 100 * k + n) for k, (source, count) in enumerate(self.settings.cases.items()) for n in range(count)]
        jobs += [("held-out", n, HELD_OUT_SEED + n) for n in range(self.settings.held_out)]
        for done, (source, n, seed) in enumerate(jobs):
            report(done / len(jobs), f"{source} {n + 1}")
            phantom = make_phantom(seed)
            if source == "held-out":
                layouts.write_held_out(phantom, self.folder / "held_out", n, AXES)
            else:
                layouts.WRITERS[source](phantom, self.folder / "sources", n)
        (self.folder / "abdomen.yaml").write_text(layouts.pool_text(DATASET_ID, DATASET_NAME), encoding="utf-8")

    def convert(self, report: Report) -> None:
        """One dataset of nnU-Net's out of the five."""
        from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool

        log = self.folder / "logs" / "convert.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("w", encoding="utf-8") as file, redirect_stdout(file):
            options = ConvertOptions(self.num_processes, progress=False)
            convert_pool(self.folder / "abdomen.yaml", self.folder / "nnUNet_raw", options)

    def plan(self, report: Report) -> None:
        """A tiny network, the length of both trainings, preprocessed cases; older trainings do not fit any more."""
        shutil.rmtree(self.folder / "nnUNet_results", ignore_errors=True)
        lengths = [f"{name}={getattr(self.settings, name)}" for name in ("num_epochs", "num_iterations_per_epoch")]
        lengths += [f"initial_lr={INITIAL_LR}", "num_val_iterations_per_epoch=1", "save_every=5"]
        command = [sys.executable, "-m", "nnunet_partial.cli", "plan", "-d", str(DATASET_ID), "--tiny", "--set", *lengths]
        self._run([("plan", [*command, "-np", str(self.num_processes)])], {"nnUNet_n_proc_DA": "1"})

    def train(self, report: Report) -> None:
        """Both trainings with the stock command, side by side where there are cores for it."""
        commands = []
        for name, trainer in TRAINERS.items():
            results = self._results(trainer)
            if (results / "validation" / "summary.json").exists():
                continue
            go_on = ["--c"] if any(results.glob("checkpoint_*.pth")) else []
            command = [
                installed("nnUNetv2_train"),
                str(DATASET_ID),
                CONFIGURATION,
                FOLD,
                "-tr",
                trainer,
                "-device",
                "cpu",
                *go_on,
            ]
            commands.append((f"train_{name}", command))

        def watch() -> None:
            shares = {name: self._training_share(name) for name in TRAINERS}
            detail = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
            report(sum(shares.values()) / len(shares), detail)

        self._run(commands, {"nnUNet_n_proc_DA": "0"}, watch)

    def predict(self, report: Report) -> None:
        """The held-out cases by both models, with the stock command."""
        commands = []
        for name, trainer in TRAINERS.items():
            output = self._predictions(name)
            shutil.rmtree(output, ignore_errors=True)
            where = ["-i", str(self.folder / "held_out" / "imagesTs"), "-o", str(output)]
            which = ["-d", str(DATASET_ID), "-c", CONFIGURATION, "-f", FOLD, "-tr", trainer]
            how = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar"]
            commands.append((f"predict_{name}", [installed("nnUNetv2_predict"), *where, *which, *how]))

        def watch() -> None:
            found = sum(len(list(self._predictions(name).glob("*.nii.gz"))) for name in TRAINERS)
            report(found / (len(TRAINERS) * self.settings.held_out), f"{found} predictions")

        self._run(commands, {"nnUNet_n_proc_DA": "0"}, watch)

    def evaluate(self, report: Report) -> None:
        """Dice of both against the full truth, as table and as numbers."""
        from nnunet_partial.evaluation import evaluate_folder

        dataset_json = json.loads((self.raw / "dataset.json").read_text(encoding="utf-8"))
        annotation = Annotation.from_dataset_json(dataset_json)
        summaries = {}
        for done, name in enumerate(TRAINERS):
            report(done / len(TRAINERS), name)
            summaries[name] = evaluate_folder(
                self.folder / "held_out" / "labelsTs",
                self._predictions(name),
                annotation,
                dataset_json["file_ending"],
                full_reference=True,
                allow_missing=False,
            )
        results = table.gather(summaries, annotation, asdict(self.settings))
        write_json(results, self.folder / "results.json")
        (self.folder / "table.md").write_text(table.as_markdown(results), encoding="utf-8")

    def draw(self, report: Report) -> None:
        """Slices of two held-out cases with the truth and both segmentations."""
        from nnunet_partial.demo.picture import draw_picture
        from nnunet_partial.report.slices import read_shown_case

        results = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        shown = sorted(results["cases"])[:2]
        held_out, names = self.folder / "held_out", list(TRAINERS)
        cases = [
            read_shown_case(
                held_out / "imagesTs" / f"{case}_0000.nii.gz",
                held_out / "labelsTs" / f"{case}.nii.gz",
                *(self._predictions(name) / f"{case}.nii.gz" for name in names),
            )
            for case in shown
        ]
        dice = [[results["cases"][case][name]["mean"] for name in names] for case in shown]
        annotated = {organ: results["organs"][organ]["annotated_cases"] for organ in ORGANS}
        draw_picture(cases, dice, annotated, results["training_cases"], self.folder / "demo.png")

    def _results(self, trainer: str) -> Path:
        return self.folder / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{CONFIGURATION}" / f"fold_{FOLD}"

    def _predictions(self, name: str) -> Path:
        return self.folder / "predictions" / name

    def _training_share(self, name: str) -> float:
        if (self._results(TRAINERS[name]) / "validation" / "summary.json").exists():
            return 1.0
        log = self.folder / "logs" / f"train_{name}.log"
        said = log.read_text(errors="replace") if log.exists() else ""
        return training_share(said, self.settings.num_epochs, sum(self.settings.cases.values()))

    def _run(self, commands: Sequence[tuple[str, list[str]]], env: dict[str, str], watch: Any = lambda: None) -> None:
        prepared = [Command(arguments, self.folder / "logs" / f"{name}.log", {**self.env, **env}) for name, arguments in commands]
        run_together(prepared, at_once=self.num_processes, watch=watch)


def training_share(said: str, num_epochs: int, num_cases: int) -> float:
    """How far a training is, 0 to 1, from what nnU-Net says while it trains and then validates."""
    begun = [int(number) for number in re.findall(r"Epoch (\d+)\s*$", said, flags=re.MULTILINE)]
    ended = len(re.findall(r"^.*Epoch time:", said, flags=re.MULTILINE)) if begun else 0
    epochs = (begun[-1] + (ended >= len(begun))) / num_epochs if begun else 0.0
    validated = len(re.findall(r"predicting \S+\s*$", said, flags=re.MULTILINE)) / num_cases
    if "Training done." in said:
        epochs = 1.0
    return min(1.0, (1 - VALIDATION_SHARE) * epochs + VALIDATION_SHARE * validated)


def report_text(folder: Path) -> str:
    """The table and where everything lies, for the terminal."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    files = "\n".join(f"  {folder / name}" for name in ("demo.png", "table.md", "results.json"))
    return f"\n{table.as_text(results)}\n\n{files}"
