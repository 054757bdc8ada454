"""Presets: pools that load and convert, sizes of splits that are the paper's, commands that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from native_sources import write_btcv, write_kits19, write_msd

from nnunet_partial.cli import COMMANDS, build_parser
from nnunet_partial.dataset_conversion import ConversionError, load_pool
from nnunet_partial.dataset_conversion.preset import (
    DOWNLOADS,
    PRESET_FOLDER,
    preset_names,
    preset_splits,
    read_preset,
    unused_cases,
    write_pool,
)
from nnunet_partial.labels import Annotation, AnnotationProtocol, CaseAnnotation, LabelSpace
from nnunet_partial.planners import PLANNERS
from nnunet_partial.training.settings import TrainingSettings, parse_settings

ROOT = Path(__file__).parents[2]
SIZES = {  # Shi et al. 2021, table 1: training, test
    "btcv": (24, 6),
    "task03_liver": (100, 26),
    "task09_spleen": (33, 8),
    "task07_pancreas": (224, 56),
    "kits19": (168, 42),
}
DOWNLOADED = {"btcv": 30, "task03_liver": 131, "task09_spleen": 41, "task07_pancreas": 281, "kits19": 210}


def annotation_of(numbers: dict[str, int]) -> Annotation:
    cases = {
        f"{name}_{number:03d}": CaseAnnotation(protocol="liver", source=name)
        for name, count in numbers.items()
        for number in range(count)
    }
    return Annotation(
        space=LabelSpace(classes=("liver",)), protocols={"liver": AnnotationProtocol(labels={1: ("liver",)})}, cases=cases
    )


def by_source(annotation: Annotation, identifiers: list[str]) -> dict[str, int]:
    sources = [annotation.cases[identifier].source for identifier in identifiers]
    return {name: sources.count(name) for name in dict.fromkeys(SIZES)}


def write_shi2021(downloads: Path) -> None:
    """The five downloads of the preset, two cases each."""
    write_btcv(downloads / "BTCV")
    organs = {"0": "background", "1": "liver", "2": "cancer"}
    write_msd(downloads / "Task03_Liver", labels=organs, ids={"liver": 1})
    write_msd(downloads / "Task09_Spleen")
    write_msd(downloads / "Task07_Pancreas", labels=organs | {"1": "pancreas"}, ids={"pancreas": 1})
    write_kits19(downloads / "kits19")


def test_there_are_two():
    assert preset_names() == ["inerrant", "shi2021"]
    with pytest.raises(ValueError, match=r"no preset 'shi' \(did you mean 'shi2021'\?\); there are inerrant, shi2021"):
        read_preset("shi")


def test_the_pool_of_shi2021_loads_from_the_variable(tmp_path, monkeypatch):
    write_shi2021(tmp_path)
    monkeypatch.setenv(DOWNLOADS, str(tmp_path))
    pool = load_pool(PRESET_FOLDER / "shi2021.yaml")
    assert pool.classes == ("liver", "spleen", "pancreas", "kidney_left", "kidney_right")
    assert [(entry.prefix, entry.source, entry.tumor) for entry in pool.sources] == [
        ("btcv", "btcv", None),
        ("task03_liver", "msd", "merge"),
        ("task09_spleen", "msd", None),
        ("task07_pancreas", "msd", "merge"),
        ("kits19", "kits19", "merge"),
    ]
    assert {entry.prefix for entry in pool.sources} == set(read_preset("shi2021").splits)


def test_downloads_are_filled_in_whatever_their_name(tmp_path):
    downloads = tmp_path / 'my "old" {downloads}, #2'
    write_shi2021(downloads)
    preset = read_preset("shi2021")
    write_pool(preset, tmp_path / "pool.yaml", downloads=downloads)
    assert len(load_pool(tmp_path / "pool.yaml").sources) == 5
    write_pool(preset, tmp_path / "pool.yaml", downloads=downloads)  # the same again
    with pytest.raises(ValueError, match="exists and is another file"):
        write_pool(preset, tmp_path / "pool.yaml")


def test_unset_variable_is_said(monkeypatch):
    monkeypatch.delenv(DOWNLOADS, raising=False)
    with pytest.raises(ConversionError, match=f"the environment variable in '.{DOWNLOADS}/TCIA' is not set"):
        load_pool(PRESET_FOLDER / "inerrant.yaml")


@pytest.mark.parametrize("numbers", [DOWNLOADED, {name: sum(sizes) for name, sizes in SIZES.items()}])
def test_splits_have_the_sizes_of_the_paper(numbers):
    annotation = annotation_of(numbers)
    splits = preset_splits(read_preset("shi2021"), annotation)
    assert len(splits) == 1
    assert by_source(annotation, splits[0]["train"]) == {name: train for name, (train, _) in SIZES.items()}
    assert by_source(annotation, splits[0]["val"]) == {name: test for name, (_, test) in SIZES.items()}
    assert not set(splits[0]["train"]) & set(splits[0]["val"])
    assert len(unused_cases(splits, annotation)) == sum(numbers.values()) - sum(map(sum, SIZES.values()))


def test_splits_do_not_move():
    annotation = annotation_of(DOWNLOADED)
    backwards = Annotation(
        space=annotation.space, protocols=annotation.protocols, cases=dict(reversed(list(annotation.cases.items())))
    )
    assert preset_splits(read_preset("shi2021"), annotation) == preset_splits(read_preset("shi2021"), backwards)


def test_splits_of_other_numbers_are_refused():
    numbers = DOWNLOADED | {"btcv": 24, "task03_liver": 130, "lits": 2}
    with pytest.raises(ConversionError) as caught:
        preset_splits(read_preset("shi2021"), annotation_of(numbers))
    assert caught.value.faults == [
        "source 'btcv' has 24 cases, the paper 30 (24 training, 6 test)",
        "source 'task03_liver' has 130 cases, the paper 126 (100 training, 26 test, of 131 in the download)",
        "source 'lits' (2 cases) is not one of the preset's (btcv, task03_liver, task09_spleen, task07_pancreas, kits19)",
    ]
    del numbers["kits19"]
    with pytest.raises(ConversionError, match="source 'kits19' has 0 cases, the paper 210"):
        preset_splits(read_preset("shi2021"), annotation_of(numbers))
    with pytest.raises(ConversionError, match="preset 'inerrant' has no split of fixed sizes: the paper cross-validates"):
        preset_splits(read_preset("inerrant"), annotation_of(DOWNLOADED))


@pytest.mark.parametrize("name", ["inerrant", "shi2021"])
def test_commands_are_taken_by_our_parser_and_use_the_pools_id(name):
    preset = read_preset(name)
    number = yaml.safe_load(preset.pool_text())["dataset"]["id"]
    lines = preset.command_lines("my pool.yaml", Path("/my downloads"))
    assert "nnunet_partial convert 'my pool.yaml' -np 8" in lines
    assert f"nnUNetv2_train {number} 3d_fullres 0 -tr nnUNetTrainerMarginalExclusion" in lines
    assert not any(DOWNLOADS in line for line in lines)
    ours = [line.removeprefix("nnunet_partial ") for line in lines if line.startswith("nnunet_partial ")]
    assert len(ours) >= 4
    for line in ours:
        assert line.split()[0] in COMMANDS
        build_parser().parse_args(re.sub(r"'[^']*'", "quoted", line).split())


def test_shi2021_plans_as_the_paper_says():
    line = next(line for line in read_preset("shi2021").commands if " plan " in line)
    args = build_parser().parse_args(line.split()[1:])
    settings = parse_settings(args.settings)
    TrainingSettings.from_block(settings, where="preset")
    assert (settings["stage_one_epochs"], settings["num_epochs"] - settings["stage_one_epochs"]) == (120, 80)
    assert (settings["num_iterations_per_epoch"], settings["oversample_foreground_percent"]) == (250, 0.33)
    assert settings["sampling"] == "uniform"
    assert (settings["weight_marginal"], settings["weight_exclusion"]) == (1, 2)
    assert all(settings[key] == value for key, value in PLANNERS[args.planner].settings.items())


def test_the_files_are_package_data():
    """What setuptools would put into a wheel."""
    code = (
        "import runpy, setuptools, sys; kept = {}; setuptools.setup = lambda **arguments: kept.update(arguments); "
        "runpy.run_path('setup.py'); from setuptools import Distribution; "
        "d = Distribution({k: kept[k] for k in ('packages', 'package_dir', 'package_data')}); b = d.get_command_obj('build_py'); "
        "b.ensure_finalized(); print([f for p in b.data_files for f in p[3]])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in preset_names():
        assert f"presets/{name}.yaml" in found
        assert f"presets/{name}.protocol.yaml" in found
