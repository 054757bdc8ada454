"""Own data by a source file: what it says is what comes out, and everything wrong with it is said at once."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from native_sources import SHAPE, abdomen, drawn, save, voxels, write_lits, write_pool, write_series

from nnunet_partial.cli import main
from nnunet_partial.dataset_conversion import ConversionError, ConvertOptions, convert_pool, describe_pool, load_pool
from nnunet_partial.dataset_conversion.example_source_file import EXAMPLE
from nnunet_partial.dataset_conversion.journal import reader_name
from nnunet_partial.dataset_conversion.label_plan import own_classes, plan_labels
from nnunet_partial.dataset_conversion.own_data import own_source
from nnunet_partial.labels import LabelSpace, read_manifest

POOL = ["liver", "spleen", "kidney_left", "kidney_right"]
LABEL_MAPS = """
images: "{case}/ct.nii.gz"
label_maps: "{case}/labels.nii.gz"
labels: {1: liver, 2: [kidney_left, kidney_right]}
"""
MASKS = """
name: Munich
licence: ours
images: "{case}/ct.nii.gz"
masks: {liver: "{case}/masks/liver.nii.gz", milz: "{case}/masks/spleen.nii.gz"}
labels: {milz: spleen}
"""


def write_hospital(root: Path, cases=("p2", "p10"), text: str = LABEL_MAPS) -> Path:
    for number, case in enumerate(cases):
        save(abdomen(number), root / case / "ct.nii.gz", "LPS")
        save(drawn({"liver": 1, "kidney_left": 2, "kidney_right": 2}), root / case / "labels.nii.gz", "LPS")
        for organ in ("liver", "spleen"):
            save(drawn({organ: 1}), root / case / f"masks/{organ}.nii.gz", "LPS")
    (root / "hospital.yaml").write_text(text)
    return root


def convert(root: Path, classes=None, num_processes: int = 1, **entries) -> Path:
    """A pool of this source alone, by default of its own classes."""
    classes = classes or own_classes(own_source(root / "hospital.yaml", root).labels(root))
    pool = write_pool(root.parent / "pool.yaml", [{"source": f"{root.name}/hospital.yaml", **entries}], classes=classes)
    return convert_pool(pool, root.parent / "raw", ConvertOptions(num_processes, progress=False))


def faults_of(root: Path, text: str, classes=POOL, **entries) -> str:
    (root / "hospital.yaml").write_text(text)
    pool = write_pool(root.parent / "pool.yaml", [{"source": f"{root.name}/hospital.yaml", **entries}], classes=classes)
    with pytest.raises(ConversionError) as caught:
        load_pool(pool)
    return str(caught.value)


def test_label_maps_with_a_union(tmp_path):
    folder = convert(write_hospital(tmp_path / "data"), num_processes=2)
    manifest = read_manifest(folder / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["hospital_p2", "hospital_p10"]
    assert manifest.protocols["hospital"].labels == {1: ("liver",), 2: ("kidney_left", "kidney_right")}
    assert (manifest.sources[0].source, manifest.sources[0].path) == ("data/hospital.yaml", "data")
    assert manifest.sources[0].licence == "not stated, as stated by hospital.yaml"
    np.testing.assert_array_equal(voxels(folder / "imagesTr/hospital_p10_0000.nii.gz"), abdomen(1))
    expected = drawn({"liver": 1, "kidney_left": 2, "kidney_right": 2})
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p10.nii.gz"), expected)


def test_masks_named_in_another_language(tmp_path):
    root = write_hospital(tmp_path / "data", text=MASKS)
    (root / "p10/masks/spleen.nii.gz").unlink()
    folder = convert(root, num_processes=2)
    manifest = read_manifest(folder / "label_manifest.json")
    annotated = {case.identifier: manifest.protocols[case.protocol].annotated_classes for case in manifest.cases}
    assert annotated == {"Munich_p2": {"liver", "spleen"}, "Munich_p10": {"liver"}}
    np.testing.assert_array_equal(voxels(folder / "labelsTr/Munich_p2.nii.gz"), drawn({"liver": 1, "spleen": 2}))


def test_missing_masks_can_say_absent(tmp_path):
    root = write_hospital(tmp_path / "data", text=MASKS + "missing_mask: absent\n")
    (root / "p10/masks/spleen.nii.gz").unlink()
    cases = read_manifest(convert(root) / "label_manifest.json").cases
    assert {case.identifier: case.absent for case in cases} == {"Munich_p2": (), "Munich_p10": ("spleen",)}


def test_tumors_are_painted_over_their_organ_whatever_comes_first(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("p1",))
    lesion = np.zeros(SHAPE, dtype=np.uint8)
    lesion[16:18, 10:12, 9:11] = 1
    save(lesion, root / "p1/masks/lesion.nii.gz", "LPS")
    (root / "hospital.yaml").write_text("""
images: "{case}/ct.nii.gz"
masks: {lesion: "{case}/masks/lesion.nii.gz", liver: "{case}/masks/liver.nii.gz"}
labels: {lesion: {class: liver_tumor, inside: liver}}
""")
    folder = convert(root, classes=["liver", "liver_tumor"], tumor="separate")
    labels = voxels(folder / "labelsTr/hospital_p1.nii.gz")
    np.testing.assert_array_equal(labels == 2, lesion == 1)
    np.testing.assert_array_equal(labels > 0, drawn({"liver": 1}) == 1)
    assert read_manifest(folder / "label_manifest.json").cases[0].notes == ()


def test_only_some_labels_were_looked_for(tmp_path):
    folder = convert(write_hospital(tmp_path / "data", text=LABEL_MAPS + "annotated: [1]\n"))
    manifest = read_manifest(folder / "label_manifest.json")
    assert manifest.protocols[manifest.cases[0].protocol].labels == {1: ("liver",)}


def test_dicom_folders_nrrd_and_names_with_blanks(tmp_path):
    root = tmp_path / "data"
    write_series(abdomen(5), root / "scans/case 7/dicom", 1)
    path = save(drawn({"liver": 1}), root / "drawn/case 7 reader 1.nii.gz", "LPS")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
    (root / "hospital.yaml").write_text("""
images: "scans/{case}/dicom"
label_maps: "drawn/{case} reader *.nrrd"
labels: {1: liver}
label_grid: arrays
""")
    folder = convert(root, classes=["liver"])
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_case_7.nii.gz"), drawn({"liver": 1}))
    np.testing.assert_array_equal(voxels(folder / "imagesTr/hospital_case_7_0000.nii.gz"), abdomen(5))


def test_it_pools_with_public_sources_and_lies_elsewhere_if_the_pool_says_so(tmp_path, monkeypatch):
    write_hospital(tmp_path / "archive")
    (tmp_path / "archive/hospital.yaml").rename(tmp_path / "ours.yml")
    write_lits(tmp_path / "lits")
    monkeypatch.setenv("TEST_ARCHIVE", str(tmp_path / "archive"))
    sources = [{"source": "ours.yml", "path": "$TEST_ARCHIVE", "name": "ours"}, {"source": "lits", "path": "lits"}]
    said = describe_pool(write_pool(tmp_path / "pool.yaml", sources, classes=POOL[:1] + POOL[2:]), tmp_path / "raw")
    assert "ours: 2 cases" in said
    assert "lits: 2 cases" in said


def test_short_form_and_example(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "--example-source"])
    assert stopped.value.code == 0
    example = capsys.readouterr().out
    assert example == EXAMPLE
    root = write_hospital(tmp_path / "data", text=example)
    assert main(["convert", str(root / "hospital.yaml"), "-d", "504", "-np", "1"]) == 0
    manifest = read_manifest(tmp_path / "raw/Dataset504_Hospital/label_manifest.json")
    assert manifest.classes == ("liver", "kidney_left", "kidney_right")
    assert main(["convert", str(root / "hospital.yaml")]) == 1
    assert "this is a source file; name it in a pool" in capsys.readouterr().err


def test_the_lines_of_the_example_that_are_switched_off_are_right_too(tmp_path):
    """Every entry of the example, its masks in place of its label maps."""
    lines, keep = [], True
    for line in EXAMPLE.splitlines():
        keep = keep and not line.startswith("# One label map")
        if line.startswith("# ... or one binary mask"):
            keep = True
        elif keep and line.startswith(("# masks", "#   ", "# labels", "# missing")):
            lines.append(line[2:])
        elif keep and line.startswith(("# annotated", "# label_grid")):
            lines.append(line[2:].replace("[1, 3]", "[liver, lesion]"))
        elif keep:
            lines.append(line)
    (tmp_path / "e.yaml").write_text("\n".join(lines))
    source = own_source(tmp_path / "e.yaml", tmp_path)
    assert [label.tumor for label in source.labels(tmp_path).values()] == [None, "liver_tumor"]
    assert source.label_grid.name == "HEADERS"


def test_readers_travel_and_their_parameters_name_them(tmp_path):
    root = write_hospital(tmp_path / "data", text=MASKS)
    reader = own_source(root / "hospital.yaml", root).read_labels
    assert pickle.loads(pickle.dumps(reader)) == reader
    (root / "hospital.yaml").write_text(MASKS.replace("/spleen.nii", "/milz.nii"))
    other = own_source(root / "hospital.yaml", root).read_labels
    assert reader_name(reader) == reader_name(pickle.loads(pickle.dumps(reader))) != reader_name(other)
    assert reader_name(convert_pool) == "nnunet_partial.dataset_conversion.convert.convert_pool"


def test_changed_file_converts_again(tmp_path):
    root = write_hospital(tmp_path / "data")
    folder = convert(root, classes=POOL[:1] + POOL[2:])
    (root / "hospital.yaml").write_text(LABEL_MAPS.replace("1: liver, 2:", "2: liver, 1:"))
    convert(root, classes=POOL[:1] + POOL[2:])
    expected = drawn({"liver": 2, "kidney_left": 1, "kidney_right": 1})
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p2.nii.gz"), expected)


def test_all_faults_of_a_file_at_once(tmp_path):
    text = faults_of(
        write_hospital(tmp_path / "data"),
        """
name: Our Hospital
licens: ours
modality: ct
images: "ct.nii.gz"
label_maps: "../{case}.nii.gz"
masks: {liver: "{case}/seg.dcm"}
labels: {1: Left Kidney, 2: {klass: liver}, spleen: spleen}
missing_mask: maybe
label_grid: array
""",
    )
    for part in (
        "name: String should match pattern",
        "licens: Extra inputs are not permitted (did you mean 'licence'?)",
        "labels.2.klass: Extra inputs are not permitted (did you mean 'class'?)",
        "missing_mask: Input should be 'unannotated' or 'absent'",
        "label_grid: Input should be 'headers', 'arrays' or 'arrays_flipped_y'",
        "images: 'ct.nii.gz' holds no {case}",
        "label_maps: '../{case}.nii.gz' must be relative to the source's path, and below it",
        "masks.liver: masks are NIfTI, NRRD or MetaImage files; a DICOM-SEG file",
        "give either label_maps (one file a case) or masks (one file a class), and not both",
        "modality: write CT, not ct",
    ):
        assert part in text
    assert text.count("'hospital.yaml': ") == 11


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LABEL_MAPS.replace("1: liver", "1: Left Kidney"), "class 'Left Kidney': use lower-case letters"),
        (LABEL_MAPS.replace("1: liver", "0: liver"), "labels.0: ids of labels begin at 1"),
        (LABEL_MAPS.replace("1: liver", "liver: 1"), "labels.liver"),
        (LABEL_MAPS.replace("1: liver", "Leber: liver"), "labels.Leber: label maps hold ids; write it as id: class"),
        (
            LABEL_MAPS.replace("1: liver", "1: kidney_left"),
            "class 'kidney_left' is named in two ways (kidney_left and kidney_left or",
        ),
        (
            LABEL_MAPS.replace("1: liver", "1: {class: liver_tumor, inside: liver}"),
            "inside liver, but nothing else is labelled so",
        ),
        (LABEL_MAPS.replace("1: liver", "1: liver, 3: liver_tumor"), "say where it lies: {class: liver_tumor, inside: liver}"),
        (LABEL_MAPS.replace("1: liver", "1: liver, 3: {class: [a, b], inside: liver}"), "a tumor inside an organ is one class"),
        (LABEL_MAPS + "annotated: [1, 4]\n", "annotated: '4' is not among 1, 2"),
        (LABEL_MAPS + "missing_mask: absent\n", "missing_mask: belongs to masks"),
        (LABEL_MAPS.replace("labels.nii.gz", "seg.dcm") + "label_grid: arrays\n", "leave label_grid out"),
        (LABEL_MAPS.replace("labels.nii.gz", "seg.dcm").replace("1:", "Leber:"), "either all by number or all by label"),
        (LABEL_MAPS.replace("label_maps:", "#"), "give either label_maps (one file a case) or masks"),
        (LABEL_MAPS.replace("labels: {", "annotated: [1]\n#"), "labels: say what the ids of the label maps stand for"),
        (MASKS.replace("{milz:", "{miltz:"), "labels.miltz: there is no mask 'miltz' (did you mean 'milz'?)"),
        (LABEL_MAPS.replace("images:", "image:"), "images: Field required"),
        ("- a", "is no source file; `nnunet_partial convert --example-source` prints one"),
        ("{", "is not a YAML file"),
        ("sources: []", "is a pool file, not a source file"),
        (LABEL_MAPS.replace("1: liver", "1: livr"), "class 'livr' is not among the pool's classes (did you mean 'liver'?)"),
        (LABEL_MAPS.replace("{case}/ct", "{case}/CT"), "images: '{case}/CT.nii.gz' matches nothing below"),
        (MASKS.replace("masks/liver", "masks/leber"), "masks.liver: '{case}/masks/leber.nii.gz' matches nothing below"),
    ],
)
def test_faults_of_a_file(tmp_path, text, message):
    assert message in faults_of(write_hospital(tmp_path / "data"), text)


def test_missing_source_file(tmp_path):
    pool = write_pool(tmp_path / "pool.yaml", [{"source": "nowhere.yaml"}])
    with pytest.raises(ConversionError, match=r"source 'nowhere': there is no source file '.*nowhere.yaml'"):
        load_pool(pool)


def test_faults_of_files_on_disk_are_listed_with_those_of_patterns(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("p1", "p2", "p3"))
    (root / "p2/ct.nii.gz").unlink()
    text = faults_of(root, LABEL_MAPS.replace("images: ", "missing_mask: absent\nimages: "))
    assert "missing_mask" in text
    masks = MASKS.replace("masks/spleen", "masks/pancreas").replace("{case}/masks/liver", "{case}/masks/*")
    text = faults_of(root, masks)
    assert "masks.milz: '{case}/masks/pancreas.nii.gz' matches nothing below" in text
    assert "which holds hospital.yaml, p1, p2, p3" in text
    assert "case 'p2' has a label but no image ('{case}/ct.nii.gz')" in text
    assert "fits 2 paths of case 'p1' (p1/masks/liver.nii.gz, p1/masks/spleen.nii.gz); keep one" in text


def test_a_label_without_an_image_and_one_file_for_two_masks_are_refused(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("p1", "p2"))
    (root / "p2/ct.nii.gz").unlink()
    with pytest.raises(ConversionError, match="case 'p2' has a label but no image"):
        convert(root)
    (root / "hospital.yaml").write_text(MASKS.replace("masks/spleen", "masks/liver"))
    with pytest.raises(ConversionError, match=r"p1/masks/liver.nii.gz' is both liver and milz"):
        convert(root)


def test_images_without_any_label_are_unlabelled(tmp_path):
    root = write_hospital(tmp_path / "data", cases=("p1", "p2"), text=MASKS + "missing_mask: absent\n")
    for path in (root / "p2/masks").iterdir():
        path.unlink()
    manifest = read_manifest(convert(root) / "label_manifest.json")
    assert [(skip.item, skip.reason) for skip in manifest.skipped] == [("p2/ct.nii.gz", "no label belongs to it")]


def test_another_side_or_number_is_no_slip_of_the_pen(tmp_path):
    root = write_hospital(tmp_path / "data", text=LABEL_MAPS.replace("2: [kidney_left, kidney_right]", "2: kidney_left"))
    plan, faults = plan_labels(own_source(root / "hospital.yaml", root).labels(root), LabelSpace(classes=("liver",)))
    assert (plan.mapping, faults) == ({1: 1, 2: 0}, [])
    folder = convert(root, classes=["liver"])
    np.testing.assert_array_equal(voxels(folder / "labelsTr/hospital_p2.nii.gz"), drawn({"liver": 1}))
    write_lits(tmp_path / "lits")
    (root / "other.yaml").write_text(LABEL_MAPS.replace("[kidney_left, kidney_right]", "kidney_right").replace("1: liver, ", ""))
    sources = [{"source": "data/hospital.yaml"}, {"source": "data/other.yaml", "path": "data"}]
    pool = write_pool(tmp_path / "two.yaml", sources, classes=["liver", "kidney_left", "kidney_right"])
    with pytest.raises(ConversionError, match="hold the same scans") as caught:
        load_pool(pool)
    assert "did you mean" not in str(caught.value)


def test_series_and_label_side_by_side_in_the_folder_of_the_case(tmp_path):
    root = tmp_path / "data"
    write_series(abdomen(5), root / "p1", 1)
    save(drawn({"liver": 1}), root / "p1/labels.nii.gz", "LPS")
    (root / "hospital.yaml").write_text(LABEL_MAPS.replace("{case}/ct.nii.gz", "{case}") + "label_grid: arrays\n")
    manifest = read_manifest(convert(root) / "label_manifest.json")
    assert [case.identifier for case in manifest.cases] == ["hospital_p1"]
    assert [skip.item for skip in manifest.skipped] == ["hospital.yaml"]
    assert manifest.skipped[0].reason == "no image: neither a folder nor a file in .nii.gz, .nii, .nrrd, .mha"
