"""`nnunet_partial preset`: list, show, write, splits."""

import json

from small_dataset import DATASET, DATASET_JSON

from nnunet_partial.dataset_conversion.preset import DOWNLOADS, read_preset

SOURCES = {"btcv": 30, "task03_liver": 131, "task09_spleen": 41, "task07_pancreas": 281, "kits19": 210}


def write_dataset(folders, numbers):
    cases = {
        f"{name}_{number}": {"protocol": "liver", "source": name} for name, count in numbers.items() for number in range(count)
    }
    content = DATASET_JSON | {"annotation": {"protocols": {"liver": {"labels": {1: ["liver"]}}}, "cases": cases}}
    folder = folders["nnUNet_raw"] / DATASET
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content))


def test_list_and_show(cli):
    status, out, _ = cli("preset", "list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["inerrant", "shi2021"]
    _, out, _ = cli("preset", "show", "shi2021")
    assert read_preset("shi2021").pool_text() in out
    assert "nnunet_partial preset splits shi2021 -d 500" in out
    assert "PRIVATE, not published" in cli("preset", "show", "inerrant")[1]


def test_write(cli, tmp_path):
    status, out, _ = cli("preset", "write", "shi2021", tmp_path / "pool.yaml")
    assert status == 0
    assert f"export {DOWNLOADS}=" in out
    assert f"nnunet_partial convert {tmp_path / 'pool.yaml'} --dry-run" in out
    assert (tmp_path / "pool.yaml").read_text(encoding="utf-8") == read_preset("shi2021").pool_text()
    status, out, _ = cli("preset", "write", "inerrant", tmp_path / "other.yaml", "--downloads", tmp_path / "downloads")
    assert f"convert lits {tmp_path / 'downloads'}/LiTS" in out
    assert f'path: "{tmp_path / "downloads"}/TCIA"' in (tmp_path / "other.yaml").read_text(encoding="utf-8")
    status, _, err = cli("preset", "write", "shi2021", tmp_path / "other.yaml")
    assert status == 1
    assert "exists and is another file" in err


def test_splits(cli, folders):
    write_dataset(folders, SOURCES)
    path = folders["nnUNet_preprocessed"] / DATASET / "splits_final.json"
    status, out, _ = cli("preset", "splits", "shi2021", "-d", 500)
    assert status == 0
    assert f"fold 0 trains on 549 cases and validates on 138: {path}" in out
    assert "6 cases of the downloads are in neither" in out
    assert len(json.loads(path.read_text(encoding="utf-8"))[0]["train"]) == 549
    assert cli("preset", "splits", "shi2021", "-d", 500)[0] == 0
    path.write_text("[]")
    status, _, err = cli("preset", "splits", "shi2021", "-d", 500)
    assert status == 1
    assert "exists and is another split" in err
    assert path.read_text(encoding="utf-8") == "[]"


def test_splits_are_refused_where_numbers_differ(cli, folders):
    write_dataset(folders, SOURCES | {"kits19": 200})
    status, _, err = cli("preset", "splits", "shi2021", "-d", 500)
    assert status == 1
    assert "source 'kits19' has 200 cases, the paper 210 (168 training, 42 test)" in err
    assert not (folders["nnUNet_preprocessed"] / DATASET).exists()
