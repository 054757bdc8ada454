"""`nnunet_partial convert` on the command line."""

import pytest
from native_sources import write_btcv, write_kits19, write_lits, write_msd

from nnunet_partial.cli import main
from nnunet_partial.dataset_conversion import SOURCES
from nnunet_partial.labels import read_manifest


@pytest.fixture(autouse=True)
def raw(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    return tmp_path / "raw"


def test_pool_file(five_sources, raw, capsys):
    assert main(["convert", str(five_sources), "-np", "2"]) == 0
    assert len(read_manifest(raw / "Dataset500_Abdomen/label_manifest.json").cases) == 10
    assert f"the dataset lies in {raw / 'Dataset500_Abdomen'}" in capsys.readouterr().out


def test_short_form(tmp_path, raw):
    write_lits(tmp_path / "lits")
    arguments = ["convert", "lits", str(tmp_path / "lits"), "-d", "501", "--tumor", "separate", "--name", "Mine"]
    assert main(arguments) == 0
    assert read_manifest(raw / "Dataset501_Mine/label_manifest.json").classes == ("liver", "liver_tumor")


def test_dry_run(five_sources, raw, capsys):
    assert main(["convert", str(five_sources), "--dry-run"]) == 0
    assert "btcv: 2 cases" in capsys.readouterr().out
    assert not raw.exists()


def test_a_preset_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NNUNET_PARTIAL_DOWNLOADS", str(tmp_path))
    write_btcv(tmp_path / "BTCV", numbers=(1,))
    for task, organ in (("Task03_Liver", "liver"), ("Task09_Spleen", "spleen"), ("Task07_Pancreas", "pancreas")):
        labels = {"0": "background", "1": organ} | ({"2": "cancer"} if organ != "spleen" else {})
        write_msd(tmp_path / task, numbers=(1,), ids={organ: 1}, labels=labels)
    assert main(["convert", "shi2021", "--dry-run"]) == 1
    assert f"path '{tmp_path / 'kits19'}' does not exist" in capsys.readouterr().err
    write_kits19(tmp_path / "kits19", numbers=(0,))
    assert main(["convert", "shi2021", "--dry-run"]) == 0
    assert "Dataset500_Shi2021: 5 cases" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lits", "-d", "501"], "the short form lacks path"),
        (["lits", "somewhere"], "the short form lacks -d"),
        (["lts", "somewhere", "-d", "5"], "unknown source 'lts' (did you mean 'lits'?)"),
        (["nowhere.yaml"], "there is no pool file 'nowhere.yaml'"),
        (["nowhere.yaml", "--tumor", "merge"], "--tumor belong to the short form"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments, message, capsys):
    assert main(["convert", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_help_says_every_source_and_its_layout(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    width = max(len(key) for key in SOURCES)
    for key, source in SOURCES.items():
        assert f"\n  {key:<{width}}  {source.layout}\n" in said
