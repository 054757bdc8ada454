"""DICOM folders: which files are the series, in which order, and what is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from native_sources import SPACING_MM, abdomen, write_pool, write_series, write_tcia

from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.image_files.dicom import read_series, slices_of
from nnunet_partial.dataset_conversion.image_files.volume import to_ras
from nnunet_partial.labels import read_manifest

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture
def folder(tmp_path) -> Path:
    write_series(abdomen(), tmp_path / "series", 1)
    return tmp_path / "series"


def change(path: Path, **values) -> None:
    """Set attributes of a DICOM file; None removes one."""
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        delattr(dataset, name) if value is None else setattr(dataset, name, value)
    dataset.save_as(path)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def by_position(folder: Path) -> list[Path]:
    return sorted(files(folder), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])


def assert_is_abdomen(folder: Path, seed: int = 0) -> tuple[str, ...]:
    volume = read_series(folder)
    np.testing.assert_array_equal(to_ras(volume).array, abdomen(seed))
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), SPACING_MM)
    return volume.notes


def test_slices_are_stacked_by_position_not_by_name(folder):
    assert assert_is_abdomen(folder) == ()
    assert slices_of(folder) == by_position(folder) != files(folder)


def test_files_without_an_ending_and_in_folders_below_are_found(folder):
    (folder / "DICOM/0000").mkdir(parents=True)
    for path in files(folder):
        path.rename(folder / "DICOM/0000" / path.stem)
    (folder / "notes.txt").write_text("patient moved")
    (folder / "._0.dcm").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    assert assert_is_abdomen(folder) == ()


def test_the_longest_series_is_taken_and_said(folder):
    write_series(abdomen(5), folder / "other", 2)
    for path in files(folder / "other")[:4]:
        path.unlink()
    for path in files(folder / "other"):
        change(path, SeriesDescription="lung kernel", SeriesInstanceUID="1.2.3")
    (note,) = assert_is_abdomen(folder)
    assert note == "2 DICOM series in the folder: took '1.2.826.0.1.1.1' (16 slices), left 'lung kernel' (12 slices)"


def test_series_of_equal_length_are_refused(folder):
    write_series(abdomen(5), folder / "other", 2)
    with pytest.raises(ValueError, match=r"2 series, two of them with 16 slices .*keep the one the label was drawn on"):
        read_series(folder)


def test_localizers_and_objects_that_are_no_slices_are_left_aside_and_said(folder):
    write_series(abdomen(5), folder / "other", 2)
    localizer, segmentation, structures, *rest = files(folder / "other")
    for path in rest:
        path.unlink()
    change(localizer, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    change(segmentation, Modality="SEG", SOPClassUID=SEGMENTATION, ImagePositionPatient=None)
    change(structures, Modality="RTSTRUCT", Rows=None)
    notes = assert_is_abdomen(folder)
    assert [note.split(": ")[1].split(" (")[0] for note in notes] == ["1 localizer", "1 SEG", "1 RTSTRUCT"]
    assert localizer.name in notes[0]


def test_a_series_uid_for_every_slice_is_one_series(folder):
    for number, path in enumerate(files(folder)):
        change(path, SeriesInstanceUID=f"1.2.3.{number}")
    (note,) = assert_is_abdomen(folder)
    assert note.startswith("every slice has a series UID of its own")


def test_rescaling_is_that_of_each_slice(folder):
    """Slope and intercept differ from slice to slice (PET and some MR); the first slice must not decide for an integer type."""
    expected = abdomen().astype(float)
    for k, path in enumerate(by_position(folder)):
        change(path, RescaleSlope=f"{1 + k / 4}", RescaleIntercept=str(k))
        expected[:, :, k] = expected[:, :, k] * (1 + k / 4) + k
    np.testing.assert_allclose(to_ras(read_series(folder)).array, expected, atol=1e-3)


def test_tilted_slices_lie_where_their_positions_say(folder):
    for k, path in enumerate(by_position(folder)):
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        change(path, ImagePositionPatient=[x, float(y) + 0.5 * k, z])
    np.testing.assert_allclose(read_series(folder).affine[:3, 2], (0, -0.5, 5))  # RAS: y runs the other way


def move(path: Path, z: float) -> None:
    change(path, ImagePositionPatient=[-100, -90, z])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda paths: paths[5].unlink(), r"5.000 to 10.000 mm apart: some are missing or doubled"),
        (lambda paths: move(paths[5], 30), r"0.000 to 10.000 mm apart: some are missing or doubled"),
        (lambda paths: move(paths[5], 26), r"4.000 to 6.000 mm apart"),
        (lambda paths: [move(path, 0) for path in paths], "all slices .* lie at one place"),
        (lambda paths: change(paths[3], ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "different orientations"),
        (lambda paths: change(paths[3], PixelSpacing=[9, 9]), r"different pixel spacings \(PixelSpacing\); split the series"),
        (lambda paths: change(paths[3], Columns=12), r"different sizes \(Columns\)"),
        (lambda paths: change(paths[3], ImagePositionPatient=None), "lacks ImagePositionPatient: nobody can tell"),
        (lambda paths: [change(path, Modality="US") for path in paths], r"no slices of a CT or MR series \(16 US\)"),
        (lambda paths: [change(path, NumberOfFrames=2) for path in paths], "multi-frame DICOM"),
        (lambda paths: [path.unlink() for path in paths], "folder 'series' holds no DICOM files"),
        (lambda paths: paths[2].write_bytes(paths[2].read_bytes()[:140]), r"some are missing or doubled|lacks|broken"),
    ],
)
def test_what_is_no_whole_series_is_refused(folder, harm, message):
    harm(by_position(folder))
    with pytest.raises(ValueError, match=message):
        read_series(folder)


def test_what_was_taken_stands_in_the_manifest(tmp_path):
    root = write_tcia(tmp_path / "tcia", numbers=(1,))
    series = next(root.glob("**/series"))
    change(files(series)[0], ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    write_series(abdomen(9), tmp_path / "other", 9)
    files(tmp_path / "other")[0].rename(series / "scout.dcm")
    change(series / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "tcia_pancreas", "path": "tcia"}], classes=["pancreas"])
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    (case,) = read_manifest(folder / "label_manifest.json").cases
    assert case.notes == ("left aside in the DICOM folder: 1 localizer (scout.dcm)",)


def test_real_series_compressed_by_jpeg_2000_without_endings(real_data):
    volume = read_series(real_data / "totalsegmentator/example_ct_dicom")
    assert volume.array.shape == (512, 512, 20)
    assert (volume.axcodes, volume.notes) == ("LPS", ())
    path = slices_of(real_data / "totalsegmentator/example_ct_dicom")[3]
    dataset = pydicom.dcmread(path)
    assert "JPEG 2000" in dataset.file_meta.TransferSyntaxUID.name
    np.testing.assert_allclose(
        volume.affine[:3, 3] + 3 * volume.affine[:3, 2], np.multiply(dataset.ImagePositionPatient, (-1, -1, 1))
    )
    assert -1024 == volume.array.min() < 0 < volume.array.max() < 3072
