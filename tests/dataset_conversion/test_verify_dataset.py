"""Verification of a dataset as a whole: files, manifest and dataset.json against each other."""

import numpy as np
import pytest
from small_abdomen import edit_json, edit_labels, edit_record, swapped, verify, write_dataset

from nnunet_partial.dataset_conversion.verify import FAULT, REMARK
from nnunet_partial.labels import LabelError


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "Dataset500_Abdomen")


def test_scans_that_duplicates_recorded_are_no_contradiction(dataset):
    edit_json(dataset, "dataset.json", lambda content: content["annotation"]["cases"]["full_1"].update(scan="full_1"))
    assert verify(dataset).findings == ()


def test_a_case_nobody_annotated(dataset):
    """Conversion keeps images without labels where it is told to: nothing was looked for, and the label map is 0 everywhere."""
    for name in ("dataset.json", "label_manifest.json"):
        edit_json(dataset, name, lambda content: content.get("annotation", content)["protocols"]["kits"].update(labels={}))
    for key in ("kits_1", "kits_2"):
        edit_labels(dataset, np.zeros_like, key)
    report = verify(dataset)
    assert report.findings == ()
    assert report.coverage.sources == {"full": 2, "kits": 2}
    assert report.coverage.cells["kidney_left", "kits"].annotated == 0


def test_files_of_no_case_and_numbers(dataset):
    (dataset / "labelsTr/other_1.nii.gz").write_bytes(b"")
    (dataset / "imagesTr/._full_1_0000.nii.gz").write_bytes(b"")
    (dataset / "imagesTr/readme.txt").write_text("")
    report = verify(dataset)
    assert [(finding.severity, finding.kind) for finding in report.findings] == [
        (FAULT, "extra file"), (REMARK, "other files"), (FAULT, "extra file"), (FAULT, "numTraining")
    ]  # fmt: skip
    assert "dataset.json says 4 cases, labelsTr holds 5" in report.findings[-1].message


def test_a_link_that_leads_nowhere(dataset):
    image = dataset / "imagesTr/full_1_0000.nii.gz"
    image.rename(dataset / "moved.nii.gz")
    image.symlink_to(dataset / "original.nii.gz")
    (finding,) = verify(dataset).findings
    assert (finding.kind, finding.case) == ("missing file", "full_1")
    assert "original.nii.gz', which is not there" in finding.message


def test_without_manifest_the_rest_is_checked(dataset):
    (dataset / "label_manifest.json").unlink()
    edit_labels(dataset, lambda a: swapped(a, 3, 4), recount=False)
    report = verify(dataset)
    assert [finding.kind for finding in report.findings] == ["manifest", "anatomy"]
    assert "there is no label_manifest.json" in report.findings[0].message


def test_manifest_and_dataset_json_differ(dataset):
    def spoil(content):
        content["annotation"]["protocols"]["kits"]["labels"] = {"3": ["kidney_left"]}
        content["annotation"]["cases"]["kits_2"]["source"] = "full"
        del content["annotation"]["cases"]["kits_1"]

    edit_json(dataset, "dataset.json", spoil)
    said = [finding.message for finding in verify(dataset).findings if finding.kind == "manifest"]
    assert said == [
        "protocol 'kits' differs between label_manifest.json and dataset.json",
        "case 'kits_1' stands in label_manifest.json only",
        "case 'kits_2' differs between label_manifest.json and dataset.json",
    ]
    edit_json(dataset, "label_manifest.json", lambda content: content["classes"].reverse())
    assert any("dataset.json" in f.message or "label id" in f.message for f in verify(dataset).findings if f.kind == "manifest")
    (dataset / "label_manifest.json").write_text("{")
    assert "not a JSON file" in verify(dataset).findings[0].message


def test_a_manifest_without_counts_says_so(dataset):
    edit_record(dataset, "full_1", label_counts={})
    (finding,) = verify(dataset).findings
    assert (finding.severity, finding.message.split(" in ")[0]) == (REMARK, "1 cases have no label_counts")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda content: content.pop("annotation"), LabelError, "no 'annotation' block"),
        (lambda content: content.update(file_ending=".mha"), ValueError, "only .nii.gz and .nii can be verified"),
        (lambda content: content.pop("channel_names"), ValueError, "has no channel_names"),
        (lambda content: content.update(dataset={}), ValueError, "lists its files under 'dataset'"),
    ],
)
def test_what_cannot_be_checked_is_refused(dataset, change, error, words):
    edit_json(dataset, "dataset.json", change)
    with pytest.raises(error, match=words):
        verify(dataset)
