"""Splits, sampling, mirroring, settings and online metrics: the parts of the seam that need no training."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnunet_partial.labels import Annotation, LabelSpace
from nnunet_partial.targets import PartialTarget
from nnunet_partial.training.mirroring import allowed_mirror_axes
from nnunet_partial.training.online_metrics import annotated_counts
from nnunet_partial.training.sampling import repeated_identifiers, sampling_probabilities
from nnunet_partial.training.settings import TrainingSettings, describe_settings, parse_settings
from nnunet_partial.training.splits import separated_scans, stratified_splits, unannotated_anywhere


def annotation_of(sizes: dict[str, int]) -> Annotation:
    """One source and one protocol a class, with so many cases each."""
    labels = {"background": 0, **{name: number for number, name in enumerate(sizes, 1)}}
    protocols = {name: {"labels": {str(labels[name]): [name]}} for name in sizes}
    cases = {f"{name}_{n:03d}": {"protocol": name, "source": name} for name, size in sizes.items() for n in range(size)}
    return Annotation.from_dataset_json({"labels": labels, "annotation": {"protocols": protocols, "cases": cases}})


class TestSplits:
    def test_every_fold_trains_and_validates_every_class(self):
        annotation = annotation_of({"liver": 50, "spleen": 5, "pancreas": 7})
        splits = stratified_splits(annotation, annotation.cases)
        assert len(splits) == 5
        for fold in splits:
            assert not unannotated_anywhere(annotation, fold["train"])
            assert not unannotated_anywhere(annotation, fold["val"])

    def test_every_case_is_validated_once_and_never_in_its_own_training(self):
        annotation = annotation_of({"liver": 11, "spleen": 3})
        splits = stratified_splits(annotation, annotation.cases)
        assert sorted(key for fold in splits for key in fold["val"]) == sorted(annotation.cases)
        assert all(set(fold["train"]).isdisjoint(fold["val"]) and len(fold["train"]) + len(fold["val"]) == 14 for fold in splits)

    def test_folds_differ_by_one_case_at_most(self):
        annotation = annotation_of({f"organ{n}": 3 for n in range(7)})
        sizes = {len(fold["val"]) for fold in stratified_splits(annotation, annotation.cases)}
        assert max(sizes) - min(sizes) <= 1

    def test_same_whatever_the_order(self):
        annotation = annotation_of({"liver": 9, "spleen": 4})
        assert stratified_splits(annotation, sorted(annotation.cases, reverse=True)) == stratified_splits(
            annotation, annotation.cases
        )
        json.dumps(stratified_splits(annotation, annotation.cases))

    def test_too_few_cases(self):
        annotation = annotation_of({"liver": 4})
        with pytest.raises(ValueError, match="4 cases cannot be split into 5 folds; train with fold 'all'"):
            stratified_splits(annotation, annotation.cases)


def with_groups(annotation: Annotation, groups: list[list[str]]) -> Annotation:
    """The cases of each group show one scan."""
    scan_of = {key: group[0] for group in groups for key in group}
    cases = {key: case.model_copy(update={"scan": scan_of.get(key, "")}) for key, case in annotation.cases.items()}
    return annotation.model_copy(update={"cases": cases})


class TestSplitsOfRepeatedScans:
    @given(
        sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
        numbers=st.lists(st.integers(0, 12), min_size=48, max_size=48),
    )
    def test_no_scan_on_both_sides_and_every_case_validated_once(self, sizes, numbers):
        annotation = annotation_of({f"organ{n}": size for n, size in enumerate(sizes)})
        groups: dict[int, list[str]] = {}
        for key, number in zip(annotation.cases, numbers, strict=False):
            groups.setdefault(number or len(groups) + 100, []).append(key)  # 0: a scan of its own
        annotation = with_groups(annotation, [group for group in groups.values() if len(group) > 1])
        if len(groups) < 5:
            with pytest.raises(ValueError, match="cannot be split into 5 folds"):
                stratified_splits(annotation, annotation.cases)
            return
        splits = stratified_splits(annotation, annotation.cases)
        assert sorted(key for fold in splits for key in fold["val"]) == sorted(annotation.cases)
        assert all(sorted(fold["train"] + fold["val"]) == sorted(annotation.cases) for fold in splits)
        assert all(fold["val"] for fold in splits)
        assert not separated_scans(annotation, splits)

    @given(st.lists(st.integers(1, 13), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 5))
    def test_without_repeated_scans_the_cases_are_dealt_out_in_turn(self, sizes):
        annotation = annotation_of({f"organ{n}": size for n, size in enumerate(sizes)})
        generator, dealt = np.random.RandomState(12345), []
        for number, size in enumerate(sizes):
            dealt += [f"organ{number}_{position:03d}" for position in generator.permutation(size)]
        found = [fold["val"] for fold in stratified_splits(annotation, annotation.cases)]
        assert found == [sorted(dealt[fold::5]) for fold in range(5)]

    def test_pairs_leave_the_folds_even(self):
        annotation = annotation_of({"liver": 20, "spleen": 20})
        annotation = with_groups(annotation, [[f"liver_{n:03d}", f"spleen_{n:03d}"] for n in range(8)])
        for fold in stratified_splits(annotation, annotation.cases):
            assert [sum(key.startswith(name) for key in fold["val"]) for name in ("liver", "spleen")] == [4, 4]

    def test_a_split_that_separates_a_scan(self):
        annotation = with_groups(annotation_of({"liver": 3}), [["liver_000", "liver_002"]])
        splits = [{"train": ["liver_000", "liver_001"], "val": ["liver_002"]}]
        assert separated_scans(annotation, splits) == [("liver_000", "liver_002")]
        assert separated_scans(annotation, [{"train": ["liver_000", "liver_002"], "val": ["liver_001"]}]) == []


class TestSampling:
    @pytest.mark.parametrize(
        ("sampling", "share"), [("uniform", 1 / 2), ("proportional", 90 / 100), ("sqrt", 90**0.5 / (90**0.5 + 10**0.5))]
    )
    def test_share_of_the_large_source(self, sampling, share):
        probabilities = sampling_probabilities(["large"] * 90 + ["small"] * 10, sampling)
        assert probabilities.sum() == pytest.approx(1)
        assert probabilities[:90].sum() == pytest.approx(share)

    @pytest.mark.parametrize("sampling", ["uniform", "sqrt", "proportional"])
    def test_the_list_of_identifiers_carries_the_probabilities(self, sampling):
        sources = ["a"] * 24 + ["b"] * 100 + ["c"] * 33 + ["d"] * 224 + ["e"] * 168  # the paper's numbers
        identifiers = [f"case_{n}" for n in range(len(sources))]
        probabilities = sampling_probabilities(sources, sampling)
        drawn = repeated_identifiers(identifiers, probabilities)
        frequency = np.array([(drawn == key).mean() for key in identifiers])
        np.testing.assert_allclose(frequency, probabilities, rtol=0.02)
        assert len(drawn) <= 100_000

    def test_equal_probabilities_repeat_nothing(self):
        assert repeated_identifiers(["a", "b"], np.array([0.5, 0.5])).tolist() == ["a", "b"]

    def test_ten_thousand_cases_stay_a_short_list(self):
        probabilities = sampling_probabilities(["a"] * 9_999 + ["b"], "uniform")
        drawn = repeated_identifiers([str(n) for n in range(10_000)], probabilities)
        assert len(drawn) <= 100_000
        assert (drawn == "9999").mean() == pytest.approx(0.5, rel=0.02)


class TestMirroring:
    KIDNEYS = LabelSpace(classes=("kidney_left", "kidney_right"))
    LIVER = LabelSpace(classes=("liver",))

    @pytest.mark.parametrize(
        ("axes", "transpose", "space", "mirroring", "allowed"),
        [
            ((0, 1, 2), (0, 1, 2), KIDNEYS, "auto", (0, 1)),
            ((0, 1, 2), (2, 0, 1), KIDNEYS, "auto", (1, 2)),
            ((0, 1), (0, 1, 2), KIDNEYS, "auto", (0,)),
            ((0, 1), (2, 0, 1), KIDNEYS, "auto", (0, 1)),  # slices are sagittal: left-right is not in them
            ((0, 1, 2), (0, 1, 2), LIVER, "auto", (0, 1, 2)),
            ((0, 1, 2), (0, 1, 2), KIDNEYS, "all", (0, 1, 2)),
            ((0, 1, 2), (0, 1, 2), LIVER, "none", ()),
        ],
    )
    def test_axes(self, axes, transpose, space, mirroring, allowed):
        assert allowed_mirror_axes(axes, transpose, space, mirroring) == allowed


class TestSettings:
    def test_defaults_without_the_block(self):
        settings = TrainingSettings.from_plans({})
        assert (settings.num_epochs, settings.num_iterations_per_epoch, settings.initial_lr) == (1000, 250, 1e-2)
        assert (settings.weight_marginal, settings.weight_exclusion) == (1, 2)

    def test_assignments(self):
        block = parse_settings(["num_epochs=2", "sampling=sqrt", "initial_lr=1e-3"])
        assert TrainingSettings.from_block(block, where="--set").sampling == "sqrt"

    def test_all_faults_with_the_nearest_name(self):
        with pytest.raises(ValueError, match="did you mean 'num_epochs'") as caught:
            TrainingSettings.from_plans({"partial": {"num_epoch": 3, "sampling": "fair", "save_every": 0}})
        assert "sampling" in str(caught.value)
        assert "save_every" in str(caught.value)

    def test_not_an_assignment(self):
        with pytest.raises(ValueError, match="takes name=value"):
            parse_settings(["num_epochs"])

    def test_every_setting_is_described(self):
        assert all(name in describe_settings() for name in TrainingSettings.model_fields)
        assert all(field.description for field in TrainingSettings.model_fields.values())


class TestOnlineMetrics:
    def test_counted_by_hand(self):
        """Case 0 looked for both classes, case 1 for class 1 alone: its predictions of class 2 are nobody's mistake."""
        labels = torch.tensor([[[0, 1, 2, 2]], [[1, 0, 0, 0]]])
        predicted = torch.tensor([[1, 1, 2, 0], [1, 1, 2, 2]])
        logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).float()
        tables = torch.eye(3, dtype=torch.bool).repeat(2, 1, 1)
        tables[1, 0, 2] = True
        annotated = torch.tensor([[False, True, True], [False, True, False]])
        tp, fp, fn = annotated_counts(logits, PartialTarget(labels, tables, annotated)).sum(1)
        assert tp.tolist() == [2, 1]
        assert fp.tolist() == [2, 0]
        assert fn.tolist() == [0, 1]

    def test_unions_and_ignored_voxels_judge_nothing(self):
        tables = torch.tensor([[[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]]]).bool()
        annotated = torch.tensor([[False, True, False, False]])
        target = PartialTarget(torch.tensor([[[1, 1, 3, 0]]]), tables, annotated, ignore_label=3)
        counts = annotated_counts(torch.zeros(1, 3, 4), target)
        assert counts.tolist() == [[[0, 0]]] * 3
