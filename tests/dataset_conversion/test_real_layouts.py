"""Real CT in five native layouts: every label map equals the truth, every image keeps its intensities."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from native_sources import CLASSES, voxels, write_pool
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_partial.dataset_conversion import ConvertOptions, convert_pool
from nnunet_partial.dataset_conversion.sources.btcv import ORGANS
from nnunet_partial.labels import LabelManifest, read_manifest

NUM_CASES = 2
TRUTH_PREFIX = {"tcia_pancreas": "tcia", "msd_spleen": "spleen"}


@pytest.fixture(scope="module")
def layouts(real_data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("layouts")
    script = real_data.parent / "tools" / "native_layouts.py"
    if not script.is_file():
        pytest.skip(f"{script} is missing")
    subprocess.run([sys.executable, script, real_data / "btcv", out, "--per-source", str(NUM_CASES)], check=True)
    return out


@pytest.fixture(scope="module")
def converted(layouts, tmp_path_factory) -> Path:
    sources = [
        {"source": "btcv", "path": "btcv"},
        {"source": "lits", "path": "lits", "tumor": "merge"},
        {"source": "tcia_pancreas", "path": "tcia"},
        {"source": "msd", "path": "Task09_Spleen"},
        {"source": "kits19", "path": "kits19"},
    ]
    return convert_pool(
        write_pool(layouts / "abdomen.yaml", sources), tmp_path_factory.mktemp("raw"), ConvertOptions(2, progress=False)
    )


@pytest.fixture(scope="module")
def manifest(converted) -> LabelManifest:
    return read_manifest(converted / "label_manifest.json")


def in_ras(path: Path) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(path))


def test_every_label_map_equals_the_truth(converted, manifest, layouts):
    assert len(manifest.cases) == 5 * NUM_CASES
    for case in manifest.cases:
        prefix, number = case.identifier.rsplit("_", 1)
        truth = in_ras(layouts / "truth" / f"{TRUTH_PREFIX.get(prefix, prefix)}_{number}.nii.gz")
        expected = np.zeros(truth.shape, dtype=np.uint8)
        for ours, (name,) in manifest.protocols[case.protocol].labels.items():
            expected[np.asarray(truth.dataobj) == ORGANS.index(name) + 1] = ours
        labels = in_ras(converted / f"labelsTr/{case.identifier}.nii.gz")
        np.testing.assert_allclose(labels.affine, truth.affine, atol=1e-3)
        np.testing.assert_array_equal(np.asarray(labels.dataobj), expected, err_msg=case.identifier)
        assert expected.any()


def test_every_image_keeps_its_intensities(converted, manifest, real_data):
    """The layouts deal the scans out in turn: the n-th case of the i-th source is scan 5 n + i."""
    originals = sorted((real_data / "btcv/img").glob("img*.nii.gz"))
    # the Decathlon's cases are numbered 2, 10 in the order of the deal, LiTS 2, 10: the manifest's numeric order is the same
    for i, source in enumerate(("btcv", "lits", "tcia_pancreas", "msd", "kits19")):
        for n, case in enumerate(case for case in manifest.cases if case.source == source):
            image = nib.load(converted / f"imagesTr/{case.identifier}_0000.nii.gz")
            original = in_ras(originals[5 * n + i])
            np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(original.dataobj), err_msg=case.identifier)
            np.testing.assert_allclose(image.affine, original.affine, atol=1e-3)
            assert image.get_data_dtype() == np.int16


def test_nothing_is_said_against_the_anatomy(manifest):
    assert [case.notes for case in manifest.cases if case.notes] == []


def test_nnunet_finds_the_dataset_whole(converted, manifest, capsys):
    verify_dataset_integrity(str(converted), num_processes=1)
    assert "Warning" not in capsys.readouterr().out
    assert set(CLASSES) == set(manifest.space.classes)


def test_decathlon_hippocampus(real_data, tmp_path):
    task = tmp_path / "Task04_Hippocampus"
    for kind in ("imagesTr", "labelsTr"):
        (task / kind).mkdir(parents=True)
        for path in sorted((real_data / "Task04_Hippocampus" / kind).glob("hippocampus_*.nii.gz"))[:5]:
            (task / kind / path.name).write_bytes(path.read_bytes())
    (task / "dataset.json").write_bytes((real_data / "Task04_Hippocampus/dataset.json").read_bytes())
    pool = write_pool(
        tmp_path / "pool.yaml", [{"source": "msd", "path": task.name}], classes=["hippocampus_posterior", "hippocampus_anterior"]
    )
    folder = convert_pool(pool, tmp_path / "raw", ConvertOptions(progress=False))
    for case in read_manifest(folder / "label_manifest.json").cases:
        original = np.asarray(in_ras(task / case.label_files[0]).dataobj)
        labels = voxels(folder / f"labelsTr/{case.identifier}.nii.gz")
        np.testing.assert_array_equal(labels, np.array([0, 2, 1])[original.astype(int)])
        assert (folder / f"imagesTr/{case.identifier}_0000.nii.gz").samefile(task / case.image_files[0])
