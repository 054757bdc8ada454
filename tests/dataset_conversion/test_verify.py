"""Verification: every kind of finding is provoked once, on a dataset in which nothing else is wrong."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from small_abdomen import (
    AFFINE,
    ORGANS,
    at,
    edit_affine,
    edit_image,
    edit_json,
    edit_labels,
    edit_record,
    swapped,
    verify,
    write_dataset,
)

from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool, single_source_pool
from nnunet_partial.dataset_conversion.verify import FAULT, REMARK
from nnunet_partial.dataset_conversion.verify.plausible import plausible


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "Dataset500_Abdomen")


def test_nothing_wrong(dataset):
    report = verify(dataset)
    assert report.findings == ()
    assert (report.num_checked, report.num_cached) == (4, 0)


def set_to(organ, number):
    """Give an organ's box an id."""

    def change(labels):
        labels[ORGANS[organ]] = number
        return labels

    return change


def turned(degrees):
    """An affine whose first axis is not perpendicular to the second."""
    affine = AFFINE.copy()
    affine[:2, 0] = 5 * np.cos(np.radians(degrees)), 5 * np.sin(np.radians(degrees))
    return affine


def edit_header(dataset, **fields):
    """Put values into the header of the image, which is otherwise left alone."""
    path = dataset / "imagesTr/full_1_0000.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(content))


def left_as(axes):
    """Image and label map with their arrays turned, and an affine that says so."""

    def spoil(dataset):
        for path in (dataset / "imagesTr/full_1_0000.nii.gz", dataset / "labelsTr/full_1.nii.gz"):
            image = nib.load(path)
            turn = nib.orientations.axcodes2ornt(tuple(axes))
            nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), turn)), path)

    return spoil


IDENTITY, THICK, TINY, OBLONG = np.eye(4), np.diag([5, 5, 15, 1.0]), np.diag([0.005, 0.005, 0.005, 1]), np.diag([5, 6, 7, 1.0])
SHIFTED = AFFINE + np.array([[0, 0, 0, 7.0], *[[0] * 4] * 3])
FLIP_X = (slice(None, None, -1),)

# kind, severity, words, what spoils case full_1
SPOILED = {
    "image flipped": ("mismatch", FAULT, "mirrored along x", lambda d: edit_image(d, lambda a: a[FLIP_X])),
    "both flipped": (
        "anatomy", FAULT, "liver does not lie to the patient's right of spleen",
        lambda d: [edit(d, lambda a: a[FLIP_X]) for edit in (edit_image, edit_labels)],
    ),
    "front and back": (
        "anatomy", FAULT, "aorta does not lie behind stomach",
        lambda d: [edit(d, lambda a: a[:, ::-1]) for edit in (edit_image, edit_labels)],
    ),
    "kidneys swapped": (
        "anatomy", FAULT, "kidney_right does not lie to the patient's right of kidney_left",
        lambda d: edit_labels(d, lambda a: swapped(a, 3, 4)),
    ),
    "another scan": (
        "mismatch", FAULT, "only 0% of the labelled solid", lambda d: edit_image(d, lambda a: np.where(a > 0, 900, a))
    ),
    "dark liver": ("HU in organs", REMARK, "median inside liver is -20 HU", lambda d: edit_image(d, at(ORGANS["liver"], -20))),
    "shape": ("geometry", FAULT, "'full_1.nii.gz' (60, 50, 37)", lambda d: edit_labels(d, lambda a: a[:, :, :-1])),
    "label elsewhere": ("geometry", FAULT, "7.0 mm apart", lambda d: edit_affine(d, SHIFTED, parts=("labelsTr",))),
    "skewed": ("affine", FAULT, "degrees off a right angle", lambda d: edit_affine(d, turned(5))),
    "flat": ("affine", FAULT, "determinant 0", lambda d: edit_header(d, srow_z=0)),
    "no place": ("affine", FAULT, "NaN or infinite values in its affine", lambda d: edit_header(d, srow_z=np.nan)),
    "units": ("affine", FAULT, "lies elsewhere for ITK", lambda d: edit_header(d, xyzt_units=1)),
    "orientation": ("orientation", FAULT, "axes along LPS", left_as("LPS")),
    "identity": ("unknown spacing", REMARK, "LiTS 28-47", lambda d: edit_affine(d, IDENTITY)),
    "thick": ("spacing", REMARK, "thicker than 12 mm", lambda d: edit_affine(d, THICK)),
    "tiny": ("spacing", FAULT, "0.005 x 0.005 x 0.005 mm", lambda d: edit_affine(d, TINY)),
    "oblong": ("spacing", REMARK, "in no plane", lambda d: edit_affine(d, OBLONG)),
    "NaN": ("NaN", FAULT, "NaN or infinite", lambda d: edit_image(d, lambda a: at((0, 0, 0), np.nan)(a.astype(np.float32)))),
    "constant": ("constant image", FAULT, "holds 0 everywhere", lambda d: edit_image(d, np.zeros_like)),
    "unit range": ("rescaled", FAULT, "unit range", lambda d: edit_image(d, lambda a: (a / 1000).astype(np.float32))),
    "grey": ("rescaled", FAULT, "grey values", lambda d: edit_image(d, lambda a: np.clip(a + 150, 0, 255).astype(np.uint8))),
    "padding": ("intensity range", REMARK, "1 voxels are outside", lambda d: edit_image(d, at((0, 0, 0), -10522))),
    "no air": ("no air", REMARK, "from -200", lambda d: edit_image(d, lambda a: np.maximum(a, -200))),
    "unknown id": ("label ids", FAULT, "label id 9 (1 voxels)", lambda d: edit_labels(d, at((0, 0, 0), 9))),
    "fractions": ("label ids", FAULT, "fractions", lambda d: edit_labels(d, lambda a: a + 0.5, recount=False)),
    "changed": ("label counts", FAULT, "of id 1 (now", lambda d: edit_labels(d, at((40, 30, 20), 0), recount=False)),
    "not absent": (
        "absent", FAULT, "gallbladder is absent, says the manifest", lambda d: edit_record(d, "full_1", absent=("gallbladder",))
    ),
    "not said absent": ("absent", REMARK, "does not call it absent", lambda d: edit_labels(d, set_to("gallbladder", 0))),
    "empty": ("empty label map", REMARK, "is empty, though", lambda d: edit_labels(d, np.zeros_like)),
    "two spleens": (
        "parts", REMARK, "spleen is in 2 parts (80%, 20% of it)", lambda d: edit_labels(d, at(np.s_[10:13, 12:22, 20:30], 0))
    ),
    "speck": ("specks", REMARK, "specks of liver: 1, with 1 of its", lambda d: edit_labels(d, at((20, 20, 20), 1))),
    "small liver": ("volume", FAULT, "liver has 13.5 ml", lambda d: edit_labels(d, lambda a: small_liver(a, 20))),
    "cut liver": ("volume", REMARK, "it touches the scan's border", lambda d: edit_labels(d, lambda a: small_liver(a, 32))),
    "large spleen": ("volume", FAULT, "plausible are 15 to 4000", lambda d: edit_affine(d, np.diag([50, 50, 5, 1.0]))),
    "broken file": (
        "unreadable", FAULT, "'full_1.nii.gz' cannot be read",
        lambda d: (d / "labelsTr/full_1.nii.gz").write_bytes((d / "labelsTr/full_1.nii.gz").read_bytes()[:200]),
    ),
    "no image": (
        "missing file", FAULT, "'imagesTr/full_1_0000.nii.gz' is not there",
        lambda d: (d / "imagesTr/full_1_0000.nii.gz").unlink(),
    ),
}  # fmt: skip


def small_liver(labels, first_slice):
    """A liver of 108 voxels, which ends at the slice below the given one plus three."""
    labels[labels == 1] = 0
    first_slice = min(first_slice, labels.shape[2] - 3) if first_slice < 30 else labels.shape[2] - 3
    labels[40:46, 20:26, first_slice : first_slice + 3] = 1
    return labels


@pytest.mark.parametrize("name", SPOILED)
def test_each_kind_of_finding(dataset, name):
    kind, severity, words, spoil = SPOILED[name]
    spoil(dataset)
    report = verify(dataset)
    found = [finding for finding in report.findings if finding.kind == kind and finding.severity == severity]
    assert any(words in finding.message for finding in found), report.findings
    assert {finding.case for finding in report.findings} == {"full_1"}


def test_an_unannotated_class_with_voxels(dataset):
    edit_labels(dataset, at((40, 30, 20), 1), "kits_1")
    (finding,) = verify(dataset).findings
    assert (finding.severity, finding.kind, finding.case) == (FAULT, "unannotated", "kits_1")
    assert "label id 1 (1 voxels) is 'liver'" in finding.message


def test_a_union_is_as_large_as_both(dataset):
    edit_labels(dataset, lambda a: np.where(np.arange(60)[:, None, None] < 30, a, 0), "kits_1")
    assert verify(dataset).findings == ()  # one kidney only
    edit_labels(dataset, lambda a: at(np.s_[10:12, 40:42, 30:34], 3)(at(np.s_[50:54, 40:44, 30:34], 3)(a)), "kits_2")
    (parts,) = verify(dataset).findings
    assert parts.message.startswith("kidney_left or kidney_right is in 3 parts")


def test_a_union_is_held_against_the_image(dataset):
    edit_image(dataset, lambda a: a[:, ::-1], "kits_1")
    (finding,) = verify(dataset).findings
    assert (finding.kind, finding.case) == ("mismatch", "kits_1")
    assert "mirrored along y" in finding.message


def test_mr_is_not_judged_by_hounsfield_units(dataset):
    edit_json(dataset, "dataset.json", lambda content: content.update(channel_names={"0": "MRI"}))
    edit_image(dataset, lambda a: (a / 1000).astype(np.float32))
    assert verify(dataset).findings == ()


def test_bounds():
    assert plausible(("kidney_right",)) == plausible(("kidney_left",)) == (15, 2500, 1)
    assert plausible(("kidney",)) == plausible(("kidney_left", "kidney_right")) == (15, 5000, 2)
    assert plausible(("liver", "liver_tumor")) == plausible(("liver",)) == (200, 6000, 1)
    assert plausible(("kidney_left", "kidney_right", "kidney_tumor")) is None
    assert plausible(("vertebrae_l5",)) == (1, 200, 1)
    assert plausible(("liver_tumor",)) is plausible(("unheard_of",)) is None


def test_two_real_scans_have_no_fault(real_data, tmp_path):
    for number in (1, 23):  # 23 has no gallbladder
        for part, name in (("img", "img"), ("label", "label")):
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / f"{name}{number:04d}.nii.gz").symlink_to(real_data / "btcv" / part / f"{name}{number:04d}.nii.gz")
    folder = convert_pool(single_source_pool("btcv", str(tmp_path), 501), tmp_path / "raw", ConvertOptions(progress=False))
    report = verify(folder)
    assert report.of(FAULT) == []
    assert {finding.kind for finding in report.findings} <= {"no air"}  # these scans are clipped to a window
    assert report.coverage.cells["gallbladder", "btcv"].absent == 1
    image = folder / "imagesTr/btcv_0001_0000.nii.gz"
    scan = nib.load(image)
    flipped = nib.Nifti1Image(np.asarray(scan.dataobj)[::-1], scan.affine)
    image.unlink()  # it may be a link to the original
    nib.save(flipped, image)
    (fault,) = verify(folder).of(FAULT)
    assert fault.kind == "mismatch"
    assert "mirrored along x" in fault.message
