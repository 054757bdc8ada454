"""The votes of several annotators beside preprocessed cases."""

import json
import pickle
import shutil

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2
from phantom_dataset import set_nnunet_folders
from several_annotators import PROTOCOL_OF, drawn_by

from nnunet_partial.planners.annotators import vote_locations
from nnunet_partial.planners.preprocess import preprocess_configuration
from nnunet_partial.targets import Votes, encode_votes
from nnunet_partial.targets.votes import VOTES_PARTS
from nnunet_partial.training.arrays import open_array

NAME, PLANS = "Dataset702_Readers", "nnUNetPlans"


@pytest.fixture
def folders(annotators_dataset, tmp_path, monkeypatch):
    """A copy: raw dataset, preprocessed dataset, votes."""
    root = set_nnunet_folders(tmp_path, monkeypatch)
    for part in ("nnUNet_raw", "nnUNet_preprocessed"):
        shutil.copytree(annotators_dataset / part, root / part, dirs_exist_ok=True)
    preprocessed = root / "nnUNet_preprocessed" / NAME
    return root / "nnUNet_raw" / NAME, preprocessed, preprocessed / f"{PLANS}_3d_fullres_votes"


def run(raw, preprocessed):
    preprocess_configuration(raw, preprocessed, PLANS, "3d_fullres")


class TestVotes:
    def test_lie_beside_the_cases_that_several_annotators_drew(self, folders):
        votes = folders[2]
        assert {path.name for path in votes.iterdir()} == {f"full_0{n}{part}" for n in (0, 3, 6) for part in VOTES_PARTS}
        assert infer_dataset_class(str(votes.with_name(f"{PLANS}_3d_fullres"))) is nnUNetDatasetBlosc2

    def test_are_what_the_annotators_drew(self, folders):
        """5 mm voxels stay 5 mm, so that nothing is resampled: the votes are the raw maps, in nnU-Net's axes."""
        raw, _, folder = folders
        labels = open_array(folder / "full_03_seg.b2nd")[:][0]
        votes = Votes.read(folder / "full_03.json")
        assert votes.protocols == ("full", "full", "liver")
        truth = np.asarray(nib.load(raw / "labelsTr" / "full_03.nii.gz").dataobj)
        expected, of_votes = encode_votes([drawn_by(name, truth).T for name in PROTOCOL_OF], list(PROTOCOL_OF.values()), 4)
        assert (votes.ballots[labels] == of_votes.ballots[expected]).all()
        assert len(np.unique(labels)) > 4

    def test_resampled_annotator_by_annotator(self, folders):
        """On another grid each annotator's map is what nnU-Net would have made of it, and no id of votes was interpolated."""
        raw, preprocessed, _ = folders
        plans_file = preprocessed / f"{PLANS}.json"
        plans = json.loads(plans_file.read_text(encoding="utf-8"))
        plans["configurations"]["3d_fullres"]["spacing"] = [7.0, 6.0, 5.0]
        plans_file.write_text(json.dumps(plans))
        for name in PROTOCOL_OF:
            other = raw.with_name(f"Dataset703_{name}")
            shutil.copytree(raw, other)
            shutil.copytree(raw / "annotators" / name, other / "labelsTr", dirs_exist_ok=True)
            shutil.copytree(preprocessed, preprocessed.with_name(other.name), ignore=shutil.ignore_patterns("*_3d_fullres*"))
            run(other, preprocessed.with_name(other.name))
        run(raw, preprocessed)
        folder = preprocessed / f"{PLANS}_3d_fullres_votes"
        labels = open_array(folder / "full_06_seg.b2nd")[:][0]
        drawn = [
            open_array(preprocessed.with_name(f"Dataset703_{name}") / f"{PLANS}_3d_fullres" / "full_06_seg.b2nd")[:][0]
            for name in PROTOCOL_OF
        ]
        assert labels.shape != (24, 24, 24)
        ballots = Votes.read(folder / "full_06.json").ballots[labels]
        assert (ballots == np.stack([np.minimum(*drawn[:2]), np.maximum(*drawn[:2]), drawn[2]], -1)).all()

    def test_patches_are_drawn_where_anybody_voted(self, folders):
        labels, votes = encode_votes([np.array([[[0, 1, 2]]]), np.array([[[1, 1, 0]]])], ["full"] * 2, 4)
        found = vote_locations(labels, votes, 4)
        assert {c: sorted(map(tuple, found[c])) for c in found} == {1: [(0, 0, 0, 0), (0, 0, 0, 1)], 2: [(0, 0, 0, 2)], 3: []}
        _, _, folder = folders
        properties = pickle.loads((folder / "full_00.pkl").read_bytes())
        assert {len(place) for place in properties["class_locations"][1]} == {4}
        assert properties["spacing"] == [5.0, 5.0, 5.0]

    def test_a_rerun_does_only_what_is_missing_or_changed(self, folders):
        raw, preprocessed, folder = folders
        run(raw, preprocessed)  # the copied files have new times
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        (folder / "full_00.pkl").unlink()  # written last: this case was not finished
        changed = raw / "annotators" / "ben" / "full_03.nii.gz"
        shutil.copy(raw / "annotators" / "ben" / "full_06.nii.gz", changed)
        run(raw, preprocessed)
        after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert set(after) == set(before)
        assert {name[:7] for name in after if after[name] != before[name]} == {"full_00", "full_03"}

    def test_another_protocol_makes_the_votes_again(self, folders):
        raw, preprocessed, folder = folders
        run(raw, preprocessed)
        before = (folder / "full_00.pkl").stat().st_mtime_ns
        content = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
        content["annotation"]["cases"]["full_00"]["annotators"]["ben"] = "liver"
        (raw / "dataset.json").write_text(json.dumps(content))
        run(raw, preprocessed)
        assert (folder / "full_00.pkl").stat().st_mtime_ns != before
        assert Votes.read(folder / "full_00.json").protocols == ("full", "liver", "liver")

    def test_all_missing_maps_are_named(self, folders):
        raw, preprocessed, _ = folders
        for key in ("full_00", "full_03"):
            (raw / "annotators" / "ben" / f"{key}.nii.gz").unlink()
        with pytest.raises(FileNotFoundError, match=r"2 label maps of single annotators are missing(.|\n)*full_00(.|\n)*full_03"):
            run(raw, preprocessed)

    def test_a_map_on_another_grid_is_refused(self, folders):
        raw, preprocessed, _ = folders
        small = nib.Nifti1Image(np.zeros((24, 24, 20), dtype=np.uint8), np.diag([5.0, 5, 5, 1]))
        nib.save(small, raw / "annotators" / "ben" / "full_03.nii.gz")
        with pytest.raises(RuntimeError, match=r"case 'full_03': ValueError: .*ben.* has shape \(20, 24, 24\)"):
            run(raw, preprocessed)
