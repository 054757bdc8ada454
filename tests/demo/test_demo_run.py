"""The demonstration: its folder is protected, its numbers add up, its steps resume; the quick version runs for real (slow)."""

import json

import pytest

from nnunet_partial.cli import main
from nnunet_partial.demo import table
from nnunet_partial.demo.phantom import make_phantom
from nnunet_partial.demo.run import FULL, QUICK, Demo, run_demo, training_share
from nnunet_partial.labels import Annotation, AnnotationProtocol
from nnunet_partial.labels.annotation import CaseAnnotation
from nnunet_partial.labels.space import LabelSpace


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not empty and holds no demonstration"):
        run_demo(tmp_path, QUICK, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_another_size_is_refused_unless_overwritten(tmp_path):
    Demo(tmp_path / "d", QUICK, 1).prepare(overwrite=False)
    Demo(tmp_path / "d", QUICK, 2).prepare(overwrite=False)  # the same, with other processes
    (tmp_path / "d" / "steps").mkdir()
    with pytest.raises(ValueError, match="another size"):
        Demo(tmp_path / "d", FULL, 1).prepare(overwrite=False)
    Demo(tmp_path / "d", FULL, 1).prepare(overwrite=True)
    assert not (tmp_path / "d" / "steps").exists()


def test_sources_are_made_with_pool_file_and_held_out_cases(tmp_path, monkeypatch):
    phantom = make_phantom(0)
    monkeypatch.setattr("nnunet_partial.demo.run.make_phantom", lambda seed: phantom)  # the same one each time saves seconds
    demo = Demo(tmp_path, QUICK, 1)
    reported = []
    demo.make_sources(lambda share, detail="": reported.append(share))
    assert (tmp_path / "abdomen.yaml").exists()
    assert sorted(path.name for path in (tmp_path / "sources").iterdir()) == ["Task09_Spleen", "btcv", "kits19", "lits", "tcia"]
    assert len(list((tmp_path / "held_out" / "imagesTs").iterdir())) == QUICK.held_out
    assert reported == sorted(reported)


LOG = """
2025-01-01 10:00:00.0: Epoch 0
2025-01-01 10:00:01.0: Current learning rate: 0.01
2025-01-01 10:00:09.0: Epoch time: 9.0 s
2025-01-01 10:00:09.0:
2025-01-01 10:00:09.0: Epoch 1
"""


@pytest.mark.parametrize(
    ("said", "share"),
    [
        ("", 0.0),
        ("Please cite", 0.0),
        (LOG, 0.9 * 1 / 4),
        (LOG + "2025: Epoch time: 9.0 s\n", 0.9 * 2 / 4),
        ("2025: Epoch 2\n", 0.9 * 2 / 4),  # resumed: the log begins at epoch 2
        ("2025: Epoch 3\n2025: Epoch time: 9 s\n2025: Training done.\n2025: predicting lits_2\n", 0.9 + 0.1 / 10),
    ],
)
def test_training_share_is_read_from_what_nnunet_says(said, share):
    assert training_share(said, num_epochs=4, num_cases=10) == pytest.approx(share)


@pytest.fixture
def results():
    space = LabelSpace(classes=("liver", "spleen"))
    protocols = {
        "full": AnnotationProtocol(labels={1: ("liver",), 2: ("spleen",)}),
        "liver": AnnotationProtocol(labels={1: ("liver",)}),
    }
    cases = {f"c{n}": CaseAnnotation(protocol="liver" if n else "full", source="s") for n in range(3)}
    annotation = Annotation(space=space, protocols=protocols, cases=cases)

    def summary(liver, spleen):
        dice = {1: {"Dice": liver}, 2: {"Dice": spleen}}
        return {"mean": dice, "metric_per_case": [{"identifier": "phantom_00", "metrics": dice}]}

    settings = {"held_out": 1, "num_epochs": 2, "num_iterations_per_epoch": 3}
    return table.gather({"naive": summary(0.9, float("nan")), "ours": summary(0.8, 0.6)}, annotation, settings)


def test_table_counts_annotated_cases_and_averages_known_dice(results):
    assert results["training_cases"] == 3
    assert results["organs"]["liver"] == {"annotated_cases": 3, "naive": 0.9, "ours": 0.8}
    assert results["organs"]["spleen"] == {"annotated_cases": 1, "naive": None, "ours": 0.6}
    assert results["mean"] == {"naive": 0.9, "ours": 0.7}
    assert results["cases"]["phantom_00"]["ours"]["mean"] == 0.7
    json.dumps(results, allow_nan=False)


def test_table_as_text_and_markdown(results):
    assert "| spleen | 1 of 3 | – | 0.60 |" in table.as_markdown(results)
    assert "6 iterations" in table.as_markdown(results)
    lines = table.as_text(results).splitlines()
    assert len({len(line) for line in lines[2:]}) == 1, "columns line up"


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for word in ("nnUNetv2_train", "--quick", "goes on where it stopped", "demo.png"):
        assert word in said


@pytest.mark.slow
def test_quick_demo_runs_from_phantom_to_picture_and_only_once(tmp_path, capsys):
    folder = tmp_path / "demo"
    assert main(["demo", "--quick", "-o", str(folder)]) == 0
    assert "kidney_left" in capsys.readouterr().out
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["organs"]["liver"]["annotated_cases"] == QUICK.cases["btcv"] + QUICK.cases["lits"]
    assert (folder / "demo.png").stat().st_size > 50_000
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "demo.json"}
    assert main(["demo", "--quick", "-o", str(folder)]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
