"""Pool files: everything wrong with one is said at once."""

import json
from pathlib import Path

import pytest
from native_sources import write_btcv, write_lits, write_msd, write_pool

from nnunet_partial.dataset_conversion import (
    SOURCES,
    ConversionError,
    ConvertOptions,
    PoolConfig,
    convert_pool,
    describe_pool,
    load_pool,
    single_source_pool,
)


def faults_of(path: Path) -> str:
    with pytest.raises(ConversionError) as caught:
        load_pool(path)
    return str(caught.value)


def test_all_faults_are_listed_at_once(tmp_path):
    write_btcv(tmp_path / "btcv", numbers=(1,))
    write_lits(tmp_path / "lits", numbers=(2,))
    (tmp_path / "pool.yaml").write_text("""
dataset: {id: 5000, name: Abdomen}
classes: [livr, spleen]
sources:
  - {source: btvc, path: btcv}
  - {source: btcv, path: nowhere}
  - {source: btcv, path: $TEST_NOT_SET/btcv}
  - {source: lits, path: lits, tumour: merge}
  - {source: lits, path: lits, name: again, tumor: sometimes}
  - {source: lits, path: lits, name: third, tumor: separate}
  - {source: msd, path: lits}
""")
    text = faults_of(tmp_path / "pool.yaml")
    for part in (
        "dataset.id: Input should be less than or equal to 999",
        f"source 'btvc': unknown source 'btvc' (did you mean 'btcv'?); known are {', '.join(SOURCES)}",
        f"source 'btcv': path '{tmp_path / 'nowhere'}' does not exist",
        "the environment variable in '$TEST_NOT_SET/btcv' is not set",
        "source name 'btcv' is used 2 times; give each its own `name:`",
        "sources.3.tumour: Extra inputs are not permitted (did you mean 'tumor'?)",
        "sources.4.tumor: Input should be 'merge', 'separate' or 'union'",
        "source 'third': tumor: separate: class 'liver_tumor' is not in the label space",
        "source 'msd': ",
        "must be one task's folder",
    ):
        assert part in text


def test_class_that_no_source_annotates(tmp_path):
    write_lits(tmp_path / "lits", numbers=(2,))
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "lits", "path": "lits"}], classes=["liver", "livers"])
    assert "class 'livers' is annotated by no source (did you mean 'liver'?)" in faults_of(pool)


def test_faults_of_the_classes_are_listed_with_those_of_the_sources(tmp_path):
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "lits", "path": "nowhere"}], classes=["liver", "liver", "Left Kidney"])
    text = faults_of(pool)
    assert "class 'liver' is listed twice" in text
    assert "class 'Left Kidney': use lower-case letters" in text
    assert "does not exist" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a YAML file"),
        ("- a", "holds the entries dataset, classes and sources"),
        ("classes: [liver]", "dataset: Field required"),
        ("{dataset: {id: 1, name: A}, classes: [liver], sources: []}", "sources: Tuple should have at least 1 item"),
        ("{dataset: {id: 1, nmae: A}, classes: [liver], sources: 3}", "did you mean 'name'?"),
        ("{dataset: {id: 1, name: A}, classes: 7, sources: [4, {source: lits}]}", "sources.1.path: Field required"),
    ],
)
def test_files_that_are_no_pool(tmp_path, content, message):
    (tmp_path / "pool.yaml").write_text(content)
    assert message in faults_of(tmp_path / "pool.yaml")


def test_missing_pool_file_names_its_neighbour(tmp_path):
    (tmp_path / "abdomen.yaml").touch()
    with pytest.raises(FileNotFoundError, match=r"did you mean 'abdomen.yaml'"):
        load_pool(tmp_path / "abdomn.yaml")


def test_one_collection_is_not_pooled_twice(tmp_path):
    write_lits(tmp_path / "lits", numbers=(2,))
    write_msd(tmp_path / "Task03_Liver", labels={"0": "background", "1": "liver", "2": "cancer"})
    sources = [{"source": "lits", "path": "lits"}, {"source": "msd", "path": "Task03_Liver"}]
    assert "sources lits and msd hold the same scans (LiTS)" in faults_of(
        write_pool(tmp_path / "pool.yaml", sources, classes=["liver"])
    )


def test_one_folder_is_not_pooled_twice(tmp_path):
    write_msd(tmp_path / "Task11_Mine")
    sources = [{"source": "msd", "path": "Task11_Mine", "name": name} for name in ("one", "two")]
    assert "sources one and two hold the same scans" in faults_of(write_pool(tmp_path / "pool.yaml", sources, classes=["spleen"]))


def test_own_tasks_of_one_name_in_two_folders_are_two_collections(tmp_path):
    for folder in ("north", "south"):
        write_msd(tmp_path / folder / "Task11_Mine")
    sources = [{"source": "msd", "path": f"{name}/Task11_Mine", "name": name} for name in ("north", "south")]
    assert len(load_pool(write_pool(tmp_path / "pool.yaml", sources, classes=["spleen"])).sources) == 2


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("kits19", "kits21", "KiTS19"),
        ("kits21", "kits23", "KiTS19"),
        ("kits19", "abdomenct1k", "KiTS19"),
        ("lits", "abdomenct1k", "LiTS"),
        ("tcia_pancreas", "abdomenct1k", "Pancreas-CT"),
        ("Task07_Pancreas", "abdomenct1k", "Decathlon Pancreas"),
        ("Task07_Pancreas", "flare22", "Decathlon Pancreas"),
        ("Task09_Spleen", "abdomenct1k", "Decathlon Spleen"),
        ("abdomenatlas", "word", "WORD"),
        ("abdomenatlas", "amos22_ct", "AMOS22 CT"),
        ("abdomenatlas", "abdomenct1k", "Decathlon Pancreas, Decathlon Spleen, KiTS19, LiTS, Pancreas-CT"),
    ],
)
def test_known_copies_are_refused_by_both_names(tmp_path, first, second, shared):
    sources = []
    for name in (first, second):
        (tmp_path / name).mkdir()
        if name.startswith("Task"):
            write_msd(tmp_path / name, numbers=())
        sources.append({"source": "msd" if name.startswith("Task") else name, "path": name, "name": name})
    text = faults_of(write_pool(tmp_path / "pool.yaml", sources, classes=["spleen", "liver", "pancreas", "kidney_left"]))
    assert f"sources {first} and {second} hold the same scans ({shared})" in text


def test_overlaps_the_user_knows_of_are_allowed_and_said(tmp_path, capsys):
    write_lits(tmp_path / "lits", numbers=(2,))
    write_msd(tmp_path / "Task03_Liver", numbers=(10,), labels={"0": "background", "1": "liver"}, ids={"liver": 1})
    sources = [{"source": "lits", "path": "lits"}, {"source": "msd", "path": "Task03_Liver"}]
    path = write_pool(tmp_path / "pool.yaml", sources, classes=["liver"])
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "allow_overlap": True}))
    said = "sources lits and msd hold the same scans (LiTS): take care how they are split"
    assert said in describe_pool(path, tmp_path / "raw")
    convert_pool(path, tmp_path / "raw", ConvertOptions(progress=False))
    assert said in capsys.readouterr().out


def test_one_kind_of_image(tmp_path):
    write_lits(tmp_path / "lits", numbers=(2,))
    write_msd(tmp_path / "Task09_Spleen", modality="MRI")
    sources = [{"source": "lits", "path": "lits"}, {"source": "msd", "path": "Task09_Spleen"}]
    pool = write_pool(tmp_path / "pool.yaml", sources, classes=["liver", "spleen"])
    assert "different channels (lits: CT, msd: MRI)" in faults_of(pool)


def test_a_pool_can_be_built_in_python(tmp_path):
    write_lits(tmp_path / "lits", numbers=(2,))
    pool = PoolConfig.model_validate(
        {
            "dataset": {"id": 7, "name": "Liver"},
            "classes": ["liver"],
            "sources": [{"source": "lits", "path": str(tmp_path / "lits"), "name": "munich"}],
        }
    )
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    assert (folder / "labelsTr/munich_2.nii.gz").is_file()
    broken = pool.model_copy(update={"classes": ("spleen",)})
    with pytest.raises(ConversionError, match="annotates none of the classes spleen"):
        convert_pool(broken, tmp_path / "raw", ConvertOptions(progress=False))


def test_short_form_takes_the_source_s_own_classes(tmp_path):
    write_lits(tmp_path / "lits", numbers=(2,))
    assert single_source_pool("lits", str(tmp_path / "lits"), 501).classes == ("liver",)
    pool = single_source_pool("lits", str(tmp_path / "lits"), 501, tumor="separate")
    assert pool.classes == ("liver", "liver_tumor")
    assert pool.dataset.folder_name == "Dataset501_LiTS"
    with pytest.raises(ConversionError, match=r"unknown source 'lit' \(did you mean 'lits'"):
        single_source_pool("lit", str(tmp_path / "lits"), 501)
