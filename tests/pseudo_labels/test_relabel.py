"""One case relabelled by a network that anyone can follow: it knows tissues by their intensity."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from scipy.special import expit
from torch import nn

from nnunet_partial.labels import Annotation
from nnunet_partial.losses.log_odds import binary_log_odds, softmax_log_odds
from nnunet_partial.pseudo_labels.criteria import Ranking
from nnunet_partial.pseudo_labels.files import RunFiles
from nnunet_partial.pseudo_labels.relabel import Relabeller, _predicted, class_locations, unannotated_ids
from nnunet_partial.pseudo_labels.sliding_window import SlidingWindow
from nnunet_partial.targets.confident_labels import confident_ids
from nnunet_partial.training.arrays import open_array

PATCH = (16, 16, 16)
KIDNEY_CASE, LIVER_CASE, FULL_CASE = "kidney_02", "liver_01", "full_00"


class ByIntensity(nn.Module):
    """Logit of class n: minus the squared distance of the normalised intensity from the class's mean, times its sharpness."""

    def __init__(self, means, sharpness=1.0):
        super().__init__()
        self.register_buffer("means", torch.tensor(means).view(1, -1, 1, 1, 1))
        self.sharpness = sharpness

    def forward(self, image):
        return -self.sharpness * (image - self.means).square()


class Mean(nn.Module):
    """A confidence that has nothing to do with the segmentation: the intensity itself, for every class."""

    def forward(self, image):
        return image.expand(-1, 3, -1, -1, -1)


@pytest.fixture
def dataset(small_dataset, tmp_path) -> Path:
    folder = tmp_path / "Dataset701_Small"
    shutil.copytree(small_dataset / "nnUNet_preprocessed" / "Dataset701_Small", folder)
    return folder


def human_folder(dataset: Path) -> Path:
    return dataset / "nnUNetPlans_3d_fullres"


def network_for(dataset: Path, case: str = FULL_CASE, **options) -> ByIntensity:
    """The means that the fully annotated case shows."""
    image = open_array(human_folder(dataset) / f"{case}.b2nd")[:]
    labels = open_array(human_folder(dataset) / f"{case}_seg.b2nd")[:]
    return ByIntensity([float(image[labels == number].mean()) for number in range(4)], **options).eval()


def relabeller(dataset: Path, tmp_path: Path, number=1, **options) -> Relabeller:
    annotation = Annotation.from_dataset_json(json.loads((dataset / "dataset.json").read_text(encoding="utf-8")))
    run = RunFiles(tmp_path / "results" / "model" / "fold_0", dataset, "run")
    chosen = {
        "segmentation": network_for(dataset),
        "log_odds": binary_log_odds,
        "ranking": None,
        "window": SlidingWindow(PATCH),
        "fraction": 0.5,
        **options,
    }
    previous = run.round(number - 1) if number > 1 else None
    return Relabeller(annotation=annotation, human=human_folder(dataset), files=run.round(number), previous=previous, **chosen)


def arrays(worker: Relabeller, case: str):
    files = worker.files
    human = open_array(worker.human / f"{case}_seg.b2nd")[:]
    return human, *(open_array(path)[:] for path in (files.prediction_of(case), files.score_of(case), files.labels_of(case)))


def test_the_most_confident_half_of_the_liver(dataset, tmp_path):
    worker = relabeller(dataset, tmp_path)
    record = worker.relabel(KIDNEY_CASE)
    human, prediction, scores, labels = arrays(worker, KIDNEY_CASE)
    with torch.inference_mode():
        z = worker.segmentation(torch.from_numpy(open_array(worker.human / f"{KIDNEY_CASE}.b2nd")[:])[None])[0].numpy()
    liver = (z.argmax(0) == 1)[None] & (human == 0)
    assert ((prediction == 1) == liver).all()
    np.testing.assert_allclose(scores[liver], (z[1] - z[0])[None][liver], atol=1e-4)
    new = labels != human
    assert (labels[new] == 1).all()
    assert new.sum() == np.ceil(liver.sum() / 2) == record["classes"]["liver"]["added"]
    assert scores[new].min() >= scores[liver & ~new].max()
    assert record["classes"]["liver"]["threshold"] == pytest.approx(scores[new].min())


def test_union_members_are_not_unannotated_and_get_no_labels(dataset, tmp_path):
    """ "Kidney" without a side was looked for: its sides are nobody's to guess."""
    worker = relabeller(dataset, tmp_path)
    assert unannotated_ids(worker.annotation, KIDNEY_CASE) == [1]
    assert unannotated_ids(worker.annotation, LIVER_CASE) == [2, 3]
    assert unannotated_ids(worker.annotation, FULL_CASE) == []
    worker.relabel(KIDNEY_CASE)
    human, prediction, _, labels = arrays(worker, KIDNEY_CASE)
    assert set(np.unique(prediction)) == {0, 1}
    assert (labels[human != 0] == human[human != 0]).all()


def test_softmax_networks_are_ranked_by_their_probability(dataset, tmp_path):
    worker = relabeller(dataset, tmp_path, log_odds=softmax_log_odds)
    worker.relabel(LIVER_CASE)
    _, prediction, scores, _ = arrays(worker, LIVER_CASE)
    with torch.inference_mode():
        z = worker.segmentation(torch.from_numpy(open_array(worker.human / f"{LIVER_CASE}.b2nd")[:])[None])
    p = z.softmax(1)[0].numpy()
    found = prediction > 0
    of_predicted = np.take_along_axis(p, prediction.astype(int), 0)[found]
    np.testing.assert_allclose(1 / (1 + np.exp(-scores[found])), of_predicted, atol=1e-5)


def test_ids_are_those_of_argmax_ties_included():
    """Of equal logits the first is taken, as argmax does: background before any class."""
    generator = np.random.default_rng(0)
    logits, unlabelled = generator.integers(0, 3, (5, 4, 6, 7)).astype(np.float32), generator.random((4, 6, 7)) < 0.8
    wanted = torch.tensor([False, True, False, True, True])
    expected = logits.argmax(0)
    is_found = wanted.numpy()[expected] & unlabelled
    found, numbers, scores = _predicted(torch.from_numpy(logits), torch.from_numpy(unlabelled), wanted, binary_log_odds)
    assert (found.numpy() == is_found).all()
    assert (numbers.numpy() == expected[is_found]).all()
    assert (scores.numpy() == (logits.max(0) - logits[0])[is_found]).all()


def test_learned_confidence_ranks_in_place_of_the_network(dataset, tmp_path):
    worker = relabeller(dataset, tmp_path, ranking=Ranking(Mean(), SlidingWindow(PATCH)))
    worker.relabel(KIDNEY_CASE)
    human, prediction, scores, labels = arrays(worker, KIDNEY_CASE)
    image = open_array(worker.human / f"{KIDNEY_CASE}.b2nd")[:]
    found = prediction > 0
    np.testing.assert_allclose(scores[found], image[found], atol=1e-4)
    new = labels != human
    assert scores[new].min() >= scores[found & ~new].max()


def test_rounds_add_up(dataset, tmp_path):
    first = relabeller(dataset, tmp_path, number=1, fraction=1 / 3)
    second = relabeller(dataset, tmp_path, number=2, fraction=2 / 3)
    first.relabel(KIDNEY_CASE)
    record = second.relabel(KIDNEY_CASE)
    human, _, _, before = arrays(first, KIDNEY_CASE)
    _, _, _, after = arrays(second, KIDNEY_CASE)
    assert (after[before != human] == 1).all()
    found = record["classes"]["liver"]
    assert found["already"] == (before != human).sum()
    assert found["total"] == (after != human).sum() == np.ceil(2 / 3 * found["predicted"] - 1e-9)
    assert record["changed_fraction"] == 0


def test_an_unstable_case_gets_no_new_labels_and_keeps_the_old(dataset, tmp_path):
    relabeller(dataset, tmp_path, number=1, fraction=1 / 2).relabel(KIDNEY_CASE)
    sharper = network_for(dataset)
    sharper.means[0, 1] += 0.5  # another network, other predictions
    worker = relabeller(dataset, tmp_path, number=2, fraction=1.0, segmentation=sharper, max_changed=0.01)
    record = worker.relabel(KIDNEY_CASE)
    assert record["dropped"]
    assert record["changed_fraction"] > 0.01
    assert record["classes"]["liver"]["added"] == 0
    assert record["classes"]["liver"]["total"] > 0
    assert (arrays(worker, KIDNEY_CASE)[3] == open_array(worker.previous.labels_of(KIDNEY_CASE))[:]).all()


def test_soft_labels_keep_the_confidence_of_the_round_that_made_them(dataset, tmp_path):
    """In the second round the network is twice as sure of everything: labels of the first keep what they had."""
    first = relabeller(dataset, tmp_path, number=1, fraction=1 / 3, soft=True)
    sharper = network_for(dataset, sharpness=2.0)
    second = relabeller(dataset, tmp_path, number=2, fraction=2 / 3, soft=True, segmentation=sharper)
    for worker in (first, second):
        worker.relabel(KIDNEY_CASE)
    human, _, scores, before = arrays(first, KIDNEY_CASE)
    _, _, later_scores, after = arrays(second, KIDNEY_CASE)
    soft = open_array(second.files.soft_labels_of(KIDNEY_CASE))[:]
    old, new = before != human, after != before
    assert old.any()
    assert new.any()
    assert (soft[after == human] == human[after == human]).all()
    num_ids = first.annotation.num_label_ids
    assert (soft[old] == confident_ids(before[old], expit(scores[old]), num_ids)).all()
    assert (soft[new] == confident_ids(after[new], expit(later_scores[new]), num_ids)).all()
    assert (second.files.soft_labels / f"{KIDNEY_CASE}.pkl").exists()


def test_class_locations_let_the_loader_find_pseudo_labels(dataset, tmp_path):
    worker = relabeller(dataset, tmp_path, fraction=1.0)
    worker.relabel(KIDNEY_CASE)
    *_, labels = arrays(worker, KIDNEY_CASE)
    before = pickle.loads((worker.human / f"{KIDNEY_CASE}.pkl").read_bytes())
    after = pickle.loads((worker.files.labels / f"{KIDNEY_CASE}.pkl").read_bytes())
    located = after["class_locations"][1]
    assert (labels[tuple(located.T)] == 1).all()
    assert len(located) == min(10_000, (labels == 1).sum())
    assert {key: len(value) for key, value in after["class_locations"].items() if key != 1} == {
        key: len(value) for key, value in before["class_locations"].items() if key != 1
    }
    assert set(after) == set(before)


def test_as_many_locations_as_nnunet_keeps():
    labels = np.zeros((1, 120, 120, 120), np.int16)
    labels[0, :110] = 7  # 1,584,000 voxels: one in a hundred
    ours = class_locations(labels)
    host = DefaultPreprocessor._sample_foreground_locations(labels, [7])
    assert ours[7].shape == host[7].shape
    assert len(np.unique(ours[7], axis=0)) == len(ours[7])
    assert (labels[tuple(ours[7].T)] == 7).all()


def test_human_files_are_never_touched(dataset, tmp_path):
    before = {path.name: path.read_bytes() for path in human_folder(dataset).iterdir()}
    relabeller(dataset, tmp_path, fraction=1.0).relabel(KIDNEY_CASE)
    assert {path.name: path.read_bytes() for path in human_folder(dataset).iterdir()} == before


def test_same_input_same_labels(dataset, tmp_path):
    once, twice = relabeller(dataset, tmp_path / "a"), relabeller(dataset, tmp_path / "b")
    once.relabel(LIVER_CASE)
    first = [array.copy() for array in arrays(once, LIVER_CASE)]
    twice.relabel(LIVER_CASE)
    assert all((one == two).all() for one, two in zip(first, arrays(twice, LIVER_CASE), strict=True))


def test_nothing_predicted_leaves_no_overlay(dataset, tmp_path):
    silent = network_for(dataset)
    silent.means[0, 1:] = 1000
    worker = relabeller(dataset, tmp_path, segmentation=silent)
    record = worker.relabel(KIDNEY_CASE)
    assert record["classes"]["liver"] == {"predicted": 0, "already": 0, "added": 0, "total": 0, "threshold": None}
    assert not worker.files.labels_of(KIDNEY_CASE).exists()
    assert worker.files.record_of(KIDNEY_CASE).exists()
