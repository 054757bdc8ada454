"""Relabelling of cases in preprocessed space, against the plain route over raw images with nnU-Net's own functions.

    OMP_NUM_THREADS=1 python -m benchmarks.round --classes 5 14 --spacing paper native --clock cpu [--confidence]
    OMP_NUM_THREADS=1 python -m benchmarks.round --classes 117 --shape 64 128 128 --memory
    OMP_NUM_THREADS=1 python -m benchmarks.round --classes 117 --shape 600 512 512 --spacing paper --cases 1 --memory ours

*Plain*, for each case: read and preprocess the raw image, predict it with nnU-Net's sliding window, export the prediction to
the raw grid (with probabilities where --confidence is asked for), paint the unannotated classes into the raw label map,
preprocess the case again. *Ours*: `Relabeller.relabel` in the second round of three, with the first round's labels and
predictions to read; with --confidence a second network ranks. Both run in one process on the same cases, in an order that
alternates; a ratio is formed within each repetition, and the median and quartiles of the ratios are shown.

The network stands in for one: random smooth features and a random 1 x 1 convolution, whose argmax is blobs of every class. Its
time is measured on both sides; "no net" is without it. --memory measures, in a process each, how far nnU-Net's export rises above
the logits that it is given, and how far our relabelling (network and window included) rises above the size of these logits; of an
image whose export does not fit, ours alone.
"""

import argparse
import contextlib
import cProfile
import ctypes
import gc
import itertools
import json
import math
import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from benchmarks.convert import forget_peak, peak_mib
from benchmarks.ratios import CLOCKS, machine, quartiles
from benchmarks.round_dataset import TARGET_SPACING_MM, RoundDataset, make_dataset
from nnunet_partial.losses.log_odds import binary_log_odds
from nnunet_partial.pseudo_labels.criteria import Ranking
from nnunet_partial.pseudo_labels.files import RoundFiles
from nnunet_partial.pseudo_labels.relabel import Relabeller, unannotated_ids
from nnunet_partial.pseudo_labels.sliding_window import SlidingWindow
from nnunet_partial.training.arrays import open_array

NUM_FEATURES, STRIDE, FOREGROUND = 16, 8, 0.12
PEAKS = ("export", "ours", "beside_network")
CUMULATIVE = 3  # in the tuples of pstats
STAGES = {
    "reading": {("ndarray", "__getitem__"), ("arrays", "open_array")},
    "window": {("sliding_window", "_band")},
    "ids and scores": {("relabel", "_predicted")},
    "window of the confidence": {("sliding_window", "at_classes")},
    "selection": {("selection", "select_pseudo_labels")},
    "changed fraction": {("selection", "changed_fraction")},
    "class locations": {("relabel", "class_locations")},
    "writing": {("arrays", "write_array"), ("files", "write_json")},
}
Timings = tuple[float, float]


class StandIn(nn.Module):
    """Stands in for a network: random features at an eighth of the resolution, a random 1 x 1 convolution, enlarged.

    Attributes:
        clock: What counts its time.
        seconds: Its time so far.
        repeat: Give the logits of the first tile from now on to every tile, so that they need no new memory.
    """

    def __init__(self, num_channels: int, seed: int, clock: Callable[[], float]):
        super().__init__()
        self.clock, self.seconds = clock, 0.0
        self.repeat, self.first = False, None
        generator = torch.Generator().manual_seed(seed)
        self.features = nn.Conv3d(1, NUM_FEATURES, 3, padding=1)
        self.last = nn.Conv3d(NUM_FEATURES, num_channels, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (1, C, *S) of an image (1, 1, *S)."""
        if self.repeat and self.first is not None:
            return self.first
        start = self.clock()
        coarse = nn.functional.avg_pool3d(image, STRIDE, ceil_mode=True)
        logits = self.last(torch.tanh(4 * self.features(coarse)))
        logits = nn.functional.interpolate(logits, size=image.shape[2:], mode="trilinear")
        self.seconds += self.clock() - start
        self.first = logits if self.repeat else None
        return logits

    @torch.inference_mode()
    def leave_background(self, image: np.ndarray, foreground: float) -> None:
        """Set the background's bias so that this share of an image (1, *S) is foreground."""
        logits = self(torch.from_numpy(image)[None])[0]
        margin = (logits[1:].amax(0) - logits[0]).flatten()
        self.last.bias[0] += margin.kthvalue(round((1 - foreground) * len(margin))).values


class Plain:
    """Relabelling of a case by way of the raw images, with nnU-Net's own functions."""

    def __init__(self, data: RoundDataset, network: StandIn, folder: Path, save_probabilities: bool):
        self.data, self.network, self.folder, self.save_probabilities = data, network, folder, save_probabilities
        self.preprocessor = data.configuration.preprocessor_class(verbose=False)
        self.recipe = (data.plans, data.configuration, data.dataset_json)
        with contextlib.redirect_stdout(None):  # it would say that it needs CUDA for what nobody asks of it
            self.predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
        self.predictor.manual_initialization(
            network, data.plans, data.configuration, [network.state_dict()], data.dataset_json, "none", None
        )
        for name in ("predicted", "merged", "preprocessed"):
            (folder / name).mkdir(parents=True)

    def relabel(self, case: str) -> None:
        """Predict, export, merge, preprocess again."""
        logits, properties = self.predict(case)
        self.export(case, logits, properties)
        del logits
        self._merge(case)
        label = str(self.folder / "merged" / f"{case}.nii.gz")
        self.preprocessor.run_case_save(str(self.folder / "preprocessed" / case), [self.data.image(case)], label, *self.recipe)

    def predict(self, case: str) -> tuple[Tensor, dict]:
        """Half-precision logits on the preprocessed grid, and what nnU-Net knows of the case."""
        image, _, properties = self.preprocessor.run_case([self.data.image(case)], None, *self.recipe)
        return self.predictor.predict_logits_from_preprocessed_data(torch.from_numpy(image)), properties

    def export(self, case: str, logits: Tensor, properties: dict) -> None:
        """The prediction on the raw grid."""
        target = str(self.folder / "predicted" / case)
        manager, threads = self.data.configuration, torch.get_num_threads()
        export_prediction_from_logits(
            logits, properties, manager, self.data.plans, self.data.dataset_json, target, self.save_probabilities, threads
        )

    def _merge(self, case: str) -> None:
        human, properties = SimpleITKIO().read_seg(self.data.label(case))
        prediction, _ = SimpleITKIO().read_seg(str(self.folder / "predicted" / f"{case}.nii.gz"))
        wanted = np.isin(prediction, unannotated_ids(self.data.annotation, case))
        merged = np.where((human == 0) & wanted, prediction, human)[0].astype(np.uint8)
        SimpleITKIO().write_seg(merged, str(self.folder / "merged" / f"{case}.nii.gz"), properties)


class Ours:
    """Relabelling in preprocessed space."""

    def __init__(self, data: RoundDataset, network: StandIn, confidence: StandIn | None, folder: Path):
        self.data, self.network, self.folder = data, network, folder
        self.window = SlidingWindow(data.configuration.patch_size)
        self.ranking = Ranking(confidence, self.window) if confidence else None

    def relabel(self, case: str, number: int = 2) -> dict:
        """Relabel a case in a round of three."""
        rounds = [RoundFiles(self.folder, self.folder / f"round_{n}") for n in (number - 1, number)]
        return Relabeller(
            annotation=self.data.annotation,
            human=self.data.human,
            files=rounds[1],
            previous=rounds[0] if number > 1 else None,
            segmentation=self.network,
            log_odds=binary_log_odds,
            ranking=self.ranking,
            window=self.window,
            fraction=number / 3,
        ).relabel(case)


class Bench:
    """The two ways on one dataset."""

    def __init__(self, folder: Path, clock: str, confidence: bool, scratch: Path):
        self.data, self.clock, self.scratch = RoundDataset(folder), CLOCKS[clock], scratch
        num_classes = self.data.annotation.space.num_classes
        self.network = StandIn(num_classes, 0, self.clock)
        self.network.leave_background(open_array(self.data.human / f"{self.data.cases[0]}.b2nd")[:], FOREGROUND)
        self.ranking = StandIn(num_classes - 1, 1, self.clock) if confidence else None
        self.ours = Ours(self.data, self.network, self.ranking, scratch / "ours")

    def first_round(self) -> None:
        """What the second round reads."""
        for case in self.data.cases:
            record = self.ours.relabel(case, 1)
            if not any(found["added"] for found in record["classes"].values()):
                raise RuntimeError(f"{case}: the network that stands in predicts nothing")

    def plain(self) -> Plain:
        """The plain route, with an empty folder."""
        shutil.rmtree(self.scratch / "plain", ignore_errors=True)
        return Plain(self.data, self.network, self.scratch / "plain", self.ranking is not None)

    def seconds(self, relabel: Callable[[str], object]) -> Timings:
        """Time of all cases: everything, and the networks."""
        networks = [network for network in (self.network, self.ranking) if network]
        for network in networks:
            network.seconds = 0.0
        start = self.clock()
        for case in self.data.cases:
            relabel(case)
        return self.clock() - start, sum(network.seconds for network in networks)

    def measure(self, repetitions: int) -> dict:
        """Median and quartiles of our time over the plain route's, within repetitions, and seconds a case."""
        self.first_round()
        taken: dict[str, list[Timings]] = {"ours": [], "plain": []}
        for repetition in range(repetitions):
            for way in sorted(taken, reverse=bool(repetition % 2)):
                taken[way].append(self.seconds((self.ours if way == "ours" else self.plain()).relabel))
        count = len(self.data.cases)
        rest = {way: [whole - networks for whole, networks in times] for way, times in taken.items()}
        row = {f"{way}_seconds": statistics.median(times) / count for way, times in rest.items()}
        row |= {f"{way}_network_seconds": statistics.median(time[1] for time in times) / count for way, times in taken.items()}
        whole = {way: [time[0] for time in times] for way, times in taken.items()}
        for name, times in (("", rest), ("_with_network", whole)):
            low, middle, high = quartiles([a / b for a, b in zip(times["ours"], times["plain"], strict=True)])
            row |= {f"time_ratio{name}": middle, f"quartiles{name}": [low, high]}
        return row

    def profile(self) -> dict[str, float]:
        """Milliseconds a case of our stages, without the networks."""
        profiler = cProfile.Profile(self.clock)
        profiler.enable()
        whole, networks = self.seconds(self.ours.relabel)
        profiler.disable()
        calls = pstats.Stats(profiler).stats.items()
        seconds = {
            stage: sum(times[CUMULATIVE] for (file, _, function), times in calls if (Path(file).stem, function) in functions)
            for stage, functions in STAGES.items()
        }
        seconds["window"] -= self.network.seconds
        seconds["window of the confidence"] -= self.ranking.seconds if self.ranking else 0.0
        seconds["the rest"] = whole - networks - sum(seconds.values())
        return {stage: 1e3 * taken / len(self.data.cases) for stage, taken in seconds.items()}


def peak(way: str, bench: Bench) -> float:
    """MiB by which a case raises this process above what it held before."""
    case = bench.data.cases[0]
    if way == "export":
        plain = bench.plain()
        logits, properties = plain.predict(case)
        return rise_mib(lambda: plain.export(case, logits, properties))
    bench.network.repeat = way == "beside_network"
    if bench.ranking:
        bench.ranking.repeat = bench.network.repeat
    bench.ours.relabel(case, 1)
    return rise_mib(lambda: bench.ours.relabel(case, 2))


def rise_mib(work: Callable[[], object]) -> float:
    """How far this process rises above what it holds (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work freed is not there to be used again
    forget_peak()
    before = peak_mib()
    work()
    return peak_mib() - before


def measure_peaks(folder: Path, args: argparse.Namespace) -> dict:
    """Peaks in MiB, each from a process of its own, and ours above the logits over the export's."""
    options = ["--confidence"] if args.confidence else []
    found = {}
    for way in args.memory or PEAKS:
        command = [sys.executable, "-m", "benchmarks.round", "--peak-of", way, "--folder", str(folder), *options]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[f"{way}_mib"] = float(done.stdout.splitlines()[-1])
    data = RoundDataset(folder)
    voxels = math.prod(open_array(data.human / f"{data.cases[0]}_seg.b2nd").shape)
    logits = 2 * data.annotation.space.num_classes * voxels / 2**20
    if "export_mib" in found:
        ours = [way for way in PEAKS[1:] if f"{way}_mib" in found]
        found |= {f"memory_ratio_{way}": (found[f"{way}_mib"] - logits) / found["export_mib"] for way in ours}
    return {"logits_mib": logits, **found}


def print_times(rows: list[dict]) -> None:
    """One line a dataset."""
    print(f"{'':<24}{'ours / plain':>13}  {'quartiles':<18}{'':>9}{'with net':>9}{'plain s':>9}{'ours s':>8}{'nets s':>14}")
    for row in rows:
        spread = "[{:.4f}, {:.4f}]".format(*row["quartiles"])
        ratio = f"{row['time_ratio']:>13.4f}  {spread:<18}{'= 1/' + format(1 / row['time_ratio'], '.1f'):>9}"
        nets = f"{row['plain_network_seconds']:.2f} {row['ours_network_seconds']:.2f}"
        times = f"{row['time_ratio_with_network']:>9.3f}{row['plain_seconds']:>9.2f}{row['ours_seconds']:>8.3f}{nets:>14}"
        print(f"{row['name']:<24}{ratio}{times}")
        if "profile" in row:
            print("    ms: " + ", ".join(f"{stage} {taken:.1f}" for stage, taken in row["profile"].items()))


def print_peaks(rows: list[dict]) -> None:
    """One line a dataset."""
    heads = f"{'logits':>8}{'+ export':>10}{'ours':>8}{'and net':>9}"
    print(f"{'MiB':<24}{heads}{'(ours - logits) / export':>26}{'and net':>9}")
    columns = {"logits_mib": "8.0f", "export_mib": "10.0f", "beside_network_mib": "8.0f", "ours_mib": "9.0f"}
    columns |= {"memory_ratio_beside_network": "26.3f", "memory_ratio_ours": "9.3f"}
    for row in rows:
        print(f"{row['name']:<24}" + "".join(f"{row.get(name, math.nan):>{layout}}" for name, layout in columns.items()))


def measure_all(args: argparse.Namespace, root: Path) -> list[dict]:
    """One row a number of classes and spacing."""
    rows = []
    for spacing, num_organs in itertools.product(args.spacing, args.classes):
        folder = root / "_".join(map(str, (spacing, num_organs, *args.shape, args.cases)))
        if not folder.exists():
            make_dataset(folder, num_organs=num_organs, shape=args.shape, spacing=spacing, cases=args.cases)
        row = {"name": f"K={num_organs} {spacing}{' confidence' if args.confidence else ''}"}
        if args.memory is not None:
            rows.append(row | measure_peaks(folder, args))
            continue
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            bench = Bench(folder, args.clock, args.confidence, Path(scratch))
            row |= {"patch": list(bench.data.configuration.patch_size)} | bench.measure(args.reps)
            rows.append(row | ({"profile": bench.profile()} if args.profile else {}))
    return rows


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 14], help="organs K (default: 5 14)")
    parser.add_argument("--shape", type=int, nargs=3, default=[128, 256, 256], help="of a raw image (default: 128 256 256)")
    parser.add_argument("--spacing", choices=TARGET_SPACING_MM, nargs="+", default=["paper", "native"])
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--confidence", action="store_true", help="a second network ranks; the plain route saves probabilities")
    parser.add_argument("--profile", action="store_true", help="also show where our time goes")
    parser.add_argument("--memory", nargs="*", choices=PEAKS, help="measure peak memory instead: of all three, or of these")
    parser.add_argument("--folder", type=Path, help="keep the datasets here and use them again (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--peak-of", choices=PEAKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        if args.peak_of:
            print(peak(args.peak_of, Bench(args.folder, args.clock, args.confidence, Path(temporary))))
            return
        facts = machine() | {key: getattr(args, key) for key in ("threads", "clock", "shape", "cases", "reps")}
        rows = measure_all(args, args.folder or Path(temporary))
    facts["load_after"] = round(os.getloadavg()[0], 1)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    (print_times if args.memory is None else print_peaks)(rows)
    if args.json:
        args.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
