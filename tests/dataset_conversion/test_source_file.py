"""Source files: everything wrong with one is said at once, and nothing that is right."""

from pathlib import Path

import numpy as np
import pytest
from hospital import LABEL_MAPS, MASKS, POOL, convert, write_hospital
from native_sources import drawn, voxels, write_lits, write_pool

from nnunet_partial.dataset_conversion import ConversionError, load_pool
from nnunet_partial.dataset_conversion.label_plan import plan_labels
from nnunet_partial.dataset_conversion.listing import SourceLabel
from nnunet_partial.dataset_conversion.own_data.example import EXAMPLE
from nnunet_partial.dataset_conversion.own_data.own_source import name_faults, own_source
from nnunet_partial.labels import LabelSpace


def faults_of(root: Path, text: str, classes=POOL, **entries) -> str:
    (root / "hospital.yaml").write_text(text)
    pool = write_pool(root.parent / "pool.yaml", [{"source": f"{root.name}/hospital.yaml", **entries}], classes=classes)
    with pytest.raises(ConversionError) as caught:
        load_pool(pool)
    return str(caught.value)


def test_the_lines_of_the_example_that_are_switched_off_are_right_too(tmp_path):
    """Every entry of the example, its masks in place of its label maps."""
    lines, keep = [], True
    for line in EXAMPLE.splitlines():
        keep = keep and not line.startswith("# One label map")
        if line.startswith("# ... or "):
            keep = line.startswith("# ... or one binary mask")
        elif not line:
            keep = True
        elif keep and line.startswith(("# masks", "#   ", "# labels", "# missing")):
            lines.append(line[2:])
        elif keep and line.startswith(("# annotated", "# label_grid")):
            lines.append(line[2:].replace("[1, 3]", "[liver, lesion]"))
        elif keep:
            lines.append(line)
    (tmp_path / "e.yaml").write_text("\n".join(lines))
    source = own_source(tmp_path / "e.yaml", tmp_path)
    assert [label.inside for label in source.labels(tmp_path).values()] == [None, "liver_tumor"]
    assert source.label_grid.name == "HEADERS"


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


def test_every_source_file_in_the_documentation_is_right(tmp_path):
    page = (Path(__file__).parents[2] / "docs/own_data.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in page.split("```yaml")[1:]]
    for number, block in enumerate(block for block in blocks if "images:" in block):
        (tmp_path / f"{number}.yaml").write_text(block)
        assert own_source(tmp_path / f"{number}.yaml", tmp_path).labels(tmp_path)
    assert number == 3


def test_slips_of_the_pen():
    space = LabelSpace(classes=("adrenal_gland_right", "vertebrae_l1", "esophagus"))
    labels = [SourceLabel((name,)) for name in ("adrenal_gland_left", "vertebrae_l2", "oesophagus", "heart", "esophagus_tumor")]
    assert name_faults(labels, space) == ["class 'oesophagus' is not among the pool's classes (did you mean 'esophagus'?)"]
