"""Exported pseudo-labels lie in the raw image where they lay in its preprocessed copy; human labels stay as they were."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from phantom_dataset import set_nnunet_folders
from scipy.special import expit
from tilted_dataset import FULL, PARTLY, TiltedDataset, write_tilted_dataset

from nnunet_partial.labels import write_json
from nnunet_partial.pseudo_labels.export import export_round, export_run
from nnunet_partial.pseudo_labels.files import RoundFiles, RunFiles
from nnunet_partial.pseudo_labels.request import RoundsRequest
from nnunet_partial.training.arrays import open_array, write_array

MODEL = "nnUNetTrainerAmbiguity__nnUNetPlans__3d_fullres"
SCORE = 1.25


@pytest.fixture
def write(tmp_path, small_dataset) -> Callable[..., TiltedDataset]:
    file = small_dataset / "nnUNet_preprocessed" / "Dataset701_Small" / "nnUNetPlans.json"
    return lambda **options: write_tilted_dataset(tmp_path, json.loads(file.read_text(encoding="utf-8")), **options)


@pytest.fixture
def tilted(write) -> TiltedDataset:
    return write()


def run_of(dataset: TiltedDataset) -> RunFiles:
    results = dataset.raw.parents[1] / "nnUNet_results" / dataset.raw.name / MODEL / "fold_0"
    return RunFiles(results, dataset.preprocessed, "run")


def write_round(dataset: TiltedDataset, number: int = 1, *, score: float = SCORE) -> RoundFiles:
    """A round in which the partly annotated case gets its true kidneys, all with the same score."""
    files, patch = run_of(dataset).round(number), dataset.configuration_manager.patch_size
    human, truth = open_array(dataset.human / f"{PARTLY}_seg.b2nd")[:], dataset.references.load(PARTLY)
    predicted = np.where((truth > 1) & (human == 0), truth, 0).astype(np.int16)
    write_array(predicted, files.prediction_of(PARTLY), patch)
    write_array(np.where(predicted, score, 0).astype(np.float32), files.score_of(PARTLY), patch)
    write_array(np.where(predicted, predicted, human).astype(np.int16), files.labels_of(PARTLY), patch)
    (files.labels / f"{PARTLY}.pkl").write_bytes((dataset.human / f"{PARTLY}.pkl").read_bytes())
    return files


def export(dataset: TiltedDataset, files: RoundFiles, output: Path, **options: object) -> int:
    cases, folders = (FULL, PARTLY), (dataset.raw, dataset.preprocessed)
    managers = dataset.plans_manager, dataset.configuration_manager
    return export_round(files, cases, *folders, *managers, output, progress=False, **options)


def read(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        *(("SimpleITKIO", ".nii.gz"), ("SimpleITKIO", ".mha"), ("NibabelIO", ".nii.gz")),
        *(("SimpleITKIOWithReorient", ".nrrd"), ("NibabelIOWithReorient", ".nii.gz")),
    ],
)
def test_pseudo_labels_lie_where_the_organs_are(write, tmp_path, reader, ending):
    dataset = write(reader=reader, ending=ending)
    assert export(dataset, write_round(dataset), tmp_path / "out") == 1
    image = SimpleITK.ReadImage(str(dataset.raw / "imagesTr" / f"{PARTLY}_0000{ending}"))
    truth, human = (read(dataset.raw / folder / f"{PARTLY}{ending}") for folder in ("references", "labelsTr"))
    inside = SimpleITK.GetArrayFromImage(image) != 0  # what is cropped away cannot come back
    pseudo, merged = read(tmp_path / "out" / f"{PARTLY}.nii.gz"), read(tmp_path / "out" / f"{PARTLY}_merged.nii.gz")
    for label in (2, 3):
        assert dice(pseudo == label, (truth == label) & inside) > 0.9
    np.testing.assert_array_equal(merged[human != 0], human[human != 0])
    np.testing.assert_array_equal(merged[human == 0], pseudo[human == 0])
    assert not pseudo[human != 0].any()
    for kind in ("", "_confidence", "_merged"):
        written = SimpleITK.ReadImage(str(tmp_path / "out" / f"{PARTLY}{kind}.nii.gz"))
        assert written.GetSize() == image.GetSize()
        for geometry in ("GetOrigin", "GetSpacing", "GetDirection"):
            np.testing.assert_allclose(getattr(written, geometry)(), getattr(image, geometry)(), atol=1e-4)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "export.json",
        *(f"{PARTLY}{kind}.nii.gz" for kind in ("", "_confidence", "_merged")),
    ]  # and nothing of the fully annotated case, nor temporary files


def test_confidence_does_not_fade_at_the_rim(tilted, tmp_path):
    export(tilted, write_round(tilted), tmp_path / "out")
    confidence, pseudo = read(tmp_path / "out" / f"{PARTLY}_confidence.nii.gz"), read(tmp_path / "out" / f"{PARTLY}.nii.gz")
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence[pseudo > 0], expit(SCORE), rtol=1e-4)
    np.testing.assert_allclose(confidence[confidence > 0], expit(SCORE), rtol=1e-4)
    assert (confidence > 0).sum() < 1.1 * (pseudo > 0).sum()  # the liver, drawn by a human, has none


def test_confidence_varies_as_the_score_does(tilted, tmp_path):
    files = write_round(tilted)
    prediction = open_array(files.prediction_of(PARTLY))[:]
    scores = np.where(prediction == 2, 3.0, np.where(prediction == 3, -1.0, 0)).astype(np.float32)
    write_array(scores, files.score_of(PARTLY), tilted.configuration_manager.patch_size)
    export(tilted, files, tmp_path / "out")
    confidence, pseudo = read(tmp_path / "out" / f"{PARTLY}_confidence.nii.gz"), read(tmp_path / "out" / f"{PARTLY}.nii.gz")
    for label, score in ((2, 3.0), (3, -1.0)):
        np.testing.assert_allclose(confidence[pseudo == label], expit(score), rtol=1e-4)


def test_a_human_label_is_never_touched(tilted, tmp_path):
    files, human = write_round(tilted), open_array(tilted.human / f"{PARTLY}_seg.b2nd")[:]
    around = np.where(human == 0, 3, human)  # resampled, it would creep over the liver's border
    write_array(around.astype(np.int16), files.labels_of(PARTLY), tilted.configuration_manager.patch_size)
    export(tilted, files, tmp_path / "out")
    pseudo, merged, raw = (
        read(file)
        for file in (
            *(tmp_path / "out" / f"{PARTLY}{kind}.nii.gz" for kind in ("", "_merged")),
            tilted.raw / "labelsTr" / f"{PARTLY}.nii.gz",
        )
    )
    assert not pseudo[raw != 0].any()
    np.testing.assert_array_equal(merged, np.where(raw == 0, pseudo, raw))


def test_finished_files_are_left_until_the_round_is_newer(tilted, tmp_path):
    files = write_round(tilted)
    export(tilted, files, tmp_path / "out")
    paths = [tmp_path / "out" / f"{PARTLY}{kind}.nii.gz" for kind in ("", "_confidence", "_merged")]
    made = [path.stat().st_mtime_ns for path in paths]
    assert export(tilted, files, tmp_path / "out") == 1
    assert [path.stat().st_mtime_ns for path in paths] == made
    paths[1].unlink()
    export(tilted, files, tmp_path / "out")
    assert all(path.exists() for path in paths)
    made = [path.stat().st_mtime_ns for path in paths]
    os.utime(files.labels_of(PARTLY), ns=(max(made) + 10**9,) * 2)
    export(tilted, files, tmp_path / "out")
    assert all(path.stat().st_mtime_ns > before for path, before in zip(paths, made, strict=True))


def test_parts_share_the_cases(tilted, tmp_path):
    files = write_round(tilted)
    counts = [export(tilted, files, tmp_path / "out", num_parts=2, part_id=part) for part in (0, 1)]
    assert counts == [1, 0]


class TestRun:
    @pytest.fixture
    def run(self, tilted, monkeypatch) -> RunFiles:
        set_nnunet_folders(tilted.raw.parents[1], monkeypatch)
        run = run_of(tilted)
        request = RoundsRequest(
            dataset=tilted.raw.name,
            configuration="3d_fullres",
            fold=0,
            trainer="nnUNetTrainerAmbiguity",
            plans="nnUNetPlans",
            name="run",
            epochs=1,
            initial_lr=0.1,
            confidence_epochs=1,
            confidence_lr=0.1,
            confidence_widths=(4,),
        )
        run.results.mkdir(parents=True)
        write_json({"arguments": request.model_dump(mode="json")}, run.description)
        return run

    def test_the_last_round_by_default(self, run, tilted, tmp_path):
        write_round(tilted, 1)
        write_round(tilted, 2, score=0.0)
        assert export_run(run, None, None, tmp_path / "out", progress=False) == 1
        assert read(tmp_path / "out" / f"{PARTLY}_confidence.nii.gz").max() == pytest.approx(0.5)
        assert export_run(run, 1, [PARTLY], tmp_path / "first", progress=False) == 1
        with pytest.raises(
            ValueError, match=r"out holds .*/fold_0/run/round_2 of Dataset702_Tilted; give .*round_1 another folder"
        ):
            export_run(run, 1, None, tmp_path / "out", progress=False)

    def test_refusals(self, run, tilted, tmp_path):
        with pytest.raises(ValueError, match="round 3 of run 'run' has no pseudo-labels; no round has any"):
            export_run(run, None, None, tmp_path / "out")
        write_round(tilted, 1)
        with pytest.raises(ValueError, match="round 2 of run 'run' has no pseudo-labels; those with some are 1"):
            export_run(run, 2, None, tmp_path / "out")
        with pytest.raises(ValueError, match=f"{FULL}: no pseudo-labels after round 1 of run 'run'"):
            export_run(run, 1, [FULL], tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestRefusals:
    def test_parts_and_cases_that_do_not_exist(self, tilted, tmp_path):
        files = write_round(tilted)
        with pytest.raises(ValueError, match="part 2 of 2 does not exist; parts are counted from 0"):
            export(tilted, files, tmp_path / "out", num_parts=2, part_id=2)
        with pytest.raises(ValueError, match=r"1 cases have no image in .*Dataset702_Tilted \(who\)"):
            export_round(
                *(files, [PARTLY, "who"], tilted.raw, tilted.preprocessed, tilted.plans_manager, tilted.configuration_manager),
                tmp_path / "out",
            )
        assert not (tmp_path / "out").exists()

    def test_a_raw_image_of_another_shape(self, tilted, tmp_path):
        file = tilted.raw / "imagesTr" / f"{PARTLY}_0000.nii.gz"
        files = write_round(tilted)
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(file))[:, :, 1:], str(file))
        with pytest.raises(ValueError, match=rf"'{PARTLY}' was preprocessed from an image of shape \(22, 48, 40\), .* has \(21,"):
            export(tilted, files, tmp_path / "out")

    def test_raw_labels_of_another_shape(self, tilted, tmp_path):
        file = tilted.raw / "labelsTr" / f"{PARTLY}.nii.gz"
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(file))[:, :, 1:], str(file))
        with pytest.raises(ValueError, match=rf"labelsTr.*has shape \(21, 48, 40\), the image of case '{PARTLY}' has \(22, 48"):
            export(tilted, write_round(tilted), tmp_path / "out")

    def test_an_image_that_cannot_be_read(self, tilted, tmp_path):
        files = write_round(tilted)
        (tilted.raw / "imagesTr" / f"{PARTLY}_0000.nii.gz").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=rf"{PARTLY}_0000\.nii\.gz cannot be read: "):
            export(tilted, files, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["export.json"]
