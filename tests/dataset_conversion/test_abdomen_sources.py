"""AMOS22, FLARE22, AbdomenCT-1K, WORD and AbdomenAtlas: every label map equals the truth, and what is left out is said."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from native_abdomens import (
    ABDOMENCT1K_IDS,
    AMOS_IDS,
    ATLAS_IDS,
    FLARE_IDS,
    WORD_IDS,
    Scan,
    btcv_scan,
    phantom_scan,
    write_abdomenatlas,
    write_abdomenct1k,
    write_amos22,
    write_dataset_json,
    write_flare22,
    write_word,
)
from native_sources import voxels, write_pool

from nnunet_partial.dataset_conversion import SOURCES, ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.listing import SourceLabel
from nnunet_partial.labels import LabelManifest, read_manifest

LAYOUTS = {
    "amos22_ct": (write_amos22, AMOS_IDS),
    "flare22": (write_flare22, FLARE_IDS),
    "abdomenct1k": (write_abdomenct1k, ABDOMENCT1K_IDS),
    "word": (write_word, WORD_IDS),
    "abdomenatlas": (write_abdomenatlas, ATLAS_IDS),
}


@pytest.fixture(params=["phantom", "real"])
def scan(request) -> Scan:
    return phantom_scan() if request.param == "phantom" else btcv_scan(request.getfixturevalue("real_data") / "btcv", 28)


def convert(root: Path, tmp_path: Path, source: str, classes: list[str], **options) -> tuple[Path, LabelManifest]:
    pool = write_pool(tmp_path / "pool.yaml", [{"source": source, "path": str(root), **options}], classes=classes)
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    return folder, read_manifest(folder / "label_manifest.json")


def truth(scan: Scan, classes: list[str]) -> np.ndarray:
    """The organs of a scan in RAS, numbered in the order of the classes."""
    mine = scan.labels({name: number for number, name in enumerate(classes, 1)})
    return np.asarray(nib.as_closest_canonical(mine).dataobj)


@pytest.mark.parametrize("source", LAYOUTS)
def test_label_maps_equal_the_truth(source, scan, tmp_path):
    write, ids = LAYOUTS[source]
    classes = [name for name in ids if name in scan.ids]
    folder, manifest = convert(write(tmp_path / "native", scan), tmp_path, source, classes)
    (case,) = manifest.cases
    expected = truth(scan, classes)
    np.testing.assert_array_equal(voxels(folder / f"labelsTr/{case.identifier}.nii.gz"), expected)
    assert set(np.unique(expected)) - {0} == {number for number in range(1, len(classes) + 1) if number in case.label_counts}
    assert case.notes == ()
    assert manifest.protocols[source].labels == {number: (name,) for number, name in enumerate(classes, 1)}


def test_several_organs_without_a_side_in_one_source(scan, tmp_path, monkeypatch):
    unsided = {1: SourceLabel(("liver",)), 3: SourceLabel(("kidney",)), 12: SourceLabel(("adrenal_gland",))}
    ids = {"liver": 1, "kidney_left": 3, "kidney_right": 3, "adrenal_gland_left": 12, "adrenal_gland_right": 12}
    monkeypatch.setitem(SOURCES, "unsided", replace(SOURCES["word"], key="unsided", labels=lambda _: unsided))
    root = write_word(tmp_path / "native", scan)
    nib.save(scan.labels(ids), root / "WORD-V0.1.0/labelsTr/word_0002.nii.gz")
    classes = ["adrenal_gland_right", "kidney_left", "liver", "adrenal_gland_left", "kidney_right"]
    folder, manifest = convert(root, tmp_path, "unsided", classes)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/unsided_0002.nii.gz"), truth(scan, classes))
    assert manifest.cases[0].notes == ()


def test_adrenal_glands_can_stay_a_union(tmp_path):
    scan = phantom_scan()
    classes = ["adrenal_gland_left", "adrenal_gland_right"]
    root = write_word(tmp_path / "native", scan)
    folder, manifest = convert(root, tmp_path, "word", classes, sides="union")
    assert manifest.protocols["word"].labels == {1: ("adrenal_gland_left", "adrenal_gland_right")}
    np.testing.assert_array_equal(voxels(folder / "labelsTr/word_0002.nii.gz"), truth(scan, classes) > 0)


def test_amos22_is_two_sources_by_number(tmp_path):
    scan = phantom_scan()
    root = write_amos22(tmp_path, scan, numbers=(500, 4, 507))
    write_amos22(tmp_path, scan, numbers=(8, 600), part="Va")
    (root / "amos22/imagesTs").mkdir()
    for number in (11, 601):
        (root / f"amos22/imagesTs/amos_{number:04d}.nii.gz").touch()
    ct, mr = (SOURCES[key].list_cases(root) for key in ("amos22_ct", "amos22_mr"))
    assert [case.name for case in ct.cases] == ["0004", "0008", "0500"]
    assert [case.name for case in mr.cases] == ["0507", "0600"]
    assert [case.name for case in ct.unlabelled + mr.unlabelled] == ["0011", "0601"]
    assert ("amos22/imagesTr/amos_0507.nii.gz", "an MR scan, read by source amos22_mr") in ct.skipped
    assert ("amos22/imagesVa/amos_0008.nii.gz", "a CT scan, read by source amos22_ct") in mr.skipped
    assert SOURCES["amos22_mr"].channel_names(root) == {"0": "MRI"}


def test_amos22_mr_is_converted_without_asking_for_hounsfield_units(tmp_path):
    scan = phantom_scan()
    mr = Scan(nib.Nifti1Image((scan.organs.astype(np.int16) + 1) * 900, scan.image.affine), scan.organs, scan.ids)
    classes = ["liver", "duodenum"]
    folder, manifest = convert(write_amos22(tmp_path / "native", mr), tmp_path, "amos22_mr", classes)
    (case,) = manifest.cases
    assert (case.identifier, case.notes, case.absent) == ("amos22_mr_0507", (), ("duodenum",))
    np.testing.assert_array_equal(voxels(folder / "labelsTr/amos22_mr_0507.nii.gz"), truth(scan, classes))


def test_flare22_lists_what_nobody_labelled(tmp_path):
    root = write_flare22(tmp_path, phantom_scan(), numbers=(10, 2))
    for name in ("Case_00001_0000", "FLARETs_0001_0000"):
        (root / f"{name}.nii.gz").touch()
    listing = SOURCES["flare22"].list_cases(root)
    assert [case.name for case in listing.cases] == ["Tr_0002", "Tr_0010"]
    assert [case.name for case in listing.unlabelled] == ["Case_00001", "Ts_0001"]
    (root / "Case_00001_0000.nii.gz").rename(root / "FLARE22Train/FLARE22_Tr_0002_0000.nii.gz")
    assert "case 'Tr_0002' occurs twice" in SOURCES["flare22"].list_cases(root).faults[0]


def test_abdomenct1k_pairs_over_its_parts(tmp_path):
    root = write_abdomenct1k(tmp_path, phantom_scan(), numbers=(401, 12))
    assert [case.name for case in SOURCES["abdomenct1k"].list_cases(root).cases] == ["00012", "00401"]


@pytest.mark.parametrize("other", ["spleen", "liver"])
def test_abdomenct1k_refuses_a_pancreas_that_lies_elsewhere(other, scan, tmp_path):
    exchanged = {**ABDOMENCT1K_IDS, other: 4, "pancreas": ABDOMENCT1K_IDS[other]}
    root = write_abdomenct1k(tmp_path / "native", scan, ids=exchanged)
    with pytest.raises(
        ConversionError, match=r"abdomenct1k_00001.*id 4 of 'Case_00001.nii.gz' does not lie between id 1 and id 3"
    ):
        convert(root, tmp_path, "abdomenct1k", ["pancreas"])


def test_abdomenct1k_holds_its_ids_against_dataset_json(tmp_path):
    write_dataset_json(tmp_path, ["Liver", "Kidney", "Spleen", "Pancreas"])
    assert len(SOURCES["abdomenct1k"].labels(tmp_path)) == 4
    write_dataset_json(tmp_path, ["liver", "kidney", "pancreas", "spleen"])
    with pytest.raises(ConversionError, match="is it another dataset"):
        SOURCES["abdomenct1k"].labels(tmp_path)
    (tmp_path / "dataset.json").write_text('{"label": 3}')
    with pytest.raises(ConversionError, match=r"has no 'labels'"):
        SOURCES["abdomenct1k"].labels(tmp_path)


def test_word_reads_all_its_parts_in_both_types(tmp_path):
    scan = phantom_scan()
    root = write_word(tmp_path / "native", scan, numbers=(2, 12), dtype=np.uint8)
    write_word(root, scan, numbers=(1,), part="Val")
    write_word(root, scan, numbers=(14,), part="Ts")
    folder, manifest = convert(root, tmp_path, "word", ["liver", "spleen"])
    assert [case.identifier for case in manifest.cases] == ["word_0001", "word_0002", "word_0012", "word_0014"]
    for case in manifest.cases:
        np.testing.assert_array_equal(voxels(folder / f"labelsTr/{case.identifier}.nii.gz"), truth(scan, ["liver", "spleen"]))


def test_abdomenatlas_paints_single_masks_and_knows_which_are_missing(scan, tmp_path):
    root = write_abdomenatlas(tmp_path / "native", scan, number=3)
    write_abdomenatlas(root, scan, number=12, masks=True, without=("spleen",))
    classes = ["liver", "spleen", "inferior_vena_cava", "gallbladder", "kidney_right"]
    folder, manifest = convert(root, tmp_path, "abdomenatlas", classes)
    whole, partial = (manifest.protocols[case.protocol].annotated_classes for case in manifest.cases)
    assert (whole, partial) == (set(classes), set(classes) - {"spleen"})
    expected = truth(scan, classes)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/abdomenatlas_00000003.nii.gz"), expected)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/abdomenatlas_00000012.nii.gz"), np.where(expected == 2, 0, expected))


def test_abdomenatlas_says_what_lacks(tmp_path):
    root = write_abdomenatlas(tmp_path, phantom_scan())
    (root / "BDMAP_00000002").mkdir()
    (root / "BDMAP_00000003").mkdir()
    (root / "BDMAP_00000003/ct.nii.gz").touch()
    listing = SOURCES["abdomenatlas"].list_cases(root)
    assert [case.name for case in listing.cases] == ["00000001"]
    assert listing.skipped == [("BDMAP_00000002", "holds no ct.nii.gz")]
    assert [case.name for case in listing.unlabelled] == ["00000003"]


def test_masks_of_one_map_must_share_a_grid(tmp_path):
    scan = phantom_scan()
    root = write_abdomenatlas(tmp_path / "native", scan, masks=True)
    liver = scan.labels({"liver": 1})
    moved = liver.affine.copy()
    moved[0, 3] += 40
    nib.save(nib.Nifti1Image(np.asarray(liver.dataobj), moved), root / "BDMAP_00000001/segmentations/liver.nii.gz")
    with pytest.raises(ConversionError, match=r"'aorta.nii.gz' and 'liver.nii.gz' lie on different grids"):
        convert(root, tmp_path, "abdomenatlas", ["liver"])
