"""Cases drawn by several annotators: from a source file to label maps, majorities and protocols."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hospital import convert
from native_sources import abdomen, contents, drawn, save, voxels, write_pool

from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool, describe_pool, load_pool
from nnunet_partial.dataset_conversion.duplicates.deduplicate import drop_duplicates, merge_duplicates
from nnunet_partial.dataset_conversion.simulation.annotated_dataset import read_annotated_dataset
from nnunet_partial.dataset_conversion.simulation.plan import plan_missing
from nnunet_partial.dataset_conversion.simulation.simulate import write_simulations
from nnunet_partial.dataset_conversion.verify import FAULT, verify_dataset
from nnunet_partial.labels import Annotation, DatasetRecord, read_manifest

MAPS = """
images: "{case}/ct.nii.gz"
labels: {1: liver, 2: spleen, 3: pancreas}
annotators:
  anna: {label_maps: "anna/{case}.nii.gz"}
  ben: {label_maps: "ben/{case}.nii.gz", annotated: [1, 2]}
  carl: {label_maps: "carl/{case}.nii.gz", annotated: [1]}
"""
MASKS = """
images: "{case}/ct.nii.gz"
masks: {}
annotators:
  anna: {masks: {liver: "{case}/anna/liver.nii.gz", milz: "{case}/anna/spleen.nii.gz"}}
  ben: {masks: {liver: "{case}/ben/liver.nii.gz", milz: "{case}/ben/spleen.nii.gz"}}
labels: {milz: spleen}
"""
CLASSES = ["liver", "spleen", "pancreas"]
IDS = {name: number for number, name in enumerate(CLASSES, 1)}


def moved(labels: np.ndarray, step: int) -> np.ndarray:
    return np.roll(labels, step, axis=0)


def write_readers(root: Path, cases=("p1", "p2"), text: str = MAPS) -> dict[str, np.ndarray]:
    """Cases that three annotators drew, each a voxel further to the right; returns their label maps."""
    maps = {who: moved(drawn(IDS), step) for step, who in enumerate(("anna", "ben", "carl"))}
    for number, case in enumerate(cases):
        save(abdomen(number), root / case / "ct.nii.gz", "LPS")
        for who, labels in maps.items():
            save(labels, root / who / f"{case}.nii.gz", "LPS")
            for name, label_id in IDS.items():
                save((labels == label_id).astype(np.uint8), root / case / who / f"{name}.nii.gz", "LPS")
    (root / "hospital.yaml").write_text(text)
    return maps


def annotation_of(folder: Path) -> Annotation:
    return Annotation.from_dataset_json(json.loads((folder / "dataset.json").read_text(encoding="utf-8")))


def faults_of(root: Path, text: str) -> str:
    write_readers(root, text=text)
    pool = write_pool(root.parent / "pool.yaml", [{"source": f"{root.name}/hospital.yaml"}], classes=CLASSES)
    with pytest.raises(ConversionError) as caught:
        load_pool(pool)
    return str(caught.value)


def test_each_annotator_with_a_protocol_and_the_majority_of_those_who_looked(tmp_path):
    maps = write_readers(tmp_path / "data")
    folder = convert(tmp_path / "data", classes=CLASSES, num_processes=2)
    manifest, annotation = read_manifest(folder / "label_manifest.json"), annotation_of(folder)
    assert [case.identifier for case in manifest.cases] == ["hospital_p1", "hospital_p2"]
    looked_for = {
        who: set(annotation.protocols[name].annotated_classes) for who, name in annotation.cases["hospital_p1"].annotators.items()
    }
    assert looked_for == {"anna": set(CLASSES), "ben": {"liver", "spleen"}, "carl": {"liver"}}
    assert annotation.protocol_of("hospital_p1").annotated_classes == set(CLASSES)  # what any of them looked for
    case = manifest.cases[0]
    assert (case.label_files, case.annotators["ben"].files) == ((), ("ben/p1.nii.gz",))
    expected = np.where(maps["anna"] == 3, 3, 0)  # she alone looked for the pancreas
    both = (maps["anna"] == 2) & (maps["ben"] == 2)
    liver = sum((labels == 1).astype(int) for labels in maps.values()) >= 2
    expected = np.where(both, 2, np.where(liver & (expected == 0), 1, expected))
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), expected)
    np.testing.assert_array_equal(voxels(folder / "annotators/anna/hospital_p1.nii.gz"), maps["anna"])


def test_what_an_annotator_did_not_look_for_is_not_in_his_map(tmp_path):
    maps = write_readers(tmp_path / "data")
    folder = convert(tmp_path / "data", classes=CLASSES)
    np.testing.assert_array_equal(
        voxels(folder / "annotators/carl/hospital_p2.nii.gz"), np.where(maps["carl"] == 1, 1, 0)
    )  # he drew spleens all the same
    assert not [finding for finding in verify_dataset(folder, progress=False).findings if finding.kind == "unannotated"]


def test_a_label_map_of_the_case_itself_stands(tmp_path):
    write_readers(tmp_path / "data", text=MAPS.replace("labels:", 'label_maps: "anna/{case}.nii.gz"\nlabels:'))
    with pytest.raises(ConversionError, match=r"is both label_maps and annotators\.anna\.label_maps"):
        convert(tmp_path / "data", classes=CLASSES)
    for case in ("p1", "p2"):
        save(drawn({"liver": 1}), tmp_path / f"data/{case}/agreed.nii.gz", "LPS")
    text = MAPS.replace("labels:", 'label_maps: "{case}/agreed.nii.gz"\nannotated: [1]\nlabels:')
    (tmp_path / "data/hospital.yaml").write_text(text.replace('anna/{case}.nii.gz"', 'anna/{case}.nii.gz", annotated: [1, 2, 3]'))
    folder = convert(tmp_path / "data", classes=CLASSES)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz"), drawn({"liver": 1}))
    annotation = annotation_of(folder)
    assert annotation.protocol_of("hospital_p1").annotated_classes == {"liver"}
    assert annotation.protocols[annotation.cases["hospital_p1"].annotators["anna"]].annotated_classes == set(CLASSES)
    (tmp_path / "data/p2/agreed.nii.gz").unlink()
    with pytest.raises(ConversionError, match="case 'p2' was drawn by anna, ben, carl, but has no label of its own"):
        convert(tmp_path / "data", classes=CLASSES)


def test_masks_of_each_annotator(tmp_path):
    maps = write_readers(tmp_path / "data", text=MASKS)
    (tmp_path / "data/p2/ben/spleen.nii.gz").unlink()
    folder = convert(tmp_path / "data")
    manifest = read_manifest(folder / "label_manifest.json")
    first, second = manifest.cases
    assert first.annotators["ben"].files == ("p1/ben/liver.nii.gz", "p1/ben/spleen.nii.gz")
    assert manifest.protocols[second.annotators["ben"].protocol].annotated_classes == {"liver"}
    assert manifest.protocols[second.protocol].annotated_classes == {"liver", "spleen"}
    for who in ("anna", "ben"):
        labels = voxels(folder / f"annotators/{who}/hospital_p1.nii.gz")
        np.testing.assert_array_equal(labels, np.where(maps[who] < 3, maps[who], 0))
    spleen = maps["anna"] == 2
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p2.nii.gz") == 2, spleen)
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p1.nii.gz") == 2, spleen & (maps["ben"] == 2))


def test_missing_masks_of_an_annotator_can_say_absent(tmp_path):
    write_readers(tmp_path / "data", text=MASKS + "missing_mask: absent\n")
    (tmp_path / "data/p2/ben/spleen.nii.gz").unlink()
    folder = convert(tmp_path / "data")
    assert set(annotation_of(folder).cases["hospital_p2"].annotators.values()) == {"hospital"}
    assert not (voxels(folder / "labelsTr/hospital_p2.nii.gz") == 2).any()
    assert read_manifest(folder / "label_manifest.json").cases[1].absent == ("spleen",)


def test_cases_that_not_everybody_drew(tmp_path):
    """Two annotators vote, one alone makes an ordinary case, and what nobody drew is unlabelled."""
    maps = write_readers(tmp_path / "data", cases=("p1", "p2", "p3", "p4"))
    for missing in ("carl/p2", "anna/p3", "carl/p3", "anna/p4", "ben/p4", "carl/p4"):
        (tmp_path / f"data/{missing}.nii.gz").unlink()
    folder = convert(tmp_path / "data", classes=CLASSES)
    cases, manifest = annotation_of(folder).cases, read_manifest(folder / "label_manifest.json")
    assert {key: sorted(case.annotators) for key, case in cases.items()} == {
        "hospital_p1": ["anna", "ben", "carl"],
        "hospital_p2": ["anna", "ben"],
        "hospital_p3": [],
    }
    assert [skip.item for skip in manifest.skipped] == ["p4/ct.nii.gz"]
    alone = manifest.cases[2]
    assert (alone.label_files, alone.annotators) == (("ben/p3.nii.gz",), {})
    assert manifest.protocols[alone.protocol].annotated_classes == {"liver", "spleen"}
    labels = voxels(folder / "labelsTr/hospital_p3.nii.gz")
    np.testing.assert_array_equal(labels[maps["ben"] < 3], maps["ben"][maps["ben"] < 3])
    assert not (folder / "annotators/ben/hospital_p3.nii.gz").exists()


def test_an_annotator_who_looked_for_none_of_the_pools_classes_is_left_out(tmp_path):
    write_readers(tmp_path / "data")
    folder = convert(tmp_path / "data", classes=["spleen", "pancreas"])
    assert sorted(annotation_of(folder).cases["hospital_p1"].annotators) == ["anna", "ben"]
    assert not (folder / "annotators/carl").exists()
    folder = convert(tmp_path / "data", classes=["pancreas"])  # now Anna's alone
    assert annotation_of(folder).cases["hospital_p1"].annotators == {}
    assert read_manifest(folder / "label_manifest.json").cases[0].label_files == ("anna/p1.nii.gz",)
    assert not list(folder.glob("annotators/*/*.nii.gz"))


def test_sides_and_unions_are_those_of_each_annotator(tmp_path):
    text = MAPS.replace("2: spleen", "2: kidney").replace("3: pancreas", "3: [spleen, pancreas]")
    write_readers(tmp_path / "data", text=text)
    kidneys = drawn({"kidney_left": 2, "kidney_right": 2, "pancreas": 3})
    for step, who in enumerate(("anna", "ben")):
        save(moved(kidneys, step), tmp_path / f"data/{who}/p1.nii.gz", "LPS")
    folder = convert(tmp_path / "data", classes=["kidney_left", "kidney_right", "spleen", "pancreas"])
    expected = drawn({"kidney_left": 1, "kidney_right": 2, "pancreas": 3})
    np.testing.assert_array_equal(voxels(folder / "annotators/anna/hospital_p1.nii.gz"), expected)
    labels = voxels(folder / "labelsTr/hospital_p1.nii.gz")
    np.testing.assert_array_equal(labels[expected == 3], 3)  # Anna alone looked for that union
    np.testing.assert_array_equal((labels == 1), (expected == 1) & (moved(expected, 1) == 1))


def test_what_would_be_done_names_the_annotators(tmp_path):
    write_readers(tmp_path / "data")
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "data/hospital.yaml"}], classes=CLASSES)
    said = describe_pool(pool, tmp_path / "raw")
    assert "  hospital, annotator carl: 2 of these cases; annotated: 1 = liver; unannotated: spleen, pancreas" in said


def test_a_changed_protocol_converts_again_and_the_same_gives_the_same_bytes(tmp_path):
    write_readers(tmp_path / "data")
    folder = convert(tmp_path / "data", classes=CLASSES)
    before = contents(folder)
    shutil.rmtree(folder)
    assert contents(convert(tmp_path / "data", classes=CLASSES, num_processes=2)) == before
    (tmp_path / "data/hospital.yaml").write_text(MAPS.replace("annotated: [1]", "annotated: [1, 2]"))
    convert(tmp_path / "data", classes=CLASSES)
    assert (voxels(folder / "annotators/carl/hospital_p1.nii.gz") == 2).any()
    (tmp_path / "data/hospital.yaml").write_text(MAPS.replace("  carl:", "#"))
    folder = convert(tmp_path / "data", classes=CLASSES)
    assert sorted(annotation_of(folder).cases["hospital_p1"].annotators) == ["anna", "ben"]
    assert not (folder / "annotators/carl/hospital_p1.nii.gz").exists()


def test_a_broken_map_names_its_annotator(tmp_path):
    write_readers(tmp_path / "data")
    (tmp_path / "data/ben/p2.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ConversionError, match=r"case 'hospital_p2' .*annotator 'ben' \(ben/p2.nii.gz\): "):
        convert(tmp_path / "data", classes=CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (re.sub(r"  (ben|carl): .*\n", "", MAPS), "annotators: there are 1, give 2 to 20"),
        (MAPS.replace("  ben:", "  Anna:"), "annotators: 'Anna' and 'anna' are one folder on some systems"),
        (MAPS.replace("  ben:", "  Dr. B:"), "annotators: 'Dr. B' becomes a folder: use letters, digits, - and _"),
        (MAPS.replace("annotated: [1]", "annotated: [7]"), "annotators.carl.annotated: '7' is not among 1, 2, 3"),
        (
            MAPS.replace("annotated: [1]", "anotated: [1]"),
            "annotators.carl.anotated: Extra inputs are not permitted (did you mean",
        ),
        (MAPS.replace('"carl/{case}', '"karl/{case}'), "annotators.carl.label_maps: 'karl/{case}.nii.gz' matches nothing below"),
        (MAPS.replace('"carl/{case}', '"carl/'), "annotators.carl.label_maps: 'carl/.nii.gz' holds no {case}"),
        (
            MAPS.replace('carl: {label_maps: "carl/{case}.nii.gz", ', "carl: {"),
            "annotators.carl: give either label_maps (one file a case) or masks",
        ),
        (
            MAPS.replace('carl: {label_maps: "carl/{case}.nii.gz", annotated: [1]', 'carl: {masks: {"liver": "c/{case}.nii.gz"}'),
            "all labels must be of one kind, but there are label maps: annotators.anna, annotators.ben; masks: annotators.carl",
        ),
        (
            MASKS.replace("masks: {}", 'label_maps: "anna/{case}.nii.gz"'),
            "all labels must be of one kind, but there are label maps: the entry of the case itself; masks: annotators.anna",
        ),
        (MASKS.replace("labels: {milz", "labels: {miltz"), "labels.miltz: there is no mask 'miltz' (did you mean 'milz'?)"),
        (MAPS + "missing_mask: absent\n", "missing_mask: belongs to masks"),
        (MAPS.replace("labels: {1", "#"), "labels: say what the ids of the label maps stand for"),
    ],
)
def test_faults_of_annotators(tmp_path, text, message):
    assert message in faults_of(tmp_path / "data", text)


def test_twenty_one_annotators_are_too_many(tmp_path):
    text = MAPS + "".join(f'  {number}: {{label_maps: "anna/{{case}}.nii.gz"}}\n' for number in range(18))
    assert "annotators: there are 21, give 2 to 20" in faults_of(tmp_path / "data", text)


# --- what is done with a converted dataset keeps its annotators, or says that it does not


@pytest.fixture
def converted(tmp_path) -> Path:
    """Dataset500_Abdomen: two cases of three annotators."""
    write_readers(tmp_path / "data")
    return convert(tmp_path / "data", classes=CLASSES)


def looked_for_by_each(folder: Path, case: str) -> dict[str, frozenset[str]]:
    annotation = annotation_of(folder)
    return {who: annotation.protocols[name].annotated_classes for who, name in annotation.cases[case].annotators.items()}


def test_a_converted_dataset_is_a_source_with_its_annotators(converted, tmp_path):
    pool = write_pool(tmp_path / "again.yaml", [{"source": "nnunet_raw", "path": str(converted)}], classes=CLASSES, number=501)
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    assert looked_for_by_each(folder, "nnunet_raw_hospital_p1") == looked_for_by_each(converted, "hospital_p1")
    for name in ("labelsTr", "annotators/anna", "annotators/carl"):
        np.testing.assert_array_equal(
            voxels(folder / name / "nnunet_raw_hospital_p2.nii.gz"), voxels(converted / name / "hospital_p2.nii.gz")
        )
    (converted / "annotators/ben/hospital_p1.nii.gz").unlink()
    with pytest.raises(ConversionError, match=r"'.*hospital_p1.nii.gz' is missing, the label map of annotator 'ben'"):
        convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))


def test_a_simulation_leaves_annotators_behind_and_lists_none(converted, tmp_path):
    source = read_annotated_dataset(converted)
    plan = plan_missing(source, DatasetRecord(id=502, name="Less"), 50, seed=0)
    (folder,) = write_simulations(source, [plan], tmp_path / "raw", progress=False)
    assert not (folder / "annotators").exists()
    assert all(case.annotators == {} for case in annotation_of(folder).cases.values())
    assert all(case.annotators == {} for case in read_manifest(folder / "label_manifest.json").cases)
    said = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))["notes"]
    assert "the label maps of single annotators (2 cases of the source) are left behind" in said


def test_the_case_that_is_kept_of_two_keeps_its_annotators(converted):
    target = DatasetRecord(id=503, name="Once")
    folder, _ = drop_duplicates(converted, target, [("hospital_p1", "hospital_p2")], "first")
    assert looked_for_by_each(folder, "hospital_p1") == looked_for_by_each(converted, "hospital_p1")
    assert sorted(path.parent.name for path in folder.glob("annotators/*/*")) == ["anna", "ben", "carl"]
    assert {finding.kind for finding in verify_dataset(folder, progress=False).findings if finding.severity == FAULT} <= {
        "volume",
        "mismatch",
    }


def test_a_merged_case_keeps_the_annotators_of_the_first_and_says_so(converted):
    group = ("hospital_p1", "hospital_p2")
    folder, said = merge_duplicates(converted, DatasetRecord(id=504, name="One"), [group], {frozenset(group)})
    (case,) = read_manifest(folder / "label_manifest.json").cases
    assert sorted(case.annotators) == sorted(annotation_of(folder).cases["hospital_p1"].annotators) == ["anna", "ben", "carl"]
    assert "the label maps of single annotators of 'hospital_p2' are left behind" in case.notes
    assert any("are left behind" in line for line in said)


# --- two readers of 21 organs of head and neck, one file an organ


def head_neck_source(case: Path, readers: dict[str, Path], to: Path) -> dict[str, dict[str, np.ndarray]]:
    """Both readers' masks of a real scan, thinned in the plane, with an image made up around them, and a source file."""
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for reader, folder in readers.items():
        for file in sorted((folder / case.name / "segmentations").glob("*.nrrd")):
            mask = SimpleITK.ReadImage(str(file))[::4, ::4]
            path = to / "drawn" / reader / case.name / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(mask, str(path), useCompression=True)
            arrays.setdefault(reader, {})[file.stem] = SimpleITK.GetArrayViewFromImage(mask).transpose(2, 1, 0) != 0
    image = SimpleITK.GetImageFromArray(np.full(mask.GetSize()[::-1], 40, dtype=np.int16))
    image.CopyInformation(mask)
    (to / "scans").mkdir(exist_ok=True)
    SimpleITK.WriteImage(image, str(to / f"scans/{case.name}.nii.gz"))
    return arrays


def source_file_of(masks: dict[str, list[str]]) -> str:
    lines = ['images: "scans/{case}.nii.gz"', "modality: CT", "annotators:"]
    for reader, names in masks.items():
        lines += [f"  {reader}:", "    masks:"]
        lines += [f'      {name.lower().replace("-", "_")}: "drawn/{reader}/{{case}}/{name}.nrrd"' for name in names]
    return "\n".join(lines)


def test_two_real_readers_of_head_and_neck(real_data, tmp_path):
    root = real_data / "head_neck_two_readers/nrrds/test"
    if not root.is_dir():
        pytest.skip(f"no head and neck labels at {root}; set NNUNET_PARTIAL_DATA to a folder with head_neck_two_readers")
    readers = {name: root / name for name in ("oncologist", "radiographer")}
    truths = {case.name: head_neck_source(case, readers, tmp_path / "data") for case in sorted((root / "oncologist").iterdir())}
    names = {reader: sorted({name for arrays in truths.values() for name in arrays[reader]}) for reader in readers}
    (tmp_path / "data/hospital.yaml").write_text(source_file_of(names))
    folder = convert(tmp_path / "data")
    manifest, annotation = read_manifest(folder / "label_manifest.json"), annotation_of(folder)
    assert len(manifest.cases) == 2
    for case in manifest.cases:
        assert sorted(annotation.cases[case.identifier].annotators) == ["oncologist", "radiographer"]
        maps = {}
        for reader, arrays in truths[case.identifier.removeprefix("hospital_")].items():
            protocol = manifest.protocols[case.annotators[reader].protocol]
            assert protocol.annotated_classes == {name.lower().replace("-", "_") for name in arrays}
            file = nib.load(folder / f"annotators/{reader}/{case.identifier}.nii.gz")
            maps[reader] = voxels(folder / f"annotators/{reader}/{case.identifier}.nii.gz")
            assert "".join(nib.aff2axcodes(file.affine)) == "RAS"
            number = manifest.classes.index("mandible") + 1
            np.testing.assert_array_equal(maps[reader] == number, arrays["Mandible"][::-1, ::-1])  # LPS of the originals
        labels = voxels(folder / f"labelsTr/{case.identifier}.nii.gz")
        both = np.where(maps["oncologist"] == maps["radiographer"], maps["oncologist"], 0)
        np.testing.assert_array_equal(labels, both)  # they looked for the same organs, so the majority is what both drew
    faults = [finding for finding in verify_dataset(folder, progress=False).findings if finding.severity == FAULT]
    assert {finding.kind for finding in faults} <= {"constant image", "volume", "mismatch"}  # the image was made up


def test_pools_of_two_sources_keep_their_annotators_apart(tmp_path):
    write_readers(tmp_path / "one")
    write_readers(tmp_path / "two", text=MAPS.replace("annotated: [1, 2]", "annotated: [2, 3]"))
    sources = [{"source": f"{name}/hospital.yaml", "name": name} for name in ("one", "two")]
    pool = write_pool(tmp_path / "pool.yaml", sources, classes=CLASSES)
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    annotation = annotation_of(folder)
    looked_for = {key: annotation.protocols[case.annotators["ben"]].annotated_classes for key, case in annotation.cases.items()}
    assert looked_for["one_p1"] == {"liver", "spleen"}
    assert looked_for["two_p1"] == {"spleen", "pancreas"}
    assert {name.split("_")[0] for case in annotation.cases.values() for name in case.annotators.values()} == {"one", "two"}
