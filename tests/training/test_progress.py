"""What a user sees while it trains: curves by class and source, a bar on a terminal, and nnU-Net's W&B logger undisturbed."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.training.logging import nnunet_logger

from nnunet_partial.labels import Annotation
from nnunet_partial.report.class_curves import ALL_SOURCES, moving_average, read_class_curves
from nnunet_partial.trainers import nnUNetTrainerMarginal
from nnunet_partial.training.class_curves import ClassCurves
from nnunet_partial.training.epoch_bar import EpochBar

DATASET_JSON = {
    "labels": {"background": 0, "liver": 1, "kidney_left": 2, "kidney_right": 3},
    "annotation": {
        "protocols": {
            "liver": {"labels": {1: ["liver"]}},
            "both": {"labels": {1: ["liver"], 2: ["kidney_left", "kidney_right"]}},
        },
        "cases": {key: {"protocol": p, "source": p} for key, p in {"a": "liver", "b": "both", "c": "liver"}.items()},
    },
}


@pytest.fixture
def curves(tmp_path) -> ClassCurves:
    return ClassCurves(Annotation.from_dataset_json(DATASET_JSON), tmp_path)


class TestClassCurves:
    def test_counts_go_to_the_source_of_their_case(self, curves):
        counts = np.zeros((3, 4, 3))
        counts[0, :, 0] = 1, 10, 100, 1000
        by_source = curves.by_source(counts, ["a", "b", "c", "b"])
        assert curves.sources == ["both", "liver"]
        assert by_source[:, 0, 0].tolist() == [1010, 101]
        assert by_source.sum() == 1111

    def test_rows_by_hand(self, curves):
        counts = np.zeros((2, 3, 3))
        counts[0, :, 0] = 3, 1, 1  # source 'both', liver: Dice 6 / 8
        curves.add_epoch(0, counts)
        lines = (curves.folder / "progress_classes.csv").read_text(encoding="utf-8").splitlines()
        assert lines == [
            "epoch,source,class,pseudo_dice,tp,fp,fn",
            "0,all sources,liver,0.7500,3,1,1",
            "0,both,liver,0.7500,3,1,1",
            "0,liver,liver,,0,0,0",
        ]  # a union is judged by no pseudo Dice, so the kidneys have no row

    def test_going_on_at_a_checkpoint_leaves_no_row_twice(self, curves):
        for epoch, hits in ((0, 1), (1, 2), (2, 3)):
            curves.add_epoch(epoch, np.full((2, 3, 3), hits))
        again = ClassCurves(curves.annotation, curves.folder)  # killed in epoch 2; the checkpoint stands before epoch 1
        again.add_epoch(1, np.full((2, 3, 3), [[[9], [0], [0]]]))
        points = read_class_curves(curves.folder / "progress_classes.csv")["liver"][ALL_SOURCES]
        assert points[:, 0].tolist() == [0, 1]
        assert points[1, 1] == 1
        again.add_epoch(0, np.zeros((2, 3, 3)))  # a new training in the same folder
        assert len(read_class_curves(curves.folder / "progress_classes.csv")["liver"][ALL_SOURCES]) == 1

    def test_picture(self, curves):
        for epoch in range(3):
            curves.add_epoch(epoch, np.full((2, 3, 3), epoch))
        curves.draw()
        first = (curves.folder / "progress_classes.png").read_bytes()
        assert first.startswith(b"\x89PNG")
        curves.draw()
        assert (curves.folder / "progress_classes.png").read_bytes() == first

    def test_nothing_judged_alone_gives_no_picture(self, tmp_path):
        labels = {2: ["kidney_left", "kidney_right"]}
        annotation = {"protocols": {"sideless": {"labels": labels}}, "cases": {"a": {"protocol": "sideless", "source": "kits"}}}
        curves = ClassCurves(Annotation.from_dataset_json({**DATASET_JSON, "annotation": annotation}), tmp_path)
        curves.add_epoch(0, np.ones((1, 3, 3)))
        curves.draw()
        assert [file.name for file in tmp_path.iterdir()] == ["progress_classes.csv"]

    def test_moving_average_passes_over_what_is_unknown(self):
        averaged = moving_average(np.array([np.nan, 1.0, np.nan, 0.0]))
        np.testing.assert_allclose(averaged, [np.nan, 1, 1, 0.9])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestEpochBar:
    def test_says_epoch_and_time_left_on_a_terminal(self):
        stream, times = Terminal(), iter([0.0, 600.0])
        bar = EpochBar(stream=stream, clock=lambda: next(times))
        for epoch in (4, 5):
            bar.open(epoch, 11, 2)
            bar.advance()
            bar.close()
        assert "epoch 5/11:" in stream.getvalue()
        assert "epoch 6/11, about 1 h 0 min left:" in stream.getvalue()  # 6 epochs of 10 minutes

    def test_says_nothing_elsewhere(self):
        stream = io.StringIO()
        bar = EpochBar(stream=stream)
        bar.advance()  # before any epoch
        bar.open(0, 1, 1)
        bar.advance()
        bar.close()
        assert stream.getvalue() == ""


def test_the_trainer_writes_curves_and_the_wandb_logger_gets_its_numbers(tmp_path, monkeypatch):
    """The host's validation end on fabricated counts; a stand-in for the wandb package notes what nnU-Net hands it."""
    logged, noted = {}, {}
    run = SimpleNamespace(
        config={}, step=0, log=lambda values, step: logged.update({(step, key): v for key, v in values.items()}), summary=noted
    )
    monkeypatch.setattr(nnunet_logger, "wandb", SimpleNamespace(init=lambda **_: run))
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")
    trainer = nnUNetTrainerMarginal.__new__(nnUNetTrainerMarginal)
    trainer.is_ddp, trainer.local_rank, trainer.current_epoch = False, 0, 0
    trainer.logger = nnunet_logger.MetaLogger(tmp_path, resume=False)
    trainer.class_curves = ClassCurves(Annotation.from_dataset_json(DATASET_JSON), tmp_path)
    by_source = np.zeros((2, 3, 3))
    by_source[:, 0, 0] = 5
    hits = dict(zip(("tp_hard", "fp_hard", "fn_hard"), by_source.sum(0), strict=True))
    trainer.on_validation_epoch_end([{"loss": np.array(0.5), **hits, "by_source": by_source}] * 2)
    assert logged[0, "dice_per_class_or_region/class_1"] == 1
    assert logged[0, "val_losses"] == 0.5
    assert noted["current_epoch"] == 0
    assert "0,all sources,liver,1.0000,20,0,0" in (tmp_path / "progress_classes.csv").read_text(encoding="utf-8").splitlines()
    assert (tmp_path / "progress_classes.png").exists()
