"""Verification of several annotators: each map against its own protocol, and all of them against each other."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_abdomen import edit_json, edit_record, save, verify, write_dataset

from nnunet_partial.dataset_conversion.verify import FAULT, REMARK
from nnunet_partial.labels.manifest import AnnotatorRecord


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "Dataset500_Abdomen")


def edit_map(path: Path, change) -> None:
    image = nib.load(path)
    save(path, change(np.asarray(image.dataobj)).astype(np.uint8), image.affine)


def with_annotators(dataset: Path, cases: tuple[str, ...], protocols: dict[str, str]) -> None:
    """Give cases annotators whose maps are those of labelsTr."""
    who = {name: AnnotatorRecord(files=(), protocol=protocol) for name, protocol in protocols.items()}
    for case in cases:
        edit_record(dataset, case, annotators=who)
        for name in protocols:
            (dataset / "annotators" / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(dataset / f"labelsTr/{case}.nii.gz", dataset / f"annotators/{name}/{case}.nii.gz")

    def say(content: dict) -> None:
        for case in cases:
            content["annotation"]["cases"][case]["annotators"] = protocols

    edit_json(dataset, "dataset.json", say)


def annotator_findings_of(dataset: Path) -> list[tuple[str, str]]:
    return [(finding.severity, finding.message) for finding in verify(dataset).findings if finding.kind == "annotators"]


def test_the_label_maps_of_single_annotators(dataset):
    with_annotators(dataset, ("full_1",), {"one": "full", "two": "full"})
    edit_map(dataset / "annotators/two/full_1.nii.gz", lambda labels: np.where(np.indices(labels.shape)[2] < 18, labels, 0))
    assert verify(dataset).findings == ()
    save(dataset / "annotators/two/full_1.nii.gz", np.full((60, 50, 37), 9, dtype=np.uint8))
    sought = "though aorta, gallbladder, kidney_left, kidney_right, liver, spleen, stomach were looked for"
    assert [(finding.kind, finding.message.split(" (")[0]) for finding in verify(dataset).findings] == [
        ("label ids", "'two/full_1.nii.gz': label id 9"),
        ("empty label map", f"'two/full_1.nii.gz': the label map is empty, {sought}"),
        ("geometry", "'full_1_0000.nii.gz' has shape"),
    ]  # fmt: skip
    (dataset / "annotators/one/full_1.nii.gz").unlink()
    (missing,) = verify(dataset).findings
    assert (missing.kind, missing.message) == ("missing file", "'annotators/one/full_1.nii.gz' is not there")


def test_an_annotators_map_holds_ids_of_his_own_protocol(dataset):
    spleen = {"labels": {"2": ["spleen"]}}
    for name in ("dataset.json", "label_manifest.json"):
        edit_json(dataset, name, lambda content: content.get("annotation", content)["protocols"].update(spleen_only=spleen))
    with_annotators(dataset, ("full_1",), {"one": "full", "two": "spleen_only"})
    messages = [finding.message for finding in verify(dataset).findings if finding.kind == "unannotated"]
    assert messages
    assert all(message.startswith("'two/full_1.nii.gz': label id ") for message in messages)
    edit_map(dataset / "annotators/two/full_1.nii.gz", lambda labels: np.where(labels == 2, 2, 0))
    assert [finding for finding in verify(dataset).findings if finding.kind == "unannotated"] == []


def test_a_copied_folder(dataset):
    with_annotators(dataset, ("full_1", "full_2"), {"one": "full", "two": "full", "three": "full"})
    for case in ("full_1", "full_2"):
        edit_map(dataset / f"annotators/three/{case}.nii.gz", lambda labels: np.roll(labels, 1, axis=0))
    message = "source 'full': 'one' and 'two' drew the same voxels in every case they share (2): a copy?"
    assert annotator_findings_of(dataset) == [(FAULT, message)]
    edit_map(dataset / "annotators/two/full_1.nii.gz", lambda labels: np.roll(labels, 1, axis=1))
    assert annotator_findings_of(dataset) == []  # one case that differs is enough
    edit_map(dataset / "annotators/two/full_1.nii.gz", lambda labels: labels * 0)
    ((severity, message),) = annotator_findings_of(dataset)  # an empty map says nothing about copies, and one case not much
    assert (severity, message.split(" drew")[0]) == (REMARK, "source 'full': 'one' and 'two'")


def test_an_annotator_who_never_meets_another(dataset):
    with_annotators(dataset, ("full_1", "full_2"), {"one": "full", "two": "full", "three": "full"})
    for case in ("full_1", "full_2"):
        edit_map(dataset / f"annotators/two/{case}.nii.gz", lambda labels: np.roll(labels, 1, axis=0))
        edit_map(dataset / f"annotators/three/{case}.nii.gz", lambda labels: np.where(labels > 0, 8 - labels, 0) % 8)
        edit_map(dataset / f"annotators/three/{case}.nii.gz", lambda labels: np.where(labels == 4, 0, labels))
    reasons = "other ids, a flip, or maps of other cases?"
    assert annotator_findings_of(dataset) == [
        (FAULT, f"source 'full': 'three' drew no voxel as any other annotator did (2 cases): {reasons}")
    ]
    assert verify(dataset).num_cached == len(verify(dataset).sources)  # known from the first run
    assert len(annotator_findings_of(dataset)) == 1


def test_a_map_of_nobody(dataset):
    with_annotators(dataset, ("full_1",), {"one": "full", "two": "full"})
    shutil.copyfile(dataset / "annotators/one/full_1.nii.gz", dataset / "annotators/one/full_2.nii.gz")
    messages = [finding.message for finding in verify(dataset).findings if finding.kind == "other files"]
    assert messages == ["'annotators/one/full_2.nii.gz' is of no annotator that dataset.json names for its case"]
