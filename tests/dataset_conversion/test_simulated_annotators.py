"""Simulated annotators: how far they stray, what they overlook, and the datasets that are made of them."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from native_sources import BTCV_IDS, CLASSES, contents, drawn, save, voxels, write_btcv, write_pool

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.majority import majority_labels
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import read_annotated_dataset
from nnunet_partial.dataset_conversion.simulation.annotators import SimulatedAnnotators, draw_label_maps
from nnunet_partial.dataset_conversion.simulation.boundary import signed_distance_mm, smooth_noise
from nnunet_partial.dataset_conversion.simulation.plan import plan_annotators, plan_missing
from nnunet_partial.dataset_conversion.simulation.simulate import describe_simulations, write_simulations
from nnunet_partial.dataset_conversion.verify import FAULT, verify_dataset
from nnunet_partial.labels import Annotation, DatasetRecord, read_manifest
from nnunet_partial.labels.manifest import AnnotatorRecord

FIVE = SimulatedAnnotators(number=5, shift_mm=2.0, miss=0.0, seed=0)
NUM_CASES = 6


def half_space(axis: int = 0, size: int = 72) -> np.ndarray:
    """An organ that fills half of a cube: its only boundary is a plane, so a shift can be counted column by column."""
    truth = np.zeros((size,) * 3, dtype=np.uint8)
    truth[tuple(slice(0, size // 2) if other == axis else slice(None) for other in range(3))] = 1
    return truth


def shifts_mm(truth: np.ndarray, annotators: SimulatedAnnotators, spacing_mm, axis: int = 0) -> dict[str, np.ndarray]:
    """How far each annotator moved the plane, column by column."""
    maps = draw_label_maps(truth, np.array(spacing_mm), {1: "liver"}, "case", annotators)
    before = np.count_nonzero(truth, axis=axis)
    return {name: (np.count_nonzero(labels, axis=axis) - before) * spacing_mm[axis] for name, labels in maps.items()}


def test_the_distance_of_a_plane_and_of_a_corner():
    inside = np.zeros((6, 6, 1), dtype=bool)
    inside[:3] = True
    distance_mm = signed_distance_mm(inside, np.array([2.0, 1.0, 1.0]))
    np.testing.assert_allclose(distance_mm[:, 0, 0], [-5, -3, -1, 1, 3, 5])
    inside[:] = False
    inside[:3, :3] = True  # its corner lies half a voxel from the nearest centre in either direction
    assert signed_distance_mm(inside, np.ones(3))[4, 4, 0] == pytest.approx(1.5 * np.sqrt(2))


def test_a_mask_without_another_side():
    assert (signed_distance_mm(np.ones((2, 2, 2), dtype=bool), np.ones(3)) == -np.inf).all()
    assert (signed_distance_mm(np.zeros((2, 2, 2), dtype=bool), np.ones(3)) == np.inf).all()


def test_noise_is_smooth_and_of_unit_variance():
    voxels_ = np.array(np.nonzero(np.ones((40, 40, 40), dtype=bool)))
    fields = [
        smooth_noise((40, 40, 40), np.array([2.0, 2.0, 2.0]), 8.0, np.random.default_rng(seed), voxels_).reshape(40, 40, 40)
        for seed in range(12)
    ]
    assert np.std(fields) == pytest.approx(1, abs=0.1)
    neighbours = np.corrcoef(np.ravel([f[1:] for f in fields]), np.ravel([f[:-1] for f in fields]))[0, 1]
    assert neighbours == pytest.approx(np.exp(-(2.0**2) / (4 * 8.0**2)), abs=0.01)  # of noise behind a Gaussian


@pytest.mark.parametrize(
    ("shift_mm", "spacing_mm", "axis"),
    [(1.0, (1.0, 1.0, 1.0), 0), (2.0, (1.0, 1.0, 1.0), 0), (2.0, (2.0, 2.0, 3.0), 0), (4.0, (1.5, 1.5, 3.0), 2)],
)
def test_the_mean_shift_is_what_was_asked_for(shift_mm, spacing_mm, axis):
    found = [
        np.abs(list(shifts_mm(half_space(axis), SimulatedAnnotators(8, shift_mm, 0.0, seed), spacing_mm, axis).values())).mean()
        for seed in range(4)
    ]
    assert np.mean(found) == pytest.approx(shift_mm, rel=0.1)


def test_an_annotator_is_biased_and_all_of_them_are_not():
    biases_mm = FIVE.biases_mm("liver")
    assert sum(biases_mm.values()) == pytest.approx(0, abs=1e-9)
    assert np.std(list(biases_mm.values())) == pytest.approx(FIVE.spread_mm / np.sqrt(2))
    assert biases_mm != FIVE.biases_mm("spleen")
    found = shifts_mm(half_space(), FIVE, (1.0, 1.0, 1.0))
    for name, bias_mm in biases_mm.items():
        assert found[name].mean() == pytest.approx(bias_mm, abs=1.0)  # the noise of one case does not add up to nothing


def test_boundaries_vary_smoothly():
    for columns_mm in shifts_mm(half_space(), FIVE, (1.0, 1.0, 1.0)).values():
        assert np.abs(np.diff(columns_mm, axis=0)).max() <= 2
        assert np.abs(np.diff(columns_mm, axis=0)).mean() < 0.3
        assert np.ptp(columns_mm) >= 2  # but they do vary


def test_organs_do_not_overlap_and_a_thin_one_is_not_lost():
    truth = np.zeros((40, 40, 40), dtype=np.uint8)
    truth[5:20, 5:35, 5:35], truth[20:35, 5:35, 5:35], truth[37:39, 5:35, 5:35] = 1, 2, 3
    strong = SimulatedAnnotators(4, 6.0, 0.0, seed=1)
    maps = draw_label_maps(truth, np.array([2.0, 2.0, 2.0]), {1: "liver", 2: "spleen", 3: "sheet"}, "case", strong)
    moved = 0
    for labels in maps.values():
        assert set(np.unique(labels)) == {0, 1, 2, 3}
        assert np.count_nonzero(labels == 3) > 0
        moved += np.count_nonzero(labels[truth == 1] == 2) + np.count_nonzero(labels[truth == 2] == 1)
    assert moved > 0


def test_between_two_organs_their_ids_do_not_decide():
    truth = np.zeros((40, 40, 40), dtype=np.uint8)
    truth[5:20, 5:35, 5:35], truth[20:35, 5:35, 5:35] = 1, 2
    exchanged, spacing_mm = np.array([0, 2, 1], dtype=np.uint8), np.array([2.0, 2.0, 2.0])
    maps = draw_label_maps(truth, spacing_mm, {1: "liver", 2: "spleen"}, "case", FIVE)
    others = draw_label_maps(exchanged[truth], spacing_mm, {2: "liver", 1: "spleen"}, "case", FIVE)
    for name in FIVE.names:
        np.testing.assert_array_equal(exchanged[maps[name]], others[name])


def test_nothing_moves_without_a_shift():
    truth = drawn({"liver": 1, "spleen": 2})
    exact = SimulatedAnnotators(3, 0.0, 0.0, seed=0)
    for labels in draw_label_maps(truth, np.array([3.0, 3.0, 3.0]), {1: "liver", 2: "spleen"}, "case", exact).values():
        np.testing.assert_array_equal(labels, truth)


def test_an_organ_that_fills_the_scan_has_no_boundary():
    truth = np.ones((5, 5, 5), dtype=np.uint8)
    assert all((labels == 1).all() for labels in draw_label_maps(truth, np.ones(3), {1: "liver"}, "case", FIVE).values())


def test_as_many_organs_are_overlooked_as_was_asked_for():
    annotators = SimulatedAnnotators(20, 2.0, 0.3, seed=3)
    missed = [
        annotators.misses(name, organ, f"case{number}") for name in annotators.names for organ in CLASSES for number in range(50)
    ]
    assert np.mean(missed) == pytest.approx(0.3, abs=0.02)  # 5000 of them: three standard errors
    truth = half_space(size=16)
    maps = draw_label_maps(truth, np.ones(3), {1: "liver"}, "case0", annotators)
    assert {name for name, labels in maps.items() if not labels.any()} == {
        name for name in annotators.names if annotators.misses(name, "liver", "case0")
    }


def test_a_drawing_depends_on_seed_annotator_organ_and_case_alone():
    truth = drawn({"liver": 1, "spleen": 2})
    organs, spacing_mm = {1: "liver", 2: "spleen"}, np.array([3.0, 3.0, 3.0])
    both = draw_label_maps(truth, spacing_mm, organs, "case", FIVE)
    liver = draw_label_maps(np.where(truth == 1, truth, 0), spacing_mm, organs, "case", FIVE)
    for name in FIVE.names:
        np.testing.assert_array_equal(both[name] == 1, liver[name] == 1)  # these two organs do not touch
    other_case = draw_label_maps(truth, spacing_mm, organs, "other", FIVE)
    other_seed = draw_label_maps(truth, spacing_mm, organs, "case", SimulatedAnnotators(5, 2.0, 0.0, seed=1))
    assert any((both[name] != other_case[name]).any() for name in FIVE.names)
    assert any((both[name] != other_seed[name]).any() for name in FIVE.names)


def test_every_impossible_setting_is_said():
    with pytest.raises(ConversionError, match=r"(?s)3 faults.*--annotators 1: .*--shift-mm -1: .*--miss 1: "):
        SimulatedAnnotators(number=1, shift_mm=-1, miss=1, seed=0)


# --- whole datasets


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """A nnUNet_raw folder with six cases of five organs; one has no pancreas."""
    root = tmp_path_factory.mktemp("annotators")
    write_btcv(root / "btcv", numbers=range(1, NUM_CASES + 1))
    ids = {name: number for name, number in BTCV_IDS.items() if name != "pancreas"}
    save(drawn(ids), root / "btcv/RawData/Training/label/label0003.nii.gz", "LAS")
    convert_pool(
        write_pool(root / "pool.yaml", [{"source": "btcv", "path": "btcv"}]), root / "raw", ConvertOptions(progress=False)
    )
    return root / "raw"


@pytest.fixture(scope="module")
def source(raw):
    return read_annotated_dataset(raw / "Dataset500_Abdomen")


def simulated(source, raw: Path, number: int, annotators: SimulatedAnnotators, held_out=()) -> Path:
    plan = plan_annotators(source, DatasetRecord(id=number, name="Drawn"), annotators, held_out=held_out)
    return write_simulations(source, [plan], raw, progress=False)[0]


READERS = SimulatedAnnotators(number=3, shift_mm=6.0, miss=0.2, seed=0)
HELD_OUT = ("btcv_0002",)


@pytest.fixture(scope="module")
def folder(source, raw):
    return simulated(source, raw, 501, READERS, HELD_OUT)


def test_every_annotator_has_a_map_and_the_label_map_is_their_majority(folder, source):
    manifest = read_manifest(folder / "label_manifest.json")
    assert len(manifest.cases) == NUM_CASES - 1
    for case in manifest.cases:
        assert tuple(case.annotators) == READERS.names
        maps = [voxels(folder / f"annotators/{name}/{case.identifier}.nii.gz") for name in READERS.names]
        protocols = [manifest.protocols[annotator.protocol] for annotator in case.annotators.values()]
        labels = voxels(folder / f"labelsTr/{case.identifier}.nii.gz")
        np.testing.assert_array_equal(labels, majority_labels(maps, protocols))
        truth = voxels(source.label_file(case.identifier))
        np.testing.assert_array_equal(voxels(folder / f"references/{case.identifier}.nii.gz"), truth)
        assert all((drawn_ != truth).any() for drawn_ in maps)
        affine = nib.load(folder / f"imagesTr/{case.identifier}_0000.nii.gz").affine
        np.testing.assert_array_equal(nib.load(folder / f"annotators/annotator1/{case.identifier}.nii.gz").affine, affine)


def test_training_finds_the_annotators_and_verify_no_contradiction(folder):
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    annotation = Annotation.from_dataset_json(content)
    assert annotation.cases["btcv_0001"].annotators == dict.fromkeys(READERS.names, "full")
    kinds = {finding.kind for finding in verify_dataset(folder, progress=False).findings if finding.severity == FAULT}
    assert kinds <= {"volume", "anatomy", "mismatch"}  # the phantom's organs are a few voxels large


def test_held_out_cases_are_drawn_where_no_training_looks(folder, source):
    (identifier,) = HELD_OUT
    assert not (folder / f"annotators/annotator1/{identifier}.nii.gz").exists()
    assert all((folder / f"annotatorsTs/{name}/{identifier}.nii.gz").is_file() for name in READERS.names)
    np.testing.assert_array_equal(voxels(folder / f"labelsTs/{identifier}.nii.gz"), voxels(source.label_file(identifier)))


def test_what_was_overlooked_is_said(folder, source):
    said = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    assert (said["annotators"], said["shift_mm"], said["miss"], said["seed"]) == (3, 6.0, 0.2, 0)
    assert set(said["missed"]) == {f"btcv_{number:04d}" for number in range(1, NUM_CASES + 1)}
    manifest = read_manifest(folder / "label_manifest.json")
    for case in manifest.cases:
        for name in READERS.names:
            labels = voxels(folder / f"annotators/{name}/{case.identifier}.nii.gz")
            there = [organ for organ in CLASSES if (voxels(source.label_file(case.identifier)) == CLASSES.index(organ) + 1).any()]
            lost = [organ for organ in there if not (labels == CLASSES.index(organ) + 1).any()]
            assert said["missed"][case.identifier][name] == lost
        drawn_ = voxels(folder / f"labelsTr/{case.identifier}.nii.gz")
        assert case.absent == tuple(organ for number, organ in enumerate(CLASSES, 1) if not (drawn_ == number).any())
    assert any(lost for case in said["missed"].values() for lost in case.values())
    assert sum(said["bias_mm"][name]["liver"] for name in READERS.names) == pytest.approx(0, abs=0.01)


def test_same_arguments_same_bytes_and_a_finished_dataset_is_left_alone(folder, source, raw):
    again = simulated(source, raw, 502, READERS, HELD_OUT)

    def compared(place: Path) -> dict[str, bytes]:
        return {file: content for file, content in contents(place).items() if not file.endswith(".json")}

    assert compared(folder) == compared(again)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*") if path.is_file()}
    simulated(source, raw, 502, READERS, HELD_OUT)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*") if path.is_file()} == before
    lost = again / "annotators/annotator2/btcv_0004.nii.gz"
    content = lost.read_bytes()
    lost.unlink()
    simulated(source, raw, 502, READERS, HELD_OUT)
    assert lost.read_bytes() == content


def test_another_seed_needs_another_folder(folder, source, raw):
    with pytest.raises(ConversionError, match=r"was made with shift_mm 6.0, seed 0, not with shift_mm 2.0, seed 1"):
        simulated(source, raw, 501, SimulatedAnnotators(3, 2.0, 0.2, seed=1), HELD_OUT)


def test_annotators_of_the_source_are_left_behind_and_said(source):
    record = AnnotatorRecord(files=(), protocol="btcv")
    cases = tuple(case.model_copy(update={"annotators": {"1": record, "2": record}}) for case in source.manifest.cases)
    drawn_by_two = type(source)(
        source.folder, source.dataset_json, source.manifest.model_copy(update={"cases": cases}), source.images
    )
    plan = plan_missing(drawn_by_two, DatasetRecord(id=503, name="Less"), 50, seed=0)
    (note,) = plan.notes
    assert note == "the label maps of single annotators (6 cases of the source) are left behind"
    assert note in describe_simulations(drawn_by_two, [plan])
