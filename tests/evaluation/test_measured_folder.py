"""Surfaces, volumes, empty cases, calibration, parts and resuming, from files."""

import json
import math
import os

import numpy as np
import pytest
import surface_distance
from sklearn.metrics import roc_auc_score

from nnunet_partial.evaluation import (
    SURFACE_NAMES,
    Tolerances,
    evaluate_folder,
    evaluate_tasks,
    find_tasks,
    judge,
    judge_part,
    read_label_map,
    report_text,
    surface_metrics,
    write_summary,
)
from nnunet_partial.evaluation.regions import judged_regions
from nnunet_partial.labels import Annotation, AnnotationProtocol, LabelSpace

SPACE = LabelSpace(classes=("liver", "kidney_left", "kidney_right"), has_ignore=True)


def metrics_of(summary, identifier) -> dict:
    return next(case["metrics"] for case in summary["metric_per_case"] if case["identifier"] == identifier)


@pytest.mark.parametrize("seed", range(3))
def test_regions_are_the_masks_of_the_whole_volume(seed):
    rng = np.random.default_rng(seed)
    protocol = AnnotationProtocol(labels={1: ("liver",), 7: ("kidney_left", "kidney_right")})
    reference, prediction = np.zeros((2, 9, 8, 7), np.uint8)
    reference[2:5, 2:5, 2:5] = rng.choice([0, 1, 4, 7], (3, 3, 3))
    prediction[3:7, 1:4, 2:6] = rng.integers(0, 4, (4, 3, 4))
    regions = dict(judged_regions(reference, prediction, protocol, SPACE))
    assert list(regions) == [1, (2, 3)]
    for key, ids in ((1, ([1], [1])), ((2, 3), ([7], [2, 3]))):
        whole = np.isin(reference, ids[0]), np.isin(prediction, ids[1]) & (reference != SPACE.ignore_id)
        for mask, expected in zip((regions[key].reference, regions[key].prediction), whole, strict=True):
            placed = np.zeros(reference.shape, bool)
            placed[regions[key].box] = mask
            np.testing.assert_array_equal(placed, expected)


def test_a_class_that_neither_shows_has_no_region():
    protocol = AnnotationProtocol(labels={1: ("liver",)})
    empty = np.zeros((3, 3, 3), np.int16)
    assert dict(judged_regions(empty, empty, protocol, SPACE)) == {1: None}


@pytest.mark.parametrize(("name", "unknown"), [("reference", 5), ("reference", 8), ("reference", -1), ("prediction", 4)])
def test_regions_refuse_ids_that_stand_for_nothing(name, unknown):
    protocol = AnnotationProtocol(labels={1: ("liver",), 7: ("kidney_left", "kidney_right")})
    maps = {"reference": np.array([[1, 7, 0]]), "prediction": np.array([[1, 2, 0]])}
    assert dict(judged_regions(**maps, protocol=protocol, space=SPACE))[1].reference.sum() == 1
    maps[name][0, 2] = unknown
    with pytest.raises(ValueError, match=f"{name} holds label ids that neither label space nor protocol knows: {unknown};"):
        dict(judged_regions(**maps, protocol=protocol, space=SPACE))


def test_surfaces_and_volumes_with_the_files_own_spacing(folders, annotation, write):
    reference, prediction = np.zeros((2, 5, 6, 7), np.uint8)
    reference[1:3, 1:4, 1:4], prediction[1:3, 1:4, 2:5] = 3, 4  # moved along x, and partly called the other side
    prediction[1:3, 1:4, 2] = 3
    for folder, labels in zip(folders, (reference, prediction), strict=True):
        write(folder / "kits_1.nii.gz", labels.ravel(), shape=labels.shape, spacing_mm=(0.5, 1, 3))
    summary = evaluate_folder(*folders, annotation, tolerances=Tolerances(2))
    union = metrics_of(summary, "kits_1")[3, 4]
    assert union["HD_mm"] == pytest.approx(0.5)
    assert union["NSD"] == 1
    assert (union["volume_ref_ml"], union["volume_error_ml"]) == (pytest.approx(18 * 1.5 / 1000), 0)
    assert math.isnan(metrics_of(summary, "kits_1")[3]["HD_mm"])  # a side nobody looked for
    assert union["HD95_mm"] == surface_metrics(reference > 0, prediction > 0, (3, 1, 0.5))["HD95_mm"]
    for largest_mm, found in ((0.4, False), (0.6, True)):  # a union takes the largest tolerance of its classes
        tolerances = Tolerances(2, {"kidney_left": 0.3, "kidney_right": largest_mm})
        sided = evaluate_folder(*folders, annotation, tolerances=tolerances)
        assert (metrics_of(sided, "kits_1")[3, 4]["NSD"] == 1) == found
    named = evaluate_folder(*folders, annotation, tolerances=Tolerances(0.1, {"kidney_right+kidney_left": 0.5}))
    assert metrics_of(named, "kits_1")[3, 4]["NSD"] == 1


def test_surfaces_are_left_out_unless_asked_for(folders, annotation):
    assert not set(SURFACE_NAMES) & set(evaluate_folder(*folders, annotation)["mean"][1])


def test_empty_cases_follow_the_policy_and_are_counted(folders, annotation, write):
    write(folders[1] / "full_1.nii.gz", [0, 0, 2, 0, 3, 4, 0, 0])  # the liver is missed
    write(folders[1] / "full_2.nii.gz", [1, 0, 2, 0, 0, 4, 0, 0])  # a spleen that is not there
    summary = evaluate_folder(*folders, annotation, tolerances=Tolerances())
    assert summary["empty_cases"] == {
        1: {"neither": 1, "only_reference": 1, "only_prediction": 0},
        2: {"neither": 0, "only_reference": 0, "only_prediction": 1},
        3: {"neither": 1, "only_reference": 0, "only_prediction": 0},
        4: {"neither": 0, "only_reference": 0, "only_prediction": 0},
        (3, 4): {"neither": 0, "only_reference": 0, "only_prediction": 0},
    }
    missed, invented, neither = (
        metrics_of(summary, "full_1")[1],
        metrics_of(summary, "full_2")[2],
        metrics_of(summary, "full_2")[3],
    )
    assert [missed[name] for name in ("Dice", "Recall", "NSD", "relative_volume_error")] == [0, 0, 0, -1]
    assert [invented[name] for name in ("Dice", "Precision", "NSD")] == [0, 0, 0]
    assert (missed["volume_error_ml"], invented["volume_error_ml"]) == (pytest.approx(-0.006), pytest.approx(0.003))
    for values, names in (
        (missed, ("Precision", "HD_mm", "HD95_mm", "ASSD_mm")),
        (invented, ("Recall", "relative_volume_error", "HD_mm", "HD95_mm", "ASSD_mm")),
        (neither, ("Dice", "IoU", "Precision", "Recall", "NSD", "HD_mm", "relative_volume_error")),
    ):
        assert all(math.isnan(values[name]) for name in names)
    assert neither["volume_error_ml"] == 0
    assert "liver: neither shows it 1, missed 1" in report_text(summary, annotation.space)
    assert set(summary["empty_policy"]) >= {"only the reference shows it", "nobody looked for it"}


def test_means_by_protocol(folders, annotation):
    per_protocol = evaluate_folder(*folders, annotation)["per_protocol"]
    assert list(per_protocol) == ["full", "kidney"]
    assert list(per_protocol["kidney"]) == [1, (3, 4)]


def test_a_stopped_evaluation_goes_on(folders, annotation, tmp_path, monkeypatch):
    options = {"tolerances": Tolerances(), "cache_dir": tmp_path / "cases"}
    fresh = evaluate_folder(*folders, annotation, **options)
    write_summary(fresh, tmp_path / "fresh.json")
    measured = []
    measure = judge._measure
    monkeypatch.setattr(judge, "_measure", lambda task, *maps: measured.append(task.identifier) or measure(task, *maps))
    write_summary(evaluate_folder(*folders, annotation, **options), tmp_path / "again.json")
    assert measured == []
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "fresh.json").read_bytes()
    (tmp_path / "cases" / "full_1.json").write_text('{"made')  # half a file, as a kill leaves it elsewhere
    evaluate_folder(*folders, annotation, **options)
    assert measured == ["full_1"]
    os.utime(folders[1] / "kits_1.nii.gz", ns=(1, 1))  # as large as before, but written anew
    evaluate_folder(*folders, annotation, **options)
    assert measured == ["full_1", "kits_1"]


def test_changed_files_and_options_are_measured_again(folders, annotation, write, tmp_path):
    cache = tmp_path / "cases"
    assert metrics_of(evaluate_folder(*folders, annotation, cache_dir=cache), "full_2")[1]["Dice"] == pytest.approx(2 / 3)
    write(folders[1] / "full_2.nii.gz", [1, 1, 0, 0, 0, 4, 0, 0])
    assert metrics_of(evaluate_folder(*folders, annotation, cache_dir=cache), "full_2")[1]["Dice"] == 1
    assert "NSD" in evaluate_folder(*folders, annotation, cache_dir=cache, tolerances=Tolerances())["mean"][1]
    full = evaluate_folder(*folders, annotation, cache_dir=cache, full_reference=True)
    assert metrics_of(full, "kits_1")[2]["FP"] == 2


def test_parts_meet_in_the_cache(folders, annotation, tmp_path):
    tasks = find_tasks(*folders, annotation, tolerances=Tolerances(), cache_dir=tmp_path / "cases")
    assert judge_part(tasks, 1, 2) == ["full_1", "kits_1"]
    assert judge_part(tasks, 0, 2) == []
    for name, found in (("parts", tasks), ("whole", find_tasks(*folders, annotation, tolerances=Tolerances()))):
        write_summary(evaluate_tasks(found), tmp_path / f"{name}.json")
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    with pytest.raises(ValueError, match="part 2 of 2 does not exist"):
        judge_part(tasks, 2, 2)
    with pytest.raises(ValueError, match="parts meet in a cache folder"):
        judge_part(find_tasks(*folders, annotation), 0, 2)


def test_calibration_merges_cases_and_survives_the_cache(folders, annotation, write, tmp_path):
    rng = np.random.default_rng(0)
    confidence, right = [], []
    write(folders[1] / "full_1.nii.gz", [1, 1, 1, 1, 3, 4, 0, 0])  # two voxels of the liver are spleen
    for identifier in annotation.cases:
        reference, prediction = (read_label_map(folder / f"{identifier}.nii.gz").labels for folder in folders)
        probabilities = rng.random((5, *prediction.shape)).astype(np.float32)
        np.put_along_axis(probabilities, prediction[None].astype(int), 1 + rng.random((1, *prediction.shape)), axis=0)
        probabilities /= probabilities.sum(axis=0)
        np.savez_compressed(folders[1] / f"{identifier}.npz", probabilities=probabilities)
        confidence += list(probabilities[1][prediction == 1])
        right += list((reference == 1)[prediction == 1])
    options = {"probability_dir": folders[1], "cache_dir": tmp_path / "cases"}
    summary = evaluate_folder(*folders, annotation, **options)
    found = summary["calibration"]
    assert list(found) == [1, 2, 3, 4, (3, 4), "all"]
    assert (found[1]["ranked_voxels"], found[1]["errors"]) == (5, 2)
    assert found[1]["AUC"] == pytest.approx(roc_auc_score(right, confidence))
    assert found["all"]["voxels"] == sum(found[key]["voxels"] for key in found if key != "all")
    assert "AP_error" in report_text(summary, annotation.space)
    write_summary(summary, tmp_path / "first.json")
    write_summary(evaluate_folder(*folders, annotation, **options), tmp_path / "kept.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "kept.json").read_bytes()
    (folders[1] / "full_2.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 3 probability files: full_2\.npz; .*--save_probabilities"):
        evaluate_folder(*folders, annotation, **options)


def test_tolerances_are_checked(folders, annotation):
    assert Tolerances.parse(["3", "liver=1.5"]) == Tolerances(3, {"liver": 1.5})
    assert Tolerances.parse([]) == Tolerances(2)
    with pytest.raises(ValueError, match=r"tolerance 'liver=x': a length in mm, or CLASS=MM"):
        Tolerances.parse(["liver=x"])
    with pytest.raises(ValueError, match="2 tolerances for all classes: 2, 3; give one"):
        Tolerances.parse(["2", "3"])
    with pytest.raises(ValueError, match="0 mm or more, not -1"):
        Tolerances(-1)
    with pytest.raises(
        ValueError, match=r"tolerance of 'livr': class 'livr' is not in the label space \(did you mean 'liver'\?\)"
    ):
        evaluate_folder(*folders, annotation, tolerances=Tolerances(2, {"livr": 1}))


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # by the library, of SciPy's old names
def test_real_organs_equal_the_library_on_the_whole_grid(real_data, tmp_path, write):
    """The crops, the tree and the order of the spacings, on a real scan with slices thicker than its pixels."""
    path = sorted((real_data / "btcv" / "label").glob("*.nii.gz"))[0]
    label_map = read_label_map(path)
    names = {f"organ_{number}": number for number in range(1, 14)}
    block = {
        "protocols": {"all": {"labels": {number: [name] for name, number in names.items()}}},
        "cases": {"scan": {"protocol": "all", "source": "btcv"}},
    }
    annotation = Annotation.from_dataset_json({"labels": {"background": 0, **names}, "annotation": block})
    moved = np.roll(label_map.labels, (1, 2, -1), axis=(0, 1, 2))
    for folder, labels in (("references", label_map.labels), ("predictions", moved)):
        spacing_mm = tuple(label_map.spacing_mm)
        write(tmp_path / folder / "scan.nii.gz", labels.ravel(), shape=labels.shape, spacing_mm=spacing_mm)
    summary = evaluate_folder(tmp_path / "references", tmp_path / "predictions", annotation, tolerances=Tolerances(3))
    for number in (1, 4, 11, 12):
        masks = label_map.labels == number, moved == number
        found = surface_distance.compute_surface_distances(*masks, list(label_map.spacing_mm[::-1]))
        ours = metrics_of(summary, "scan")[number]
        assert ours["HD95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(found, 95))
        assert ours["NSD"] == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(found, 3))
        assert ours["volume_ref_ml"] == pytest.approx(masks[0].sum() * np.prod(label_map.spacing_mm) / 1000)
    assert json.dumps(summary["definitions"]).count("tolerance 3 mm") == 1
