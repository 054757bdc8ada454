"""Simulated datasets: label maps voxel by voxel, what is known of each case, restarts, and every refusal."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from native_sources import (
    BTCV_IDS,
    CLASSES,
    abdomen,
    contents,
    drawn,
    save,
    voxels,
    write_btcv,
    write_kits19,
    write_lits,
    write_pool,
)

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.simulation import simulated_case
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import read_annotated_dataset
from nnunet_partial.dataset_conversion.simulation.plan import choose_test_cases, plan_missing, protocol_name
from nnunet_partial.dataset_conversion.simulation.simulate import describe_simulations, write_simulations
from nnunet_partial.labels import Annotation, AnnotationProtocol, DatasetRecord, LabelSpace, read_manifest
from nnunet_partial.pseudo_labels.references import ReferenceMaps

NUM_CASES = 10
WITHOUT_PANCREAS = "btcv_0003"
SPACE = LabelSpace(classes=CLASSES)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Ten cases annotated for five organs, one of them without a pancreas."""
    root = tmp_path_factory.mktemp("original")
    write_btcv(root / "btcv", numbers=range(1, NUM_CASES + 1), axes="RAS")
    ids = {name: number for name, number in BTCV_IDS.items() if name != "pancreas"}
    save(drawn(ids), root / "btcv/RawData/Training/label/label0003.nii.gz", "RAS")
    pool = write_pool(root / "pool.yaml", [{"source": "btcv", "path": "btcv"}], number=510)
    return convert_pool(pool, root / "raw", ConvertOptions(progress=False))


@pytest.fixture
def raw(original, tmp_path) -> Path:
    """A nnUNet_raw folder of its own with the original."""
    shutil.copytree(original, tmp_path / "raw" / original.name)  # keeps the times, on which a restart relies
    return tmp_path / "raw"


@pytest.fixture
def source(raw):
    return read_annotated_dataset(raw / "Dataset510_Abdomen")


def record(number: int = 511, name: str = "Less") -> DatasetRecord:
    return DatasetRecord(id=number, name=name)


def missing(
    source, percent: int = 50, *, raw: Path, number: int = 511, seed: int = 0, held_out=(), num_processes: int = 1
) -> Path:
    plan = plan_missing(source, record(number), percent, seed=seed, held_out=held_out)
    return write_simulations(source, [plan], raw, num_processes=num_processes, progress=False)[0]


def faults_of(call, *arguments, **options) -> str:
    with pytest.raises(ConversionError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_dropped_voxels_become_0_and_the_others_stay(source, raw):
    folder = missing(source, raw=raw)
    manifest = read_manifest(folder / "label_manifest.json")
    dropped = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))["dropped"]
    assert len(manifest.cases) == NUM_CASES
    for case in manifest.cases:
        before, after = voxels(source.label_file(case.identifier)), voxels(folder / f"labelsTr/{case.identifier}.nii.gz")
        expected = before.copy()
        for name in dropped[case.identifier]:
            expected[before == SPACE.id_of(name)] = 0
        np.testing.assert_array_equal(after, expected)
        assert manifest.protocols[case.protocol].annotated_classes == set(CLASSES) - set(dropped[case.identifier])
        assert case.label_counts == {int(n): int(count) for n, count in zip(*np.unique(after, return_counts=True), strict=True)}
        np.testing.assert_array_equal(
            nib.load(folder / f"labelsTr/{case.identifier}.nii.gz").affine, nib.load(source.label_file(case.identifier)).affine
        )


def test_half_of_the_annotations_of_every_class_go(source, raw):
    folder = missing(source, 50, raw=raw)
    annotation = Annotation.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8")))
    assert all(len(annotation.annotated_cases(name, annotation.cases)) == NUM_CASES // 2 for name in CLASSES)
    said = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    assert (said["missing_percent"], said["alpha_percent"], said["seed"]) == (50, 50, 0)
    assert said["classes"]["liver"] == {"annotated": 10, "kept": 5, "present": 5}


def test_datasets_of_one_seed_are_nested(source, raw):
    annotations = []
    for number, percent in ((511, 10), (512, 30), (513, 50), (514, 70)):
        folder = missing(source, percent, raw=raw, number=number)
        annotations.append(Annotation.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8"))))
    for more, fewer in itertools.pairwise(annotations):
        for identifier in more.cases:
            assert fewer.protocol_of(identifier).annotated_classes <= more.protocol_of(identifier).annotated_classes


def test_absent_stays_absent_and_what_was_dropped_is_unknown(source, raw):
    kept = dropped = False
    for seed in range(8):
        plan = plan_missing(source, record(511 + seed, f"Seed{seed}"), 50, seed=seed)
        folder = write_simulations(source, [plan], raw, progress=False)[0]
        manifest = read_manifest(folder / "label_manifest.json")
        case = next(case for case in manifest.cases if case.identifier == WITHOUT_PANCREAS)
        is_annotated = "pancreas" in manifest.protocols[case.protocol].annotated_classes
        assert case.absent == (("pancreas",) if is_annotated else ())
        kept, dropped = kept or is_annotated, dropped or not is_annotated
        assert all(case.absent == () for case in manifest.cases if case.identifier != WITHOUT_PANCREAS)
    assert kept
    assert dropped


def test_images_and_references_are_links_and_held_out_cases_keep_their_labels(source, raw):
    held_out = choose_test_cases(source, number=3)
    folder = missing(source, 50, raw=raw, held_out=held_out)
    assert sorted(path.name for path in (folder / "imagesTs").iterdir()) == [f"{name}_0000.nii.gz" for name in held_out]
    assert not set(held_out) & {case.identifier for case in read_manifest(folder / "label_manifest.json").cases}
    assert json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["numTraining"] == NUM_CASES - 3
    for identifier in source.cases:
        images, labels = ("imagesTs", "labelsTs") if identifier in held_out else ("imagesTr", "labelsTr")
        image = folder / images / f"{identifier}_0000.nii.gz"
        assert image.samefile(source.images[identifier][0])
        assert not image.is_symlink()
        assert (folder / f"references/{identifier}.nii.gz").samefile(source.label_file(identifier))
        assert (folder / labels / f"{identifier}.nii.gz").is_file()
    assert all((folder / f"labelsTs/{name}.nii.gz").samefile(source.label_file(name)) for name in held_out)


def test_hold_out_is_drawn_by_seed_or_named(source):
    assert set(choose_test_cases(source, number=2, seed=1)) < set(choose_test_cases(source, number=4, seed=1))
    assert len({choose_test_cases(source, number=2, seed=seed) for seed in range(5)}) > 1
    assert choose_test_cases(source, named=["btcv_0007", "btcv_0002"]) == ("btcv_0002", "btcv_0007")
    assert "no case 'btcv_07' to hold out (did you mean 'btcv_0007'?)" in faults_of(choose_test_cases, source, named=["btcv_07"])
    assert "10 of 10 cases cannot be held out" in faults_of(choose_test_cases, source, number=10)
    assert "-1 of 10 cases" in faults_of(choose_test_cases, source, number=-1)


def test_same_arguments_same_bytes(source, raw, tmp_path):
    first = missing(source, raw=raw, held_out=("btcv_0001",))
    shutil.copytree(raw / "Dataset510_Abdomen", tmp_path / "elsewhere/Dataset510_Abdomen")
    other = read_annotated_dataset(tmp_path / "elsewhere/Dataset510_Abdomen")
    second = missing(other, raw=tmp_path / "elsewhere", held_out=("btcv_0001",), num_processes=4)
    without_times = {
        place: {file: content for file, content in contents(place).items() if ".simulation" not in file}
        for place in (first, second)
    }
    assert without_times[first] == without_times[second]
    assert len(without_times[first]) == 3 + 3 * NUM_CASES  # json files; image, label map and reference of every case


def test_a_killed_run_goes_on_where_it_stopped(source, raw, tmp_path, monkeypatch):
    whole = missing(source, raw=raw, number=511)
    written = []

    def killed(array, header, path):
        if len(written) == 3:
            path.with_name(f".{path.name}.1.tmp.nii.gz").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path)
        write_labels(array, header, path)

    write_labels = simulated_case.write_labels
    with monkeypatch.context() as patch:
        patch.setattr(simulated_case, "write_labels", killed)
        with pytest.raises(KeyboardInterrupt):
            missing(source, raw=raw, number=512)
    folder = raw / "Dataset512_Less"
    assert not (folder / "dataset.json").exists()
    times = {path: path.stat().st_mtime_ns for path in written}
    assert missing(source, raw=raw, number=512) == folder
    assert {path: path.stat().st_mtime_ns for path in written} == times
    relevant = {file: content for file, content in contents(whole).items() if "json" not in file}
    assert {file: content for file, content in contents(folder).items() if "json" not in file} == relevant
    assert not list(folder.rglob("*.tmp*"))


def test_a_finished_dataset_is_left_alone_and_a_lost_file_is_made_again(source, raw):
    folder = missing(source, raw=raw)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    missing(source, raw=raw)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == before
    content = (folder / "labelsTr/btcv_0001.nii.gz").read_bytes()
    (folder / "labelsTr/btcv_0001.nii.gz").unlink()
    missing(source, raw=raw)
    assert (folder / "labelsTr/btcv_0001.nii.gz").read_bytes() == content


def test_a_run_that_was_shot_goes_on(source, raw, tmp_path):
    """SIGKILL while a label map is being written: nothing is there in half, and the same command ends as a fresh one does."""
    code = (
        "import os, signal, sys; from pathlib import Path; from nnunet_partial.cli import main; "
        "replace = Path.replace\n"
        "def shot(self, target):\n"
        "    if str(target).endswith('labelsTr/btcv_0006.nii.gz'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "Path.replace = shot; main(sys.argv[1:])"
    )
    arguments = ["simulate", "-d", "Dataset510_Abdomen", "--as", "512", "--missing", "50", "--name", "Less", "-np", "1"]
    environment = os.environ | {"nnUNet_raw": str(raw)}
    shot = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True)
    assert shot.returncode == -signal.SIGKILL
    folder = raw / "Dataset512_Less"
    assert list(folder.glob("labelsTr/.btcv_0006*.tmp.nii.gz"))
    assert not (folder / "labelsTr/btcv_0006.nii.gz").exists()
    assert not (folder / "dataset.json").exists()
    first = folder / "labelsTr/btcv_0001.nii.gz"
    before = first.stat().st_ino
    missing(source, raw=raw, number=512)
    assert first.stat().st_ino == before
    fresh = missing(source, raw=raw, number=513)
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {path.relative_to(fresh) for path in fresh.rglob("*")}
    for path in folder.glob("labelsTr/*"):
        assert path.read_bytes() == (fresh / "labelsTr" / path.name).read_bytes()


def test_a_full_disk_stops_at_once(source, raw, monkeypatch):
    tried = []

    def full(*arguments):
        tried.append(arguments)
        time.sleep(0.05)
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = missing(source, raw=raw)
    for path in (folder / "labelsTr").iterdir():
        path.unlink()
    monkeypatch.setattr(simulated_case, "write_labels", full)
    assert "no space left below" in faults_of(missing, source, raw=raw)
    assert len(tried) <= 2
    assert not (folder / "dataset.json").exists()  # it was true of a finished dataset only


def test_a_folder_that_was_never_claimed_is_taken(source, raw):
    (raw / "Dataset511_Less/.simulation").mkdir(parents=True)
    (raw / "Dataset511_Less/.simulation/.request.json.1.tmp.json").write_text("{")
    assert (missing(source, raw=raw) / "dataset.json").is_file()


def test_refuses_what_is_not_its_own(source, raw):
    (raw / "Dataset511_Other").mkdir()
    (raw / "Dataset512_Less").mkdir()
    (raw / "Dataset512_Less/notes.txt").write_text("mine")
    plans = [plan_missing(source, record(number), 50, seed=0) for number in (510, 511, 512, 512)]
    said = faults_of(write_simulations, source, plans, raw, progress=False)
    assert "id 512 is asked for twice" in said
    assert f"'{raw / 'Dataset510_Abdomen'}' has the same id" in said
    assert f"'{raw / 'Dataset511_Other'}' has the same id; choose another id, or remove it" in said
    assert f"'{raw / 'Dataset512_Less'}' exists and was not made by `nnunet_partial simulate`" in said
    assert sorted(path.name for path in raw.iterdir()) == ["Dataset510_Abdomen", "Dataset511_Other", "Dataset512_Less"]


def test_refuses_other_arguments_and_a_changed_source(source, raw):
    folder = missing(source, 30, raw=raw)
    before = contents(folder)
    assert "made with missing_percent 30, alpha_percent 70, not with missing_percent 40, alpha_percent 60" in faults_of(
        missing, source, 40, raw=raw
    )
    assert "made with seed 0, not with seed 1" in faults_of(missing, source, 30, raw=raw, seed=1)
    assert "made with held_out [], not with held_out ['btcv_0002']" in faults_of(
        missing, source, 30, raw=raw, held_out=("btcv_0002",)
    )
    (folder / "labelsTr/mine.nii.gz").write_bytes(b"")
    assert "mine.nii.gz' was not made by this simulation; move it away" in faults_of(missing, source, 30, raw=raw)
    (folder / "labelsTr/mine.nii.gz").unlink()
    source.label_file("btcv_0001").touch()
    changed = read_annotated_dataset(source.folder)
    assert "was made before Dataset510_Abdomen changed" in faults_of(missing, changed, 30, raw=raw)
    assert contents(folder) == before


def test_refuses_percentages_and_draws_that_teach_nothing(source):
    assert "--missing 100: give percentages from 0 to 99" in faults_of(plan_missing, source, record(), 100, seed=0)
    all_but_one = [name for name in source.cases if name != WITHOUT_PANCREAS]
    said = faults_of(plan_missing, source, record(), 50, seed=0, held_out=all_but_one)
    assert "class 'pancreas' is there in none of the 1 cases that would be annotated for it" in said


def test_a_broken_label_map_is_named_and_leaves_no_dataset_json(source, raw):
    path = source.label_file("btcv_0002")
    path.write_bytes(path.read_bytes()[:100])
    assert "case 'btcv_0002': " in faults_of(missing, source, 50, raw=raw)
    assert not (raw / "Dataset511_Less/dataset.json").exists()


@pytest.fixture
def partly(tmp_path) -> Path:
    """Two fully annotated cases and four with a liver alone in one dataset."""
    write_btcv(tmp_path / "btcv", numbers=(1, 2))
    write_lits(tmp_path / "lits", numbers=(1, 2, 3, 4))
    pool = write_pool(
        tmp_path / "pool.yaml", [{"source": "btcv", "path": "btcv"}, {"source": "lits", "path": "lits"}], number=520
    )
    return convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))


def test_a_partly_annotated_source_is_refused_unless_welcome(partly, tmp_path):
    said = faults_of(read_annotated_dataset, partly)
    assert "only partly annotated: 4 of 6 cases lack classes" in said
    assert "--keep-missing drops from what is annotated there" in said
    source = read_annotated_dataset(partly, keep_missing=True)
    folder = missing(source, 50, raw=tmp_path / "raw")
    said = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    assert said["classes"]["liver"] == {"annotated": 6, "kept": 3, "present": 3}
    assert said["classes"]["spleen"] == {"annotated": 2, "kept": 1, "present": 1}
    manifest = read_manifest(folder / "label_manifest.json")
    assert manifest.sources == source.manifest.sources
    for case in manifest.cases:
        annotated = manifest.protocols[case.protocol].annotated_classes
        assert annotated <= source.protocol_of(case.identifier).annotated_classes
        assert case.image_files == source.cases[case.identifier].image_files


def test_references_without_sides_are_no_truth_for_the_sides(tmp_path):
    write_btcv(tmp_path / "btcv", numbers=(1, 2))
    write_kits19(tmp_path / "kits", numbers=(1, 2, 3, 4))
    kits = {"source": "kits19", "path": "kits", "sides": "union", "tumor": "merge"}
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "btcv", "path": "btcv"}, kits], number=520)
    source = read_annotated_dataset(convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False)), keep_missing=True)
    folder = missing(source, 50, raw=tmp_path / "raw")
    references = ReferenceMaps(folder, tmp_path, None, None)
    dropped = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))["dropped"]
    shown = {(case, name): references.shows(case, name) for case, names in dropped.items() for name in names}
    without_side = {(case, name) for case, name in shown if case.startswith("kits19")}
    assert {name for _, name in without_side} == {"kidney_left", "kidney_right"}
    assert {key for key, is_shown in shown.items() if not is_shown} == without_side < set(shown)
    assert references.annotation == source.manifest.annotation()


def test_full_references_need_no_annotation(source, raw):
    folder = missing(source, raw=raw)
    references = ReferenceMaps(folder, raw, None, None)
    dropped = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))["dropped"]
    assert all(references.shows(case, name) for case, names in dropped.items() for name in names)
    assert references.annotation is None


def test_cases_annotated_alike_share_a_protocol(source, raw):
    folder = missing(source, 30, raw=raw)
    manifest = read_manifest(folder / "label_manifest.json")
    assert list(manifest.protocols) == sorted({case.protocol for case in manifest.cases})
    sets = [frozenset(protocol.annotated_classes) for protocol in manifest.protocols.values()]
    assert len(set(sets)) == len(sets)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({number: (c,) for number, c in enumerate(CLASSES, 1)}, "full"),
        ({}, "none"),
        ({1: ("liver",), 3: ("pancreas",)}, "only_liver+pancreas"),
        ({1: ("liver",), 2: ("spleen",), 3: ("pancreas",), 5: ("kidney_right",)}, "without_kidney_left"),
        ({4: ("kidney_left", "kidney_right")}, "only_kidney_left|kidney_right"),
        (
            {1: ("liver",), 2: ("spleen",), 3: ("pancreas",), 4: ("kidney_left", "kidney_right")},
            "only_liver+spleen+pancreas+kidney_left|kidney_right",
        ),
        ({5: ("kidney_left", "kidney_right")}, "only_kidney_left|kidney_right@5"),
    ],
)
def test_protocol_names(labels, name):
    assert protocol_name(AnnotationProtocol(labels=labels), SPACE) == name


def write_plain(folder: Path, *, ending: str = ".nii", ignore: bool = False, cases: int = 4) -> Path:
    """A dataset as nnU-Net's users make it, with two channels and no manifest."""
    for number in range(cases):
        labels = drawn({"liver": 1, "spleen": 2} if number else {"liver": 1})
        labels[0, 0, 0] = 3 if ignore else 0
        save(labels, folder / f"labelsTr/scan-{number}{ending}")
        for channel in range(2):
            save(abdomen(number), folder / f"imagesTr/scan-{number}_{channel:04d}{ending}")
    content = {
        "channel_names": {"0": "CT", "1": "CT"},
        "labels": {"background": 0, "liver": 1, "spleen": 2} | ({"ignore": 3} if ignore else {}),
        "numTraining": cases,
        "file_ending": ending,
        "overwrite_image_reader_writer": "NibabelIO",
        "description": "old",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("ending", "ignore"), [(".nii", True), (".nii.gz", False)])
def test_a_plain_dataset_that_is_said_to_be_full(tmp_path, ending, ignore):
    folder = write_plain(tmp_path / "raw/Dataset004_Plain", ending=ending, ignore=ignore)
    assert "there is no label_manifest.json to say what was looked for" in faults_of(read_annotated_dataset, folder)
    source = read_annotated_dataset(folder, full=True)
    assert source.cases["scan-0"].absent == ("spleen",)
    made = missing(source, 50, raw=tmp_path / "raw")
    content = json.loads((made / "dataset.json").read_text(encoding="utf-8"))
    original = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert {key: content[key] for key in ("channel_names", "labels", "file_ending", "overwrite_image_reader_writer")} == {
        key: original[key] for key in ("channel_names", "labels", "file_ending", "overwrite_image_reader_writer")
    }
    manifest = read_manifest(made / "label_manifest.json")
    assert manifest.sources[0].licence == "not stated"
    for case in manifest.cases:
        labels, annotated = (
            voxels(made / f"labelsTr/{case.identifier}{ending}"),
            manifest.protocols[case.protocol].annotated_classes,
        )
        before = voxels(folder / f"labelsTr/{case.identifier}{ending}")
        for number, name in enumerate(("liver", "spleen"), 1):
            np.testing.assert_array_equal(labels == number, (before == number) & (name in annotated))
        np.testing.assert_array_equal(labels == 3, before == 3)
    assert len(list((made / "imagesTr").iterdir())) == 8


def test_refuses_datasets_that_cannot_be_read(source, tmp_path):
    assert "--full is for datasets without label_manifest.json" in faults_of(read_annotated_dataset, source.folder, full=True)
    assert "a finished raw dataset" in faults_of(read_annotated_dataset, tmp_path)
    folder = write_plain(tmp_path / "raw/Dataset004_Plain")

    def said(**changes) -> str:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8")) | changes
        (folder / "dataset.json").write_text(json.dumps(content))
        return faults_of(read_annotated_dataset, folder, full=True)

    labels = {"background": 0, "liver": 1, "spleen": 2}
    assert "dataset.json has file_ending '.png'" in said(file_ending=".png")
    assert "has 2 image files, dataset.json has 1 channels" in said(file_ending=".nii", channel_names={"0": "CT"})
    assert "class 'Liver': use lower-case letters" in said(
        channel_names={"0": "a", "1": "b"}, labels={"background": 0, "Liver": 1}
    )
    assert "case 'scan-1': its label map holds ids [2], which its protocol 'full' does not list" in said(
        labels={"background": 0, "liver": 1}
    )
    (folder / "labelsTr/scan-2.nii").unlink()
    assert "case 'scan-2' has no label map labelsTr/scan-2.nii" in said(labels=labels)


def test_the_table_says_what_is_kept(source):
    plans = [plan_missing(source, record(511 + n, f"M{percent}"), percent, seed=0) for n, percent in enumerate((50, 95))]
    lines = describe_simulations(source, plans).splitlines()
    assert lines[0].split() == ["annotated", "in", "511", "512"]
    assert lines[1].split() == ["liver", "5", "of", "10", "1", "of", "10"]
    assert "511: 10 training cases, 0 held out" in lines
    assert any(line.startswith("512: note: liver: the draw would have kept none of 10 annotations") for line in lines)
