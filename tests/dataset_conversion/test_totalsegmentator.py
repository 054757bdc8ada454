"""TotalSegmentator: one mask a class; missing is unannotated, empty is absent, overlaps are decided and said."""

import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from native_sources import ORGANS, SHAPE, abdomen, save, voxels, write_pool

from nnunet_partial.dataset_conversion import SOURCES, ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.sources.totalsegmentator import CLASSES, SOURCE_LABELS, read_masks
from nnunet_partial.labels import read_manifest

POOL = ["liver", "spleen", "kidney_left", "kidney_right", "gallbladder"]


def mask(organ: str | None) -> np.ndarray:
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    if organ:
        drawn[ORGANS[organ]] = 1
    return drawn


def write_totalsegmentator(root: Path, numbers=(3, 11)) -> Path:
    """Liver, spleen, left kidney and brain (empty), an empty gallbladder; nobody looked for the right kidney."""
    for number in numbers:
        case = root / f"s{number:04d}"
        save(abdomen(number), case / "ct.nii.gz")
        for name in ("liver", "spleen", "kidney_left"):
            save(mask(name), case / f"segmentations/{name}.nii.gz")
        for name in ("gallbladder", "brain"):
            save(mask(None), case / f"segmentations/{name}.nii.gz")
    (root / "meta.csv").write_text("image_id;age\ns0003;64\n")
    return root


def convert(root: Path, classes=POOL, **entries) -> Path:
    pool = write_pool(root / "pool.yaml", [{"source": "totalsegmentator", "path": ".", **entries}], classes=classes)
    return convert_pool(pool, root.parent / "raw", ConvertOptions(progress=False))


def test_missing_masks_are_unannotated_and_empty_ones_absent(tmp_path):
    root = write_totalsegmentator(tmp_path / "ts")
    (root / "s0011/segmentations/spleen.nii.gz").unlink()
    folder = convert(root)
    manifest = read_manifest(folder / "label_manifest.json")
    whole, without_spleen = manifest.cases
    assert manifest.protocols[whole.protocol].annotated_classes == {"liver", "spleen", "kidney_left", "gallbladder"}
    assert manifest.protocols[without_spleen.protocol].annotated_classes == {"liver", "kidney_left", "gallbladder"}
    assert whole.absent == without_spleen.absent == ("gallbladder",)
    expected = np.zeros(SHAPE, dtype=np.uint8)
    for name in ("liver", "spleen", "kidney_left"):
        expected[ORGANS[name]] = POOL.index(name) + 1
    np.testing.assert_array_equal(voxels(folder / "labelsTr/totalsegmentator_s0003.nii.gz"), expected)
    expected[ORGANS["spleen"]] = 0
    np.testing.assert_array_equal(voxels(folder / "labelsTr/totalsegmentator_s0011.nii.gz"), expected)


def test_masks_of_other_classes_are_not_read(tmp_path):
    root = write_totalsegmentator(tmp_path / "ts", numbers=(3,))
    (root / "s0003/segmentations/brain.nii.gz").write_bytes(b"never read")
    (root / "s0003/segmentations/tail.nii.gz").write_bytes(b"no class")
    folder = convert(root)
    manifest = read_manifest(folder / "label_manifest.json")
    assert len(manifest.cases[0].label_files) == 4
    assert [(skip.item, skip.reason) for skip in manifest.skipped] == [
        ("s0003/segmentations/tail.nii.gz", "no class of TotalSegmentator v2 has this name")
    ]


def test_cases_in_which_no_class_of_the_pool_was_looked_for(tmp_path):
    root = write_totalsegmentator(tmp_path / "ts")
    (root / "s0011/segmentations/spleen.nii.gz").unlink()
    manifest = read_manifest(convert(root, classes=["spleen"]) / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["totalsegmentator_s0003"]
    assert manifest.skipped[0].item == "s0011"
    assert manifest.skipped[0].reason == "none of the pool's classes was looked for"
    kept = read_manifest(convert(root, classes=["spleen"], unlabelled="keep") / "label_manifest.json")
    assert [case.identifier for case in kept.cases] == ["totalsegmentator_s0003", "totalsegmentator_s0011"]
    assert kept.protocols[kept.cases[1].protocol].labels == {}


def test_overlaps_keep_the_later_class_and_say_so(tmp_path):
    root = write_totalsegmentator(tmp_path / "ts", numbers=(3,))
    both = mask("spleen")
    both[ORGANS["liver"]][:1] = 1  # 1 x 6 x 6 voxels of the liver; spleen comes first in the table
    save(both, root / "s0003/segmentations/spleen.nii.gz")
    folder = convert(root)
    labels = voxels(folder / "labelsTr/totalsegmentator_s0003.nii.gz")
    assert (labels[ORGANS["liver"]] == POOL.index("liver") + 1).all()
    (case,) = read_manifest(folder / "label_manifest.json").cases
    assert case.notes == ("masks overlap: 'liver' was kept over 'spleen' in 36 voxels",)


def test_axes_that_itk_refuses_are_read_and_noted(tmp_path):
    root = write_totalsegmentator(tmp_path / "ts", numbers=(3,))
    skewed = np.diag([10.0, 10.0, 5.0, 1.0])
    skewed[1, 2] = 0.2
    case = root / "s0003"
    for path in (case / "ct.nii.gz", *(case / "segmentations").iterdir()):
        save(voxels(path), path, affine=skewed)
    (record,) = read_manifest(convert(root) / "label_manifest.json").cases
    assert "degrees off a right angle" in record.notes[0]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: save(mask("liver") * np.arange(16, dtype=np.uint8), folder / "liver.nii.gz"), "more values than 0"),
        (lambda folder: save(mask("liver")[:-1], folder / "liver.nii.gz"), "'spleen' and 'liver' lie on different grids"),
        (lambda folder: save(mask("liver"), folder / "liver.nii.gz", affine=np.diag([10.0, 10, 5, 1])), "lie on different grids"),
    ],
)  # fmt: skip
def test_masks_that_are_none_are_refused(tmp_path, harm, message):
    root = write_totalsegmentator(tmp_path / "ts", numbers=(3,))
    harm(root / "s0003/segmentations")
    with pytest.raises(ConversionError, match=rf"case 'totalsegmentator_s0003' .*{message}"):
        convert(root)


def test_listing(tmp_path):
    root = write_totalsegmentator(tmp_path, numbers=(10, 2))
    (root / "s0007").mkdir()
    save(abdomen(), root / "s0008/ct.nii.gz")
    listing = SOURCES["totalsegmentator"].list_cases(root)
    assert [case.name for case in listing.cases] == ["s0002", "s0010"]
    names = ("spleen", "kidney_left", "gallbladder", "liver", "brain")
    assert listing.cases[0].looked_for == tuple(CLASSES.index(name) + 1 for name in names)
    assert listing.skipped == [("s0007", "holds no ct.nii.gz")]
    assert [case.name for case in listing.unlabelled] == ["s0008"]


def split_real_case(real_data: Path, root: Path) -> tuple[np.ndarray, list[str]]:
    """The predicted 61-class map as one mask a class; returns it with the classes it has."""
    source = real_data / "totalsegmentator"
    labels = nib.load(source / "example_seg_fast_force_split.nii.gz")
    ids = np.asarray(labels.dataobj)
    (root / "s0001/segmentations").mkdir(parents=True)
    (root / "s0001/ct.nii.gz").write_bytes((source / "example_ct.nii.gz").read_bytes())
    for number in np.unique(ids[ids > 0]):
        image = nib.Nifti1Image((ids == number).astype(np.uint8), labels.affine)
        nib.save(image, root / f"s0001/segmentations/{CLASSES[number - 1]}.nii.gz")
    return ids, [CLASSES[number - 1] for number in np.unique(ids[ids > 0])]


def test_real_case_split_into_masks_comes_back_whole(real_data, tmp_path):
    ids, drawn = split_real_case(real_data, tmp_path / "ts")
    assert len(drawn) == 61
    for name in ("spleen", "vertebrae_L1"):
        (tmp_path / f"ts/s0001/segmentations/{name}.nii.gz").unlink()
    liver = nib.load(tmp_path / "ts/s0001/segmentations/liver.nii.gz")
    empty = nib.Nifti1Image(np.zeros(liver.shape, np.uint8), liver.affine)
    nib.save(empty, tmp_path / "ts/s0001/segmentations/thyroid_gland.nii.gz")
    classes = [label.classes[0] for label in SOURCE_LABELS.values()]
    folder = convert(tmp_path / "ts", classes=classes)
    manifest = read_manifest(folder / "label_manifest.json")
    (case,) = manifest.cases
    expected = np.where(np.isin(ids, [CLASSES.index("spleen") + 1, CLASSES.index("vertebrae_L1") + 1]), 0, ids)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/totalsegmentator_s0001.nii.gz"), expected)
    assert manifest.protocols[case.protocol].annotated_classes == {
        classes[CLASSES.index(name)] for name in [*drawn, "thyroid_gland"] if name not in ("spleen", "vertebrae_L1")
    }
    assert case.absent == ("thyroid_gland",)
    assert [note.split(" is ")[0] for note in case.notes] == [
        "median inside kidney_left",
        "median inside kidney_right",
    ]  # 17, 12 HU
    assert (folder / "imagesTr/totalsegmentator_s0001_0000.nii.gz").samefile(tmp_path / "ts/s0001/ct.nii.gz")


def test_one_mask_at_a_time_is_in_memory(tmp_path):
    """Forty masks of 0.9 MB: the peak stays below what six of them take."""
    shape = (96, 96, 96)
    files = []
    for name in CLASSES[:40]:
        drawn = np.zeros(shape, dtype=np.uint8)
        drawn[len(files)] = 1
        files.append(save(drawn, tmp_path / f"{name}.nii.gz"))
    tracemalloc.start()
    labels = read_masks(tuple(files))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(labels.array)) == 41
    assert peak < 6 * np.prod(shape)
