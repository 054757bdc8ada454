"""DICOM-SEG label maps of the user's own data, placed on the grid of the image series (extra `dicomseg`)."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from native_sources import ORGANS, SHAPE, SPACING_MM, abdomen, drawn, voxels, write_pool, write_series

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool
from nnunet_partial.labels import read_manifest

CLASSES = ["spleen", "liver"]
BY_LABEL = """
images: "{case}/dicom"
label_maps: "{case}/seg.dcm"
labels: {Liver: liver, "Milz links": spleen}
"""
BY_NUMBER = BY_LABEL.replace("Liver: liver", "1: liver").replace('"Milz links": spleen', "2: spleen")


def write_case(root: Path, segments: np.ndarray, kind: str = "BINARY", shift_mm: float = 0) -> Path:
    """A series, and a DICOM-SEG file with one segment for each last index of a RAS array."""
    write_series(abdomen(), root / "p1/dicom", 1)
    slices = read_slices(root / "p1/dicom")
    for dataset in slices:
        for name in ("PatientID", "PatientName", "StudyID", "AccessionNumber", "StudyDate", "StudyTime", "PatientBirthDate"):
            setattr(dataset, name, "")
        dataset.PatientSex, dataset.FrameOfReferenceUID = "O", "1.2.826.0.1.1.9"
        dataset.SliceThickness = SPACING_MM[2]
        dataset.ImagePositionPatient[2] += shift_mm
    frames = np.ascontiguousarray(segments[::-1, ::-1].transpose(2, 1, 0, 3))  # RAS to (slice, row, column) of an LPS series
    write_seg(slices, frames.astype(np.uint8), root / "p1/seg.dcm", kind=kind)
    return root


def read_slices(folder: Path) -> list[pydicom.Dataset]:
    return sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda dataset: dataset.ImagePositionPatient[2])


def write_seg(slices: list, frames: np.ndarray, path: Path, labels=("Liver", "Milz links"), kind: str = "BINARY") -> None:
    """A DICOM-SEG file of (slice, row, column, segment); empty slices are left out of it."""
    highdicom = pytest.importorskip("highdicom", reason="the extra dicomseg is not installed")
    from pydicom.sr.codedict import codes

    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(labels, 1)
    ]
    numbers = np.arange(1, len(labels) + 1, dtype=np.uint8)
    pixels = {"BINARY": frames, "FRACTIONAL": frames.astype(float), "LABELMAP": (frames * numbers).max(axis=-1)}
    highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels[kind],
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid="1.2.826.0.1.2",
        series_number=2,
        sop_instance_uid="1.2.826.0.1.2.1",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    ).save_as(path)


def two_organs() -> np.ndarray:
    return np.stack([drawn({"liver": 1}), drawn({"spleen": 1})], axis=-1)


def convert(root: Path, text: str) -> Path:
    (root / "hospital.yaml").write_text(text)
    pool = write_pool(root / "pool.yaml", [{"source": "hospital.yaml"}], classes=CLASSES)
    return convert_pool(pool, root / "raw", ConvertOptions(progress=False))


@pytest.mark.parametrize(("text", "kind"), [(BY_LABEL, "BINARY"), (BY_NUMBER, "BINARY"), (BY_LABEL, "LABELMAP")])
def test_segments_lie_on_the_series(tmp_path, text, kind):
    """Neither organ reaches the ends of the scan, so the file holds only the slices 8 to 13 of 16."""
    folder = convert(write_case(tmp_path, two_organs(), kind=kind), text)
    assert pydicom.dcmread(tmp_path / "p1/seg.dcm").NumberOfFrames < SHAPE[2]
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), drawn({"spleen": 1, "liver": 2}))
    np.testing.assert_array_equal(voxels(folder / "imagesTr/hospital_p1_0000.nii.gz"), abdomen())
    (case,) = read_manifest(folder / "label_manifest.json").cases
    assert (case.notes, case.label_files) == ((), ("p1/seg.dcm",))


@pytest.mark.parametrize("drawn_on", [(3,), (3, 9), (3, 9, 13), (0, 15)])
def test_slices_missing_between_and_a_single_slice(tmp_path, drawn_on):
    segments = np.zeros((*SHAPE, 2), dtype=np.uint8)
    segments[14:20, 9:12, drawn_on, 0] = 1
    segments[3:6, 5:8, drawn_on[0], 1] = 1
    folder = convert(write_case(tmp_path, segments), BY_LABEL)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), 2 * segments[..., 0] + segments[..., 1])


def test_overlapping_segments_keep_the_later_one_and_say_so(tmp_path):
    segments = two_organs()
    segments[ORGANS["liver"]][:1, :, :, 1] = 1
    folder = convert(write_case(tmp_path, segments), BY_LABEL)
    (case,) = read_manifest(folder / "label_manifest.json").cases
    assert case.notes[0] == "masks overlap: 'Milz links' was kept over 'Liver' in 36 voxels"
    assert (voxels(folder / "labelsTr/hospital_p1.nii.gz")[ORGANS["liver"]][:1] == 1).all()


def test_tumor_segment_over_its_organ(tmp_path):
    segments = two_organs()
    segments[..., 1] = 0
    segments[16:18, 10:12, 9:11, 1] = 1
    text = BY_LABEL.replace('"Milz links": spleen', '"Milz links": {class: liver_tumor, inside: liver}')
    (write_case(tmp_path, segments) / "hospital.yaml").write_text(text)
    sources = [{"source": "hospital.yaml", "tumor": "separate"}]
    pool = write_pool(tmp_path / "pool.yaml", sources, classes=["liver", "liver_tumor"])
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), segments[..., 0] + segments[..., 1])
    assert read_manifest(folder / "label_manifest.json").cases[0].notes == ()


def test_two_annotators_with_a_file_each(tmp_path):
    other = two_organs()
    other[..., 0] = np.roll(other[..., 0], 1, axis=0)
    (write_case(tmp_path, two_organs()) / "p1/seg.dcm").rename(tmp_path / "p1/anna.dcm")
    (write_case(tmp_path / "of_ben", other) / "p1/seg.dcm").rename(tmp_path / "p1/ben.dcm")
    annotators = 'annotators: {anna: {label_maps: "{case}/anna.dcm"}, ben: {label_maps: "{case}/ben.dcm", annotated: [Liver]}}'
    folder = convert(tmp_path, BY_LABEL.replace('label_maps: "{case}/seg.dcm"', annotators))
    np.testing.assert_array_equal(voxels(folder / "annotators/anna/hospital_p1.nii.gz"), drawn({"spleen": 1, "liver": 2}))
    np.testing.assert_array_equal(voxels(folder / "annotators/ben/hospital_p1.nii.gz"), 2 * other[..., 0])
    both = drawn({"liver": 1}) & other[..., 0].astype(np.uint8)  # Anna alone looked for the spleen
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), 2 * both + drawn({"spleen": 1}))


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        (
            {},
            BY_LABEL.replace("Milz links", "Milz"),
            "has segments that `labels` does not name: 2 'Milz links'; it names Liver, Milz",
        ),
        ({"kind": "FRACTIONAL"}, BY_LABEL, "fractional segments"),
        ({"shift_mm": 2.5}, BY_LABEL, "voxels are not voxels of the image"),
        ({"shift_mm": 50}, BY_LABEL, "reaches beyond the image"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, options, text, message):
    with pytest.raises(ConversionError, match=message):
        convert(write_case(tmp_path, two_organs(), **options), text)


def test_without_highdicom_the_extra_is_named(tmp_path, monkeypatch):
    write_series(abdomen(), tmp_path / "p1/dicom", 1)
    (tmp_path / "p1/seg.dcm").write_bytes(b"not read")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConversionError, match=r"pip install 'nnunet_partial\[dicomseg\]'"):
        convert(tmp_path, BY_LABEL)


def test_real_series_gives_what_the_pictures_give(real_data, tmp_path):
    """The liver of CHAOS CT set 3 as a DICOM-SEG file, against the conversion of its pictures."""
    pytest.importorskip("highdicom", reason="the extra dicomseg is not installed")
    series = real_data / "chaos_ct_dicom/CT/3"
    pictures = write_pool(
        tmp_path / "chaos.yaml", [{"source": "chaos_ct", "path": str(real_data / "chaos_ct_dicom")}], classes=["liver"]
    )
    expected = convert_pool(pictures, tmp_path / "raw", ConvertOptions(progress=False)) / "labelsTr/chaos_ct_3.nii.gz"
    (tmp_path / "p1").mkdir()
    shutil.copytree(series / "DICOM_anon", tmp_path / "p1/dicom")
    slices = read_slices(series / "DICOM_anon")
    frames = voxels(expected)[::-1, ::-1].transpose(2, 1, 0)[..., np.newaxis]
    write_seg(slices, np.ascontiguousarray(frames), tmp_path / "p1/seg.dcm", labels=("Leber",))
    (tmp_path / "hospital.yaml").write_text(BY_NUMBER.replace(", 2: spleen", ""))
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "hospital.yaml"}], classes=["liver"], number=501)
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), voxels(expected))
