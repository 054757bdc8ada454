"""The manifest: written and read back, refused with every fault at once."""

import copy
import json

import pytest

from nnunet_partial.labels import LabelError, LabelManifest, read_manifest, write_manifest
from nnunet_partial.labels.manifest import protocols_in_use

VALID = {
    "dataset": {"id": 500, "name": "Abdomen"},
    "classes": ["liver", "spleen"],
    "protocols": {"lits": {"labels": {"1": ["liver"]}}},
    "sources": [{"name": "lits", "source": "lits", "path": "../lits", "licence": "as stated by nobody"}],
    "cases": [
        {
            "identifier": "lits_2",
            "source": "lits",
            "protocol": "lits",
            "image_files": ["volume-2.nii"],
            "label_files": ["segmentation-2.nii"],
            "label_counts": {"0": 10, "1": 2},
        }
    ],
}


@pytest.fixture
def manifest():
    return copy.deepcopy(VALID)


def faults_of(content, tmp_path):
    path = tmp_path / "label_manifest.json"
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError) as caught:
        read_manifest(path)
    return caught.value.faults


def test_written_and_read_back(manifest, tmp_path):
    path = tmp_path / "label_manifest.json"
    write_manifest(LabelManifest.model_validate(manifest), path)
    first = path.read_bytes()
    write_manifest(read_manifest(path), path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["label_manifest.json"]  # no temporary file stays


def test_all_faults_in_one_report(manifest, tmp_path):
    manifest["dataset"]["id"] = 5000
    manifest["classes"] = ["liver", "spleen"]
    manifest["protocols"]["other"] = {"labels": {"2": ["splen"]}}
    manifest["cases"][0].update(protocol="lit", source="kits", image_files=["/data/volume-2.nii"])
    manifest["cases"] += [manifest["cases"][0]]
    report = "\n".join(faults_of(manifest, tmp_path))
    for words in (
        "dataset.id",
        "did you mean 'spleen'",
        "did you mean 'lits'",
        "'kits' is not among",
        "must be relative",
        "listed twice",
    ):
        assert words in report


def test_absent_needs_to_have_been_looked_for(manifest, tmp_path):
    manifest["cases"][0]["absent"] = ["spleen"]
    (fault,) = faults_of(manifest, tmp_path)
    assert "cannot be absent" in fault


def test_unknown_field(manifest, tmp_path):
    manifest["cases"][0]["anotated"] = ["liver"]
    (fault,) = faults_of(manifest, tmp_path)
    assert "cases.0.anotated" in fault


def test_not_json(tmp_path):
    path = tmp_path / "label_manifest.json"
    path.write_text('{"dataset": ')
    with pytest.raises(LabelError, match="not a JSON file"):
        read_manifest(path)


def test_manifests_are_frozen(manifest):
    with pytest.raises(ValueError, match="frozen"):
        LabelManifest.model_validate(manifest).classes = ()


def test_the_part_training_needs(manifest):
    block = json.loads(json.dumps(LabelManifest.model_validate(manifest).annotation().as_json()))
    assert block == {
        "protocols": {"lits": {"labels": {"1": ["liver"]}}},
        "cases": {"lits_2": {"protocol": "lits", "source": "lits"}},
    }


def several_annotators(manifest):
    manifest["protocols"]["lits_2"] = {"labels": {"1": ["liver"], "2": ["spleen"]}}
    manifest["cases"][0]["annotators"] = {
        "anna": {"files": ["anna/2.nii"], "protocol": "lits"},
        "ben": {"files": [], "protocol": "lits_2"},
    }
    return manifest


def test_each_annotator_has_a_protocol(manifest):
    block = LabelManifest.model_validate(several_annotators(manifest)).annotation().as_json()
    assert block["cases"]["lits_2"]["annotators"] == {"anna": "lits", "ben": "lits_2"}
    assert sorted(block["protocols"]) == ["lits", "lits_2"]


def test_the_protocols_of_annotators_are_in_use(manifest):
    cases = LabelManifest.model_validate(several_annotators(manifest)).cases
    assert protocols_in_use(cases) == {"lits", "lits_2"}


def test_every_fault_of_an_annotator(manifest, tmp_path):
    annotators = several_annotators(manifest)["cases"][0]["annotators"]
    annotators["anna"]["protocol"] = "lits_3"
    annotators["ben"]["files"] = ["../ben.nii"]
    annotators["a b"] = {"files": [], "protocol": "lits"}
    report = "\n".join(faults_of(manifest, tmp_path))
    for words in ("annotator 'anna': protocol 'lits_3' does not exist", "did you mean 'lits_2'", "must be relative", "a b"):
        assert words in report
