"""Whole pools: what comes out, and what a rerun, a kill, a change and a fault do."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from native_sources import (
    CLASSES,
    abdomen,
    contents,
    drawn,
    save,
    voxels,
    write_btcv,
    write_kits19,
    write_lits,
    write_msd,
    write_pool,
    write_series,
)
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool, describe_pool, load_pool
from nnunet_partial.labels import Annotation, read_manifest

OUR_IDS = {name: number for number, name in enumerate(CLASSES, 1)}
ANNOTATED = {
    "btcv": CLASSES,
    "lits": ["liver"],
    "tcia_pancreas": ["pancreas"],
    "msd": ["spleen"],
    "kits19": ["kidney_left", "kidney_right"],
}
SEEDS = {"btcv": 0, "lits": 100, "msd_spleen": 200, "kits19": 300, "tcia_pancreas": 400}


def convert(pool, root: Path, **options) -> Path:
    return convert_pool(pool, root, ConvertOptions(progress=False, **options))


def test_every_label_and_intensity_lies_where_it_lay(five_sources, tmp_path, capsys):
    folder = convert(five_sources, tmp_path / "raw")
    manifest = read_manifest(folder / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == [
        "btcv_0001", "btcv_0021", "lits_2", "lits_10", "tcia_pancreas_0001", "tcia_pancreas_0002",
        "msd_spleen_2", "msd_spleen_10", "kits19_00000", "kits19_00007",
    ]  # fmt: skip
    for case in manifest.cases:
        image, labels = folder / f"imagesTr/{case.identifier}_0000.nii.gz", folder / f"labelsTr/{case.identifier}.nii.gz"
        prefix, number = case.identifier.rsplit("_", 1)
        np.testing.assert_array_equal(voxels(image), abdomen(SEEDS[prefix] + int(number)))
        np.testing.assert_array_equal(voxels(labels), drawn({name: OUR_IDS[name] for name in ANNOTATED[case.source]}))
        assert nib.aff2axcodes(nib.load(image).affine) == ("R", "A", "S")
        assert case.notes == ()
    said = capsys.readouterr().out
    assert "PANCREAS_0025" in said
    assert "holds no DICOM files" in said
    assert [record.item for record in manifest.skipped] == ["Pancreas-CT/PANCREAS_0025"]


def test_both_readers_of_nnunet_see_one_grid(five_sources, tmp_path):
    folder = convert(five_sources, tmp_path / "raw")
    for labels in sorted((folder / "labelsTr").iterdir()):
        image = folder / "imagesTr" / labels.name.replace(".nii.gz", "_0000.nii.gz")
        for reader, key in ((SimpleITKIO(), "sitk_stuff"), (NibabelIO(), "nibabel_stuff")):
            pixels, seen = reader.read_images((str(image),))
            ids, drawn_on = reader.read_seg(str(labels))
            assert pixels.shape == ids.shape
            assert seen["spacing"] == pytest.approx(drawn_on["spacing"])
            for part in seen[key]:
                np.testing.assert_allclose(seen[key][part], drawn_on[key][part], atol=1e-6)
        np.testing.assert_array_equal(SimpleITKIO().read_images((str(image),))[0], NibabelIO().read_images((str(image),))[0])


def test_dataset_json_says_what_training_needs(five_sources, tmp_path):
    folder = convert(five_sources, tmp_path / "raw")
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert content["channel_names"] == {"0": "CT"}
    assert content["labels"] == {"background": 0, **OUR_IDS}
    assert content["numTraining"] == 10
    assert content["file_ending"] == ".nii.gz"
    annotation = Annotation.from_dataset_json(content)
    for source, names in ANNOTATED.items():
        assert annotation.protocols[source].annotated_classes == set(names)


def test_records_hold_originals_counts_and_options(five_sources, tmp_path):
    manifest = read_manifest(convert(five_sources, tmp_path / "raw") / "label_manifest.json")
    cases = {case.identifier: case for case in manifest.cases}
    assert cases["lits_10"].image_files == ("Training Batch 1/volume-10.nii",)
    assert cases["lits_10"].label_files == ("Training Batch 2/segmentation-10.nii",)
    assert cases["tcia_pancreas_0002"].image_files == ("Pancreas-CT/PANCREAS_0002/study/series",)
    ids, counts = np.unique(drawn({"kidney_left": 4, "kidney_right": 5}), return_counts=True)
    assert cases["kits19_00007"].label_counts == dict(zip(ids.tolist(), counts.tolist(), strict=True))
    sources = {source.name: source for source in manifest.sources}
    assert sources["lits"].options == {"tumor": "merge"}
    assert sources["lits"].path == "$TEST_CONVERSION_DATA/lits"
    assert sources["msd"].licence == "CC-BY-SA 4.0, as stated by its dataset.json"


def test_absent_is_said_only_of_what_was_looked_for(tmp_path):
    write_btcv(tmp_path / "btcv", numbers=(1,))
    write_lits(tmp_path / "lits", numbers=(2,))
    pool = write_pool(
        tmp_path / "pool.yaml",
        [{"source": "btcv", "path": "btcv"}, {"source": "lits", "path": "lits"}],
        classes=["liver", "gallbladder"],
    )
    cases = {case.identifier: case for case in read_manifest(convert(pool, tmp_path / "raw") / "label_manifest.json").cases}
    assert cases["btcv_0001"].absent == ("gallbladder",)
    assert cases["lits_2"].absent == ()


@pytest.mark.parametrize(
    ("policy", "classes", "protocol", "tumor_id"),
    [
        ("merge", ["liver"], {1: ("liver",)}, 1),
        ("separate", ["liver", "liver_tumor"], {1: ("liver",), 2: ("liver_tumor",)}, 2),
        ("union", ["liver", "liver_tumor"], {1: ("liver", "liver_tumor")}, 1),
    ],
)
def test_tumor_policies(tmp_path, policy, classes, protocol, tumor_id):
    write_lits(tmp_path / "lits", numbers=(2,))
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "lits", "path": "lits", "tumor": policy}], classes=classes)
    folder = convert(pool, tmp_path / "raw")
    assert read_manifest(folder / "label_manifest.json").protocols["lits"].labels == protocol
    labels = voxels(folder / "labelsTr/lits_2.nii.gz")
    assert labels[17, 11, 10] == tumor_id
    assert labels[15, 10, 9] == 1


@pytest.mark.parametrize("num_processes", [1, 2])
def test_same_input_same_bytes(five_sources, tmp_path, num_processes):
    first = convert(five_sources, tmp_path / "raw")
    second = convert(five_sources, tmp_path / "again", num_processes=num_processes)
    assert contents(first) == contents(second)


def test_images_that_serve_are_linked_and_copied_on_request(five_sources, tmp_path):
    original = five_sources.parent / "Task09_Spleen/imagesTr/spleen_2.nii.gz"
    linked = convert(five_sources, tmp_path / "raw") / "imagesTr/msd_spleen_2_0000.nii.gz"
    copied = convert(five_sources, tmp_path / "copies", copy=True) / "imagesTr/msd_spleen_2_0000.nii.gz"
    assert linked.samefile(original)
    assert not copied.samefile(original)
    assert copied.read_bytes() == original.read_bytes()


def test_symbolic_link_where_hard_links_fail(five_sources, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    image = convert(five_sources, tmp_path / "raw") / "imagesTr/msd_spleen_2_0000.nii.gz"
    assert image.is_symlink()
    np.testing.assert_array_equal(voxels(image), abdomen(202))


def test_rerun_converts_only_what_is_missing(five_sources, tmp_path):
    folder = convert(five_sources, tmp_path / "raw")
    before = contents(folder)
    kept = folder / "labelsTr/btcv_0001.nii.gz"
    written = kept.stat().st_mtime_ns
    (folder / "labelsTr/lits_2.nii.gz").unlink()  # lost
    (folder / "imagesTr/kits19_00000_0000.nii.gz").write_bytes(b"half a file")
    (folder / ".conversion/btcv_0021.json").write_text("{")  # half an entry
    (folder / "imagesTr/.lits_2_0000.nii.gz.99.tmp.nii.gz").write_bytes(b"left by a kill")
    (folder / "dataset.json").unlink()
    convert(five_sources, tmp_path / "raw")
    assert contents(folder) == before
    assert kept.stat().st_mtime_ns == written


def test_killed_at_any_moment_a_rerun_ends_with_the_same_files(tmp_path):
    write_btcv(tmp_path / "btcv", numbers=range(1, 25))
    write_kits19(tmp_path / "kits19", numbers=range(12))
    sources = [{"source": "btcv", "path": "btcv"}, {"source": "kits19", "path": "kits19"}]
    pool = write_pool(tmp_path / "pool.yaml", sources)
    whole = convert(pool, tmp_path / "whole")
    script = (
        "import sys; from pathlib import Path; from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool; "
        "convert_pool(Path(sys.argv[1]), Path(sys.argv[2]), ConvertOptions(2, progress=False))"
    )
    folder = tmp_path / "raw" / whole.name
    for num_files in random.Random(0).sample(range(2, 60), 3):
        run = subprocess.Popen([sys.executable, "-c", script, str(pool), str(tmp_path / "raw")], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while run.poll() is None and len(list(folder.glob("*Tr/*"))) < num_files and time.monotonic() < deadline:
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert contents(convert(pool, tmp_path / "raw")) == contents(whole)


def test_changed_pool_converts_again_and_removes_what_left(five_sources, tmp_path, capsys):
    folder = convert(five_sources, tmp_path / "raw")
    content = yaml.safe_load(five_sources.read_text(encoding="utf-8"))
    content["sources"] = content["sources"][:2]
    content["classes"] = ["spleen", "liver"]
    five_sources.write_text(yaml.safe_dump(content))
    assert "case 'kits19_00000' would be removed" in describe_pool(five_sources, tmp_path / "raw")
    convert(five_sources, tmp_path / "raw")
    assert "removed case 'kits19_00000': it is no longer in the pool" in capsys.readouterr().out
    assert contents(folder) == contents(convert(five_sources, tmp_path / "fresh"))
    assert voxels(folder / "labelsTr/lits_2.nii.gz").max() == 2


def test_changed_original_is_converted_again(five_sources, tmp_path):
    folder = convert(five_sources, tmp_path / "raw")
    save(abdomen(999), five_sources.parent / "lits/Training Batch 1/volume-2.nii", "LPS")
    convert(five_sources, tmp_path / "raw")
    np.testing.assert_array_equal(voxels(folder / "imagesTr/lits_2_0000.nii.gz"), abdomen(999))


def test_other_datasets_are_left_alone(five_sources, tmp_path):
    (tmp_path / "raw/Dataset500_Other").mkdir(parents=True)
    with pytest.raises(ConversionError, match="Dataset500_Other' has the same id; choose another id"):
        convert(five_sources, tmp_path / "raw")
    (tmp_path / "raw/Dataset500_Other").rename(tmp_path / "raw/Dataset500_Abdomen")
    (tmp_path / "raw/Dataset500_Abdomen/imagesTr").mkdir()
    with pytest.raises(ConversionError, match="was not made by `nnunet_partial convert`"):
        convert(five_sources, tmp_path / "raw")


def test_foreign_files_in_our_dataset_are_refused_not_removed(five_sources, tmp_path):
    folder = convert(five_sources, tmp_path / "raw")
    foreign = folder / "imagesTr/mine_0000.nii.gz"
    foreign.write_bytes(b"mine")
    with pytest.raises(ConversionError, match=r"mine_0000.nii.gz' was not made by this conversion; move it away"):
        convert(five_sources, tmp_path / "raw")
    assert foreign.read_bytes() == b"mine"


def test_faults_of_all_cases_are_reported_together_and_leave_no_dataset(five_sources, tmp_path):
    data = five_sources.parent
    unknown = drawn({"liver": 6, "spleen": 77})
    save(unknown, data / "btcv/RawData/Training/label/label0021.nii.gz", "LAS")
    save(drawn({"liver": 1})[:-1], data / "lits/Training Batch 2/segmentation-2.nii", "LPS")
    save(np.zeros((4, 4, 4, 2), np.int16), data / "lits/Training Batch 1/volume-10.nii", affine=np.eye(4))
    (data / "Task09_Spleen/imagesTr/spleen_2.nii.gz").write_bytes(
        (data / "Task09_Spleen/imagesTr/spleen_10.nii.gz").read_bytes()[:2000]
    )
    save(drawn({"spleen": 1}), data / "Task09_Spleen/labelsTr/spleen_10.nii.gz", affine=np.diag([10.0, 10, 5, 1]))
    sorted((data / "tcia/Pancreas-CT/PANCREAS_0002/study/series").iterdir())[5].unlink()
    save(abdomen(300), data / "kits19/data/case_00000/imaging.nii.gz", "RAS")
    with pytest.raises(ConversionError) as caught:
        convert(five_sources, tmp_path / "raw", num_processes=2)
    faults = {fault.split("'")[1]: fault for fault in caught.value.faults}
    assert list(faults) == [
        "btcv_0021", "lits_2", "lits_10", "tcia_pancreas_0002", "msd_spleen_2", "msd_spleen_10", "kits19_00000"
    ]  # fmt: skip
    assert "unknown label ids 77" in faults["btcv_0021"]
    assert "the image has shape (24, 20, 16), the label map (23, 20, 16)" in faults["lits_2"]
    assert "expected a 3D volume" in faults["lits_10"]
    assert "some are missing or doubled" in faults["tcia_pancreas_0002"]
    assert "lie at different places" in faults["msd_spleen_10"]
    assert "axes run along RAS; this source's run along IPL" in faults["kits19_00000"]
    assert not (tmp_path / "raw/Dataset500_Abdomen/dataset.json").exists()


def test_faults_of_folders_are_reported_together_before_anything_is_written(five_sources, tmp_path):
    data = five_sources.parent
    (data / "lits/copy").mkdir()
    (data / "lits/copy/volume-2.nii").write_bytes((data / "lits/Training Batch 1/volume-2.nii").read_bytes())
    write_series(abdomen(), data / "tcia/Pancreas-CT/PANCREAS_0001/study/other", 9)
    for case in (data / "kits19/data").iterdir():
        (case / "imaging.nii.gz").unlink()
    with pytest.raises(ConversionError) as caught:
        convert(five_sources, tmp_path / "raw")
    text = str(caught.value)
    assert "number 2 occurs twice" in text
    assert "holds 2 folders with DICOM files" in text
    assert "source 'kits19': no labelled case below" in text
    assert not (tmp_path / "raw").exists()


def test_nan_in_an_image_is_refused(tmp_path):
    root = write_msd(tmp_path / "Task09_Spleen", numbers=(2,))
    image = abdomen().astype(np.float32)
    image[0, 0, 0] = np.nan
    save(image, root / "imagesTr/spleen_2.nii.gz")
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "msd", "path": "Task09_Spleen"}], classes=["spleen"])
    with pytest.raises(ConversionError, match=r"case 'msd_spleen_2' .*NaN"):
        convert(pool, tmp_path / "raw")


def test_identity_affines_and_other_doubts_are_noted(tmp_path, capsys):
    write_lits(tmp_path / "lits", numbers=(28,))
    for kind, array in (("Training Batch 1/volume", abdomen()), ("Training Batch 2/segmentation", drawn({"liver": 1})[::-1])):
        save(np.ascontiguousarray(array), tmp_path / f"lits/{kind}-28.nii", affine=np.eye(4))
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "lits", "path": "lits"}], classes=["liver"])
    (case,) = read_manifest(convert(pool, tmp_path / "raw") / "label_manifest.json").cases
    assert any("identity affine" in note for note in case.notes)
    assert "liver lies on the patient's left: the scan may be flipped" in case.notes
    assert "note on case 'lits_28': liver lies" in capsys.readouterr().out


def test_label_that_fits_better_without_the_flip_is_noted(five_sources, tmp_path):
    unflipped = drawn({"spleen": 1})[::-1, ::-1]  # at the back, where only fat is once it is flipped
    for number in (1, 2):
        save(
            np.ascontiguousarray(unflipped),
            five_sources.parent / f"tcia/TCIA_pancreas_labels-02-05-2017/label{number:04d}.nii.gz",
        )
    hu = abdomen()
    hu[:, 10:] = -100
    folder = five_sources.parent / "tcia/Pancreas-CT/PANCREAS_0001/study/series"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    write_series(hu, folder, 1)
    cases = read_manifest(convert(five_sources, tmp_path / "raw") / "label_manifest.json").cases
    notes = {case.identifier: case.notes for case in cases}
    assert any("without the flip" in note for note in notes["tcia_pancreas_0001"])


def test_dry_run_writes_nothing(five_sources, tmp_path):
    said = describe_pool(load_pool(five_sources), tmp_path / "raw")
    assert "10 cases (0 are finished)" in said
    assert "lits: 2 cases" in said
    assert "annotated: 1 = liver; unannotated: spleen, pancreas, kidney_left, kidney_right" in said
    assert "1 would be skipped, the folder holds no DICOM files: Pancreas-CT/PANCREAS_0025" in said
    assert not (tmp_path / "raw").exists()
