"""KiTS21 and KiTS23: tumors and cysts in one organ, and a label map for each reader."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from native_sources import abdomen, drawn, save, voxels, write_pool

from nnunet_partial.dataset_conversion import SOURCES, ConversionError, ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.label_plan import own_classes, plan_labels
from nnunet_partial.dataset_conversion.sources.kits import SOURCE_LABELS
from nnunet_partial.dataset_conversion.sources.kits19 import SOURCE_LABELS as KITS19
from nnunet_partial.dataset_conversion.verify import FAULT, verify_dataset
from nnunet_partial.labels import Annotation, LabelManifest, LabelSpace, read_manifest

SIDED = ("kidney_left", "kidney_right", "kidney_tumor", "kidney_cyst")
KINDS = {"kidney": 1, "tumor": 2, "cyst": 3}


def write_case(case: Path, labels: np.ndarray, masks: dict[str, np.ndarray], label_file: str, folder: str) -> None:
    """A case folder of the phantom: the aggregated map and the masks of single readers, all in KiTS's axes."""
    save(abdomen(5), case / "imaging.nii.gz", "IPL")
    save(labels, case / label_file, "IPL")
    for name, mask in masks.items():
        save(mask.astype(np.uint8), case / folder / f"{name}.nii.gz", "IPL")


def phantom() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """An aggregated map, and masks of two readers: the second drew no cyst, and a tumor more."""
    kidneys = drawn({"kidney_left": 1, "kidney_right": 2})
    cyst, tumor, other = np.zeros((3, *kidneys.shape), dtype=bool)
    cyst[15:17, 4:6, 2:5], tumor[15, 5, 3:6], other[5:7, 4, 4:6] = True, True, True
    masks = {f"kidney_instance-{k}_annotation-{reader}": kidneys == k for k in (1, 2) for reader in (1, 2)}
    masks |= {"cyst_instance-1_annotation-1": cyst, "tumor_instance-1_annotation-1": tumor}
    masks |= {"tumor_instance-2_annotation-2": tumor, "tumor_instance-10_annotation-2": other}
    labels = np.where(tumor, 2, np.where(cyst, 3, (kidneys > 0).astype(np.uint8))).astype(np.uint8)
    return labels, masks


def convert(root: Path, tmp_path: Path, source: str, classes, **options) -> tuple[Path, LabelManifest]:
    pool = write_pool(tmp_path / "pool.yaml", [{"source": source, "path": str(root), **options}], classes=classes)
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    return folder, read_manifest(folder / "label_manifest.json")


def slow_composition(masks: dict[str, np.ndarray], reader: int) -> np.ndarray:
    """The label map of a reader, voxel by voxel of the kinds: a tumor wins over a cyst, a cyst over a kidney."""
    drawn_by = {kind: np.zeros(next(iter(masks.values())).shape, dtype=bool) for kind in KINDS}
    for name, mask in masks.items():
        kind, _, who = re.fullmatch(r"(\w+)_instance-(\d+)_annotation-(\d+)", name).groups()
        if int(who) == reader:
            drawn_by[kind] |= mask != 0
    return np.select([drawn_by["tumor"], drawn_by["cyst"], drawn_by["kidney"]], [2, 3, 1]).astype(np.uint8)


@pytest.mark.parametrize(
    ("source", "prefix", "label_file", "folder"),
    [
        ("kits21", "kits21/data", "aggregated_MAJ_seg.nii.gz", "segmentations"),
        ("kits23", "dataset", "segmentation.nii.gz", "instances"),
    ],
)
def test_every_readers_map_is_kept(tmp_path, source, prefix, label_file, folder):
    labels, masks = phantom()
    write_case(tmp_path / "native" / prefix / "case_00400", labels, masks, label_file, folder)
    (tmp_path / "native" / prefix / "case_00400" / folder / "ureter_instance-1_annotation-3.nii.gz").touch()
    out, manifest = convert(tmp_path / "native", tmp_path, source, SIDED, tumor="separate")
    (case,) = manifest.cases
    assert case.identifier == f"{source}_00400"
    assert sorted(case.annotators) == ["1", "2"]
    assert [Path(file).name.split("_")[0] for file in case.annotators["1"].files] == ["kidney", "kidney", "cyst", "tumor"]
    assert {who.protocol for who in case.annotators.values()} == {case.protocol} == {source}
    assert [Path(file).name[:17] for file in case.annotators["2"].files][2:] == ["tumor_instance-2_", "tumor_instance-10"]
    sides = drawn({"kidney_left": 1, "kidney_right": 2})
    for original, path in (
        (labels, out / f"labelsTr/{case.identifier}.nii.gz"),
        (slow_composition(masks, 1), out / f"annotators/1/{case.identifier}.nii.gz"),
        (slow_composition(masks, 2), out / f"annotators/2/{case.identifier}.nii.gz"),
    ):
        np.testing.assert_array_equal(voxels(path), np.select([original == 2, original == 3], [3, 4], sides.astype(int)))


def test_one_reader_alone_is_no_annotator(tmp_path):
    labels, masks = phantom()
    alone = {name: mask for name, mask in masks.items() if name.endswith("1")}
    write_case(tmp_path / "case_00401", labels, alone, "segmentation.nii.gz", "instances")
    (case,) = SOURCES["kits23"].list_cases(tmp_path).cases
    assert case.annotators == ()


def test_cases_are_found_by_number_and_what_lacks_is_said(tmp_path):
    labels, _ = phantom()
    for number in (588, 9, 100):
        write_case(tmp_path / f"dataset/case_{number:05d}", labels, {}, "segmentation.nii.gz", "instances")
    (tmp_path / "dataset/case_00100/segmentation.nii.gz").unlink()
    (tmp_path / "dataset/case_00588/imaging.nii.gz").unlink()
    (tmp_path / "dataset/case_00007").mkdir()
    listing = SOURCES["kits23"].list_cases(tmp_path)
    assert [case.name for case in listing.cases] == ["00009"]
    assert [case.name for case in listing.unlabelled] == ["00100"]
    assert dict(listing.skipped) == {
        "dataset/case_00007": "holds neither imaging.nii.gz nor segmentation.nii.gz or aggregated_MAJ_seg.nii.gz",
        "dataset/case_00588/segmentation.nii.gz": "no image belongs to it",
    }


def test_masks_of_one_reader_on_two_grids_are_refused(tmp_path):
    labels, masks = phantom()
    masks["cyst_instance-1_annotation-1"] = masks["cyst_instance-1_annotation-1"][:-1]
    write_case(tmp_path / "native/case_00003", labels, masks, "segmentation.nii.gz", "instances")
    with pytest.raises(
        ConversionError,
        match=r"'kidney_instance-1_annotation-1.nii.gz' and 'cyst_instance-1_annotation-1.nii.gz' lie on different grids",
    ):
        convert(tmp_path / "native", tmp_path, "kits23", ["kidney"])


@pytest.mark.parametrize(
    ("classes", "policies", "protocol", "mapping"),
    [
        (("kidney",), {}, {1: ("kidney",)}, {1: 1, 2: 1, 3: 1}),
        (
            ("kidney", "kidney_tumor", "kidney_cyst"),
            {"tumor": "separate"},
            {1: ("kidney",), 2: ("kidney_tumor",), 3: ("kidney_cyst",)},
            {1: 1, 2: 2, 3: 3},
        ),
        (("kidney", "kidney_tumor"), {"tumor": "separate"}, {1: ("kidney",), 2: ("kidney_tumor",)}, {1: 1, 2: 2, 3: 1}),
        (
            ("kidney", "kidney_tumor", "kidney_cyst"),
            {"tumor": "union"},
            {1: ("kidney", "kidney_tumor", "kidney_cyst")},
            {1: 1, 2: 1, 3: 1},
        ),
        (("kidney", "kidney_cyst"), {"tumor": "union"}, {1: ("kidney", "kidney_cyst")}, {1: 1, 2: 1, 3: 1}),
        (SIDED[:2], {}, {1: ("kidney_left",), 2: ("kidney_right",)}, {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2}),
        (
            SIDED,
            {"tumor": "separate"},
            {n: (name,) for n, name in enumerate(SIDED, 1)},
            {1: 1, 2: 3, 3: 4, 4: 2, 5: 3, 6: 4},
        ),
        (SIDED, {"tumor": "union", "sides": "union"}, {1: SIDED}, {1: 1, 2: 1, 3: 1}),
    ],
)
def test_policies_for_tumors_and_cysts(classes, policies, protocol, mapping):
    plan, faults = plan_labels(SOURCE_LABELS, LabelSpace(classes=classes), **policies)
    assert faults == []
    assert plan.protocol.labels == protocol
    assert plan.mapping == mapping


@pytest.mark.parametrize(
    ("classes", "policies", "message"),
    [
        (("kidney", "kidney_cyst"), {}, "tumor: merge puts 'kidney_cyst' into its organ"),
        (("kidney",), {"tumor": "separate"}, "class 'kidney_cyst' is not in the label space"),
        (
            (*SIDED[:2], "kidney_cyst"),
            {"tumor": "union"},
            "tumor: union puts 'kidney_cyst' under two ids where the kidney is split",
        ),
    ],
)
def test_policies_that_do_not_fit_are_refused(classes, policies, message):
    plan, faults = plan_labels(SOURCE_LABELS, LabelSpace(classes=classes), **policies)
    assert plan is None
    assert message in faults[-1]
    assert len(faults) == (2 if policies.get("tumor") == "separate" else 1)


def test_kidneys_of_kits19_may_hold_cysts_where_the_pool_knows_cysts():
    plan, _ = plan_labels(KITS19, LabelSpace(classes=("kidney", "kidney_tumor", "kidney_cyst")), tumor="separate")
    assert plan.protocol.labels == {1: ("kidney", "kidney_cyst"), 2: ("kidney_tumor",)}
    union, _ = plan_labels(KITS19, LabelSpace(classes=("kidney_left", "kidney_right", "kidney_cyst")), sides="union")
    assert union.protocol.labels == {1: ("kidney_left", "kidney_right", "kidney_cyst")}


def test_own_classes_hold_the_cyst():
    assert own_classes(SOURCE_LABELS) == SIDED[:2]
    assert own_classes(SOURCE_LABELS, "separate") == SIDED


# --- the real label maps


def native_copy(case: Path, to: Path) -> dict[str, np.ndarray]:
    """A real case thinned in the plane, with an image made up around it; returns its label files' arrays in RAS by name."""
    arrays = {}
    for file in sorted(case.rglob("*.nii.gz")):
        original = nib.load(file)
        affine = original.affine @ np.diag([1, 4, 4, 1])
        thinned = nib.Nifti1Image(np.ascontiguousarray(np.asanyarray(original.dataobj)[:, ::4, ::4]), affine)
        path = to / file.relative_to(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(thinned, path)
        arrays[file.name.removesuffix(".nii.gz")] = np.asarray(nib.as_closest_canonical(thinned).dataobj)
    rows, columns = np.ogrid[: thinned.shape[1], : thinned.shape[2]]
    body = (rows / thinned.shape[1] - 0.5) ** 2 + (columns / thinned.shape[2] - 0.5) ** 2 < 0.2
    image = np.broadcast_to(np.where(body, 40, -1000).astype(np.int16), thinned.shape)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(image), affine), to / "imaging.nii.gz")
    return arrays


@pytest.mark.parametrize("number", ["00010", "00020"])
def test_real_readers_of_kits23(real_data, tmp_path, number):
    case = real_data / f"kits_labels/kits23/dataset/case_{number}"
    arrays = native_copy(case, tmp_path / f"native/dataset/case_{number}")
    aggregated = arrays.pop("segmentation")
    out, manifest = convert(tmp_path / "native", tmp_path, "kits23", SIDED, tumor="separate")
    for reader in (1, 2, 3):
        composed = slow_composition(arrays, reader)
        converted = voxels(out / f"annotators/{reader}/kits23_{number}.nii.gz")
        np.testing.assert_array_equal(np.array([0, 1, 1, 2, 3])[converted], composed)
        kidneys = [arrays[f"kidney_instance-{k}_annotation-{reader}"] for k in (1, 2)]
        left, right = sorted((mask != 0 for mask in kidneys), key=lambda mask: np.nonzero(mask)[0].mean())
        assert set(np.unique(converted[left & (composed == 1)])) == {1}
        assert set(np.unique(converted[right & (composed == 1)])) == {2}
    annotation = Annotation.from_dataset_json(json.loads((out / "dataset.json").read_text(encoding="utf-8")))
    assert annotation.cases[f"kits23_{number}"].annotators == {"1": "kits23", "2": "kits23", "3": "kits23"}
    faults = [finding for finding in verify_dataset(out, progress=False).findings if finding.severity == FAULT]
    assert {finding.kind for finding in faults} <= {"mismatch"}  # the image was made up
    labels = voxels(out / f"labelsTr/kits23_{number}.nii.gz")
    np.testing.assert_array_equal(np.array([0, 1, 1, 2, 3])[labels], aggregated)
    assert manifest.cases[0].notes == ()
    assert (3 in aggregated) == (number == "00020")


def test_real_kits19_label_maps(real_data, tmp_path):
    originals = {}
    for case in sorted((real_data / "kits_labels/kits19/data").glob("case_*")):
        originals[case.name.removeprefix("case_")] = native_copy(case, tmp_path / "native/data" / case.name)["segmentation"]
    assert len(originals) == 6
    out, _ = convert(tmp_path / "native", tmp_path, "kits19", ["kidney_left", "kidney_right", "kidney_tumor"], tumor="separate")
    for number, original in originals.items():
        labels = voxels(out / f"labelsTr/kits19_{number}.nii.gz")
        np.testing.assert_array_equal(np.array([0, 1, 1, 2])[labels], original)
        x = np.nonzero(np.isin(labels, (1, 2)))[0]
        middle = (labels.shape[0] - 1) / 2
        assert labels[labels == 1].size == np.count_nonzero(x < middle)
