"""Broken and unfit files: each is named with what is wrong, all of them in one run, and the good cases are not lost."""

import errno
import gzip

import nibabel as nib
import numpy as np
import pytest
from native_sources import abdomen, drawn, save, voxels, write_kits19, write_lits, write_msd, write_pool

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion import case as case_module
from nnunet_partial.labels import read_manifest

BAD = "labelsTr/spleen_2.nii.gz"


@pytest.fixture
def spleen(tmp_path):
    """Decathlon's spleen task with the cases 2 and 10."""
    return write_msd(tmp_path / "Task09_Spleen")


def convert(root, **options):
    pool = write_pool(root.parent / "pool.yaml", [{"source": "msd", "path": root.name}], classes=["spleen"])
    return convert_pool(pool, root.parent / "raw", ConvertOptions(progress=False, **options))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_wrong_shape(path):
    save(drawn({"spleen": 1})[:, :, :-1], path)


def make_fractions(path):
    save(drawn({"spleen": 1}).astype(np.float32) * 0.5, path)


def make_negative(path):
    save(-drawn({"spleen": 1}).astype(np.int16), path)


def make_4d(path):
    nib.save(nib.Nifti1Image(np.stack([drawn({"spleen": 1})] * 2, -1), np.eye(4)), path)


def make_rgb(path):
    rgb = np.zeros(abdomen().shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), path)


def make_intensities(path):
    save(abdomen().astype(np.int32) + 100_000, path)


def make_text(path):
    path.write_text("404 Not Found")


def make_unknown_id(path):
    save(drawn({"spleen": 7}), path)


def make_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "spleen_2"),
        (cut_to_wrong_shape, r"shape \(24, 20, 16\), the label map \(24, 20, 15\)"),
        (make_fractions, "fractions"),
        (make_negative, "negative ids"),
        (make_4d, "expected a 3D volume"),
        (make_rgb, "expected plain numbers"),
        (make_intensities, "is it an image"),
        (make_text, "spleen_2"),
        (make_unknown_id, r"unknown label ids 7 \(\d+ voxels\); known are 0, 1"),
        (make_empty, "spleen_2"),
    ],
)
def test_a_bad_label_map_is_named_and_refuses_the_dataset(spleen, damage, said):
    damage(spleen / BAD)
    with pytest.raises(ConversionError, match=rf"case 'msd_spleen_2' .*{said}"):
        convert(spleen)
    folder = spleen.parent / "raw/Dataset500_Abdomen"
    assert not (folder / "dataset.json").exists()
    assert (folder / "labelsTr/msd_spleen_10.nii.gz").exists()
    assert not (folder / "labelsTr/msd_spleen_2.nii.gz").exists()


def test_bad_cases_are_left_out_where_that_is_asked_for(spleen, capsys):
    truncate(spleen / BAD)
    folder = convert(spleen, skip_bad=True)
    manifest = read_manifest(folder / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["msd_spleen_10"]
    assert [record.item for record in manifest.skipped] == ["msd_spleen_2"]
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == ["msd_spleen_10_0000.nii.gz"]
    assert "skipped as faulty: case 'msd_spleen_2'" in capsys.readouterr().out
    save(drawn({"spleen": 1}), spleen / BAD)  # mended
    assert len(read_manifest(convert(spleen) / "label_manifest.json").cases) == 2


def test_nothing_but_bad_cases_is_refused_all_the_same(spleen):
    for label in (spleen / "labelsTr").iterdir():
        truncate(label)
    with pytest.raises(ConversionError, match="msd_spleen_10"):
        convert(spleen, skip_bad=True)


def test_faults_of_files_and_of_pairing_come_in_one_report(tmp_path):
    root = write_lits(tmp_path / "lits", tumor=False)
    (root / "copy").mkdir()
    (root / "copy/segmentation-2.nii").write_bytes((root / "Training Batch 2/segmentation-2.nii").read_bytes())
    truncate(root / "Training Batch 1/volume-10.nii")
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "lits", "path": "lits"}], classes=["liver"])
    with pytest.raises(ConversionError) as caught:
        convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    assert "number 2 occurs twice" in str(caught.value)
    assert "case 'lits_10'" in str(caught.value)


def test_a_label_without_an_image_is_said(spleen, capsys):
    (spleen / "imagesTr/spleen_2.nii.gz").unlink()
    convert(spleen)
    assert "1 skipped, no image belongs to it: labelsTr/spleen_2.nii.gz" in capsys.readouterr().out


def test_a_folder_of_another_dataset_is_recognised(tmp_path):
    write_kits19(tmp_path / "downloads")
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "lits", "path": "downloads"}], classes=["liver"])
    with pytest.raises(ConversionError, match=r"no labelled case below .* it looks like .*kits19"):
        convert_pool(pool, tmp_path / "raw")


def test_a_file_that_may_not_be_read_is_named(spleen, monkeypatch):
    read = case_module.read_volume

    def refuse(path):
        if path.name == "spleen_2.nii.gz":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(case_module, "read_volume", refuse)
    with pytest.raises(ConversionError, match=r"case 'msd_spleen_2' .*Permission denied: '.*imagesTr/spleen_2.nii.gz'"):
        convert(spleen)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_full_disk_stops_at_once_and_a_rerun_goes_on(spleen, monkeypatch, num_processes):
    write = case_module.write_labels

    def fill_up(array, header, path):
        if "spleen_10" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(array, header, path)

    with monkeypatch.context() as patch:
        patch.setattr(case_module, "write_labels", fill_up)
        with pytest.raises(ConversionError, match=r"no space left below .*free some and run again"):
            convert(spleen, skip_bad=True, num_processes=num_processes)  # a full disk is no bad case
    folder = convert(spleen)
    assert len(read_manifest(folder / "label_manifest.json").cases) == 2


def test_paths_of_any_language(tmp_path):
    root = write_msd(tmp_path / "Größe 肝臓" / "Task09_Spleen")
    folder = convert(root)
    assert (folder / "imagesTr/msd_spleen_2_0000.nii.gz").samefile(root / "imagesTr/spleen_2.nii.gz")


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint16])
def test_labels_of_a_type_too_wide_are_narrowed(tmp_path, dtype):
    shape = (200, 100, 50)  # a million voxels
    labels = np.zeros(shape, dtype=dtype)
    labels[50:60, 20:40, 10:20] = 1
    root = write_msd(tmp_path / "Task09_Spleen", numbers=(1,))
    for kind, array in (("imagesTr", np.zeros(shape, np.int16)), ("labelsTr", labels)):
        nib.save(nib.Nifti1Image(array, np.diag([2, 2, 5, 1.0])), root / kind / "spleen_1.nii.gz")
    converted = convert(root) / "labelsTr/msd_spleen_1.nii.gz"
    assert nib.load(converted).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(voxels(converted), labels)


def test_a_gzip_file_that_is_not_nifti(spleen):
    (spleen / "imagesTr/spleen_2.nii.gz").write_bytes(gzip.compress(b"no image at all" * 100))
    with pytest.raises(ConversionError, match="case 'msd_spleen_2'"):
        convert(spleen)
