"""Who annotated what, counted by hand: table and picture."""

import pytest
from small_abdomen import CLASSES, verify, write_dataset

from nnunet_partial.dataset_conversion.verify import draw_coverage, report_text


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "Dataset500_Abdomen")


def test_cells(dataset):
    (dataset / "labelsTr/kits_2.nii.gz").unlink()
    coverage = verify(dataset).coverage
    gallbladder = coverage.cells["gallbladder", "full"]
    assert (gallbladder.annotated, gallbladder.present, gallbladder.absent, gallbladder.voxels) == (2, 1, 1, 75)
    kidneys = coverage.cells["kidney_left", "kits"]
    assert (kidneys.annotated, kidneys.present, kidneys.unread, kidneys.shares_id_with) == (2, 1, 1, ("kidney_right",))
    assert kidneys.voxels == 2 * 6 * 8 * 12
    assert coverage.cells["liver", "kits"].annotated == 0
    assert (coverage.annotated_in("liver"), coverage.annotated_in("kidney_right")) == (2, 4)


def test_table(dataset):
    lines = report_text(verify(dataset), max_examples=0).splitlines()
    rows = {line.split("  ")[0]: " ".join(line.split()) for line in lines}
    assert rows["liver"] == "liver 2: 14.1k - 2 of 4"
    assert rows["gallbladder"] == "gallbladder 2 (1 absent): 75 - 2 of 4"
    assert rows["kidney_left"] == "kidney_left 2: 1.15k U 2: 2.3k 4 of 4"


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_picture(dataset, tmp_path, ending):
    coverage = verify(dataset).coverage
    files = [tmp_path / f"{name}{ending}" for name in ("one", "two")]
    for file in files:
        draw_coverage(coverage, file, title="Dataset500_Abdomen")
    assert files[0].read_bytes() == files[1].read_bytes()
    if ending == ".svg":
        content = files[0].read_text(encoding="utf-8")
        assert content.count("<!-- 2 as one id -->") == 1  # two kidneys, one box
        assert all(f"<!-- {name} -->" in content for name in CLASSES)
    with pytest.raises(ValueError, match="must end in"):
        draw_coverage(coverage, tmp_path / "coverage.gif", title="")
