"""Real CT end to end: convert, simulate, nnU-Net's own check, and evaluation against the labels that were kept."""

import json
import multiprocessing
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest
from native_sources import voxels
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_partial.cli import main
from nnunet_partial.labels import read_manifest, remap_labels

SCANS = ("0001", "0021", "0023", "0035")
WITHOUT_GALLBLADDER = ("btcv_0023", "btcv_0035")


@pytest.fixture(scope="module")
def raw(real_data, tmp_path_factory):
    """Four BTCV scans, two of them without a gallbladder; simulated with half of the labels missing, one scan held out."""
    root = tmp_path_factory.mktemp("real")
    for kind in ("img", "label"):
        (root / "btcv" / kind).mkdir(parents=True)
        for number in SCANS:
            name = f"{kind}{number}.nii.gz"
            (root / "btcv" / kind / name).write_bytes((real_data / "btcv" / kind / name).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            patch.setenv(variable, str(root / variable))
        assert main(["convert", "btcv", str(root / "btcv"), "-d", "510", "--name", "Abdomen", "-np", "1"]) == 0
        arguments = ["simulate", "-d", "510", "--missing", "50", "--as", "511", "--test-cases", "btcv_0021"]
        assert main([*arguments, "-np", "2"]) == 0
        yield root / "nnUNet_raw"


def test_nnunet_finds_it_whole_and_reads_nothing_else(raw, capsys, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))  # spawning takes seconds
    folder = raw / "Dataset511_Abdomen_missing50"
    verify_dataset_integrity(str(folder), num_processes=1)
    said = capsys.readouterr().out
    assert "Done" in said
    assert "Warning" not in said


def test_labels_and_absence(raw):
    folder = raw / "Dataset511_Abdomen_missing50"
    manifest, original = (read_manifest(place / "label_manifest.json") for place in (folder, raw / "Dataset510_Abdomen"))
    before = {case.identifier: case for case in original.cases}
    assert len(manifest.cases) == 3
    for case in manifest.cases:
        annotated = manifest.protocols[case.protocol].annotated_classes
        ids = {number: number if name in annotated else 0 for number, name in enumerate(manifest.classes, 1)}
        reference = voxels(folder / f"references/{case.identifier}.nii.gz")
        np.testing.assert_array_equal(voxels(folder / f"labelsTr/{case.identifier}.nii.gz"), remap_labels(reference, ids))
        assert set(case.absent) == set(before[case.identifier].absent) & annotated
    for name in manifest.classes:
        assert sum(name in manifest.protocols[case.protocol].annotated_classes for case in manifest.cases) == 1  # of 3, 1.5 go
    gallbladder = [c.identifier for c in manifest.cases if "gallbladder" in manifest.protocols[c.protocol].annotated_classes]
    assert not set(gallbladder) & set(WITHOUT_GALLBLADDER)  # the one that is left must show it


def test_evaluation_against_the_references_judges_what_was_dropped(raw, tmp_path, capsys):
    folder = raw / "Dataset511_Abdomen_missing50"
    (tmp_path / "predictions").mkdir()
    for path in (folder / "labelsTr").iterdir():  # a model that learnt to leave out what was dropped
        (tmp_path / "predictions" / path.name).write_bytes(path.read_bytes())
    command = ["evaluate", "-d", "511", "-i", str(tmp_path / "predictions")]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["foreground_mean"]["Dice"] == 1
    assert main([*command, "-r", str(folder / "references"), "--full-reference", "--allow-missing", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["annotated_cases"]["liver"] == 3
    assert answer["mean"]["liver"]["Dice"] == pytest.approx(1 / 3)


def test_evaluation_of_the_held_out_case(raw, tmp_path, capsys):
    folder = raw / "Dataset511_Abdomen_missing50"
    (tmp_path / "btcv_0021.nii.gz").write_bytes((folder / "references/btcv_0021.nii.gz").read_bytes())
    command = ["evaluate", "-d", "511", "-i", str(tmp_path), "-r", str(folder / "labelsTs"), "--full-reference"]
    assert main(command) == 0
    assert "1 cases judged" in capsys.readouterr().out
    (tmp_path / "btcv_0021.nii.gz").unlink()
    assert main(command) == 1
