"""What a run was made from: a rerun on something else is refused, with all differences and what to do."""

import json
import shutil

import pytest
import torch

from nnunet_partial.labels import Annotation
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.pseudo_labels.provenance import claim_round, claim_run, plan_of, refuse_orphans, refuse_other_plan
from nnunet_partial.pseudo_labels.request import RoundsRequest

ARGUMENTS = {
    "dataset": "Dataset701_Small",
    "configuration": "3d_fullres",
    "fold": 0,
    "trainer": "nnUNetTrainerAmbiguity",
    "plans": "nnUNetPlans",
    "name": "confidence",
    "epochs": 2,
    "initial_lr": 1e-3,
    "confidence_epochs": 2,
    "confidence_lr": 1e-3,
}


def request_of(**changes) -> RoundsRequest:
    return RoundsRequest(**{**ARGUMENTS, **changes})


@pytest.fixture
def made_from(small_dataset, tmp_path):
    folder = small_dataset / "nnUNet_preprocessed" / "Dataset701_Small"
    dataset_json, plans = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("dataset.json", "nnUNetPlans.json")
    )
    run = RunFiles(tmp_path / "results" / "model" / "fold_0", tmp_path / "preprocessed", "confidence")
    return run, dataset_json, plans, ["full_00", "liver_01"]


def claim(made_from, request=None, *, dataset_json=None, plans=None, cases=None):
    run, known_json, known_plans, known_cases = made_from
    annotation = Annotation.from_dataset_json(dataset_json or known_json)
    claim_run(run, request or request_of(), annotation, plans or known_plans, cases or known_cases)


class TestRequest:
    def test_fractions_grow_to_the_maximum(self):
        request = request_of(rounds=3, max_fraction=0.6)
        assert [request.fraction(t) for t in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.6])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"criterion": "all", "rounds": 3}, "criterion 'all' is one round"),
            ({"criterion": "all", "rounds": 1, "max_fraction": 0.5}, "labels every prediction"),
            ({"rounds": 1, "max_changed": 0.2}, "with a single round there is none"),
            ({"max_fraction": 0}, "max_fraction"),
            ({"max_fraction": 1.5}, "max_fraction"),
            ({"rounds": 0}, "rounds"),
            ({"name": "../elsewhere"}, "becomes a folder and a file name"),
            ({"confidence_widths": (64, 0)}, "numbers of channels"),
        ],
    )
    def test_refuses(self, changes, message):
        with pytest.raises(ValueError, match=message):
            request_of(**changes)


class TestClaimRun:
    def test_the_same_again_is_welcome(self, made_from):
        claim(made_from)
        before = made_from[0].description.read_bytes()
        claim(made_from)
        assert made_from[0].description.read_bytes() == before

    def test_length_of_training_is_no_part_of_a_plan(self, made_from):
        claim(made_from)
        longer = json.loads(json.dumps(made_from[2]))
        longer["partial"]["num_epochs"] = 77
        claim(made_from, plans=longer)

    def test_every_difference_is_named(self, made_from):
        claim(made_from)
        other_json = json.loads(json.dumps(made_from[1]))
        other_json["annotation"]["cases"]["liver_01"]["protocol"] = "full"
        other_plans = json.loads(json.dumps(made_from[2]))
        other_plans["configurations"]["3d_fullres"]["spacing"] = [1, 1, 1]
        with pytest.raises(ValueError, match="run 'confidence' was begun otherwise") as caught:
            claim(made_from, request_of(rounds=2), dataset_json=other_json, plans=other_plans, cases=["full_00"])
        said = str(caught.value)
        for part in ("rounds 3 -> 2", "the annotation in dataset.json", "the plans have changed", "training cases", "--name"):
            assert part in said

    def test_versions_are_recorded(self, made_from):
        claim(made_from)
        known = json.loads(made_from[0].description.read_text(encoding="utf-8"))
        assert set(known["versions"]) == {"nnunet_partial", "nnunetv2", "torch"}
        assert RoundsRequest.model_validate(known["arguments"]) == request_of()


class TestClaimRound:
    def test_a_parent_that_was_trained_again(self, made_from, tmp_path):
        run, parent = made_from[0], tmp_path / "checkpoint_final.pth"
        parent.write_bytes(b"weights")
        claim_round(run.round(1), 1, parent)
        claim_round(run.round(1), 1, parent)
        shutil.copy(parent, tmp_path / "copy.pth")
        claim_round(run.round(1), 1, tmp_path / "copy.pth")  # the same weights, wherever they lie
        parent.write_bytes(b"other weights")
        with pytest.raises(ValueError, match=r"round 1 was made from another network.*remove .*round_1"):
            claim_round(run.round(1), 1, parent)

    def test_a_missing_parent(self, made_from):
        run = made_from[0]
        run.round(2).results.mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"round 2 is there, but the network.*round_1.*checkpoint_final.pth"):
            refuse_orphans(run, 3)
        run.round(1).training.mkdir(parents=True)
        for number in (0, 1):
            run.checkpoint(number).write_bytes(b"weights")
        refuse_orphans(run, 3)


class TestOtherPlan:
    def test_a_network_of_other_plans(self, made_from, tmp_path):
        plans = made_from[2]
        torch.save({"init_args": {"plans": plans}}, tmp_path / "checkpoint.pth")
        refuse_other_plan(tmp_path / "checkpoint.pth", plans, "3d_fullres")
        other = json.loads(json.dumps(plans))
        other["configurations"]["3d_fullres"]["patch_size"] = [8, 8, 8]
        with pytest.raises(ValueError, match=r"trained by other plans \(patch_size differ\)"):
            refuse_other_plan(tmp_path / "checkpoint.pth", other, "3d_fullres")

    def test_inherited_configurations_are_followed(self, made_from):
        plans = json.loads(json.dumps(made_from[2]))
        plans["configurations"]["3d_small"] = {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]}
        found, base = plan_of(plans, "3d_small"), plan_of(plans, "3d_fullres")
        assert {key for key in base if found[key] != base[key]} == {"patch_size"}
