"""Cases dealt to the sources of a mix: what each annotates, unions, and every fault of a mix file."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from native_sources import CLASSES, voxels, write_btcv, write_pool

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import AnnotatedDataset, read_annotated_dataset
from nnunet_partial.dataset_conversion.simulation.mix import deal, read_mix
from nnunet_partial.dataset_conversion.simulation.plan import plan_like, plan_missing
from nnunet_partial.dataset_conversion.simulation.simulate import write_simulations
from nnunet_partial.labels import DatasetRecord, LabelSpace, read_manifest

SPACE = LabelSpace(classes=CLASSES)
MIX = {
    "lits": {"classes": ["liver"], "cases": 2},
    "kits": {"classes": [["kidney_right", "kidney_left"]], "cases": 1},
    "msd": {"classes": ["spleen", "pancreas"], "cases": 1},
    "btcv": {"classes": "all", "cases": 2},
}


def write_mix(path: Path, mix: object = MIX) -> Path:
    path.write_text(yaml.safe_dump(mix, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> AnnotatedDataset:
    """Eight cases annotated for five organs."""
    root = tmp_path_factory.mktemp("original")
    write_btcv(root / "btcv", numbers=range(1, 9), axes="RAS")
    pool = write_pool(root / "pool.yaml", [{"source": "btcv", "path": "btcv"}], number=510)
    return read_annotated_dataset(convert_pool(pool, root / "raw", ConvertOptions(progress=False)))


def like(source: AnnotatedDataset, raw: Path, mix: object = MIX, *, seed: int = 0, held_out=("btcv_0004",)) -> Path:
    raw.mkdir(exist_ok=True)
    read = read_mix(write_mix(raw / "mix.yaml", mix), source.manifest.space)
    plan = plan_like(source, DatasetRecord(id=515, name="Mixed"), read, seed=seed, held_out=held_out)
    return write_simulations(source, [plan], raw, progress=False)[0]


def test_each_source_annotates_its_own_classes(source, tmp_path):
    folder = like(source, tmp_path)
    manifest = read_manifest(folder / "label_manifest.json")
    assert {entry.name: sum(case.source == entry.name for case in manifest.cases) for entry in manifest.sources} == {
        "lits": 2, "kits": 1, "msd": 1, "btcv": 2
    }  # fmt: skip
    keeps = {"lits": {1: 1}, "kits": {4: 5, 5: 5}, "msd": {2: 2, 3: 3}, "btcv": {n: n for n in range(1, 6)}}
    for case in manifest.cases:
        assert case.protocol == case.source
        before = voxels(source.label_file(case.identifier))
        expected = np.zeros_like(before)
        for old, new in keeps[case.source].items():
            expected[before == old] = new
        np.testing.assert_array_equal(voxels(folder / f"labelsTr/{case.identifier}.nii.gz"), expected)
        assert (folder / f"references/{case.identifier}.nii.gz").samefile(source.label_file(case.identifier))
    assert manifest.protocols["kits"].labels == {5: ("kidney_right", "kidney_left")}
    assert all(record.licence == source.manifest.sources[0].licence for record in manifest.sources)
    said = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    assert said["like"]["kits"] == {"classes": [["kidney_right", "kidney_left"]], "cases": 1}
    assert len(said["unused"]) == 1
    used = {*said["dropped"], *said["held_out"], *said["unused"]}
    assert used == set(source.cases)


def test_images_that_nobody_annotated(source, tmp_path):
    mix = {"annotated": {"classes": "all", "cases": 2}, "images": {"classes": "none", "cases": 5}}
    folder = like(source, tmp_path, mix)
    manifest = read_manifest(folder / "label_manifest.json")
    assert manifest.protocols["images"].labels == {}
    unannotated = [case.identifier for case in manifest.cases if case.source == "images"]
    assert len(unannotated) == 5
    for identifier in unannotated:
        assert not voxels(folder / f"labelsTr/{identifier}.nii.gz").any()
        assert voxels(folder / f"references/{identifier}.nii.gz").any()


def test_the_deal_is_drawn(source):
    mix = read_mix(write_mix(source.folder.parent / "mix.yaml"), SPACE)
    deals = [deal(list(source.cases), mix, seed) for seed in range(6)]
    assert deal(list(reversed(source.cases)), mix, 0) == deals[0]
    assert len({str(dealt) for dealt in deals}) > 3
    for dealt in deals:
        assert sorted(name for names in dealt.values() for name in names) == sorted(source.cases)


def test_labels_are_dropped_from_a_mix_as_well(source, tmp_path):
    """A union is one annotation: it is kept or dropped as a whole, and named in the protocol."""
    mix = {"kits": {"classes": [["kidney_left", "kidney_right"], "liver"], "cases": 4}, "btcv": {"classes": "all", "cases": 4}}
    folder = like(source, tmp_path, mix, held_out=())
    mixed = read_annotated_dataset(folder, keep_missing=True)
    plan = plan_missing(mixed, DatasetRecord(id=516, name="Less"), 50, seed=0)
    less = write_simulations(mixed, [plan], tmp_path, progress=False)[0]
    manifest = read_manifest(less / "label_manifest.json")
    both = ("kidney_left", "kidney_right")
    unions = [case for case in manifest.cases if both in manifest.protocols[case.protocol].labels.values()]
    assert len(unions) == 2
    assert all(case.label_counts[4] > 0 and "|" in case.protocol for case in unions)
    for case in manifest.cases:
        if case.source == "kits" and case not in unions:
            assert 4 not in case.label_counts


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        ("liver", "a mix file names sources, such as {lits: "),
        ({"lits": {"classes": ["livr"], "cases": 1}}, "source 'lits': class 'livr' is not in the label space (did you mean"),
        ({"lits": {"classes": ["liver"], "cases": 0}}, "source 'lits': cases: Input should be greater than or equal to 1"),
        ({"lits": {"classes": ["liver"], "number": 1}}, "source 'lits': number: Extra inputs are not permitted"),
        ({"lits": {"classes": 5, "cases": 1}}, "source 'lits': classes: expected 'all', 'none' or a list such as"),
        ({"lits": {"classes": [], "cases": 1}}, "source 'lits': classes: expected 'all', 'none' or a list such as"),
        ({"lits": {"classes": [[]], "cases": 1}}, "a list of classes under one label is empty"),
        ({"lits": {"classes": ["liver", ["liver", "spleen"]], "cases": 1}}, "source 'lits': liver named twice"),
        ({"lits": 5}, "source 'lits': needs classes and cases, got 5"),
        ({"lits": {"classes": ["liver"], "cases": 1}}, "class 'spleen' is annotated by no source of the mix"),
    ],
)  # fmt: skip
def test_faults_of_a_mix_file(tmp_path, mix, sentence):
    with pytest.raises(ConversionError) as caught:
        read_mix(write_mix(tmp_path / "mix.yaml", mix), SPACE)
    assert sentence in str(caught.value)


def test_a_mix_file_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no mix file"):
        read_mix(tmp_path / "none.yaml", SPACE)
    (tmp_path / "broken.yaml").write_text("{lits: [")
    with pytest.raises(ConversionError, match="not a YAML file"):
        read_mix(tmp_path / "broken.yaml", SPACE)


def test_refuses_too_few_cases_and_partly_annotated_ones(source, tmp_path):
    with pytest.raises(ConversionError, match="the mix has 6 cases, there are 5 to deal"):
        like(source, tmp_path, held_out=("btcv_0001", "btcv_0002", "btcv_0003"))
    mixed = read_annotated_dataset(like(source, tmp_path), keep_missing=True)
    with pytest.raises(ConversionError, match="--like deals out cases in which every class was looked for"):
        like(mixed, tmp_path / "again")
