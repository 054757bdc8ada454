"""A folder of predictions: means over annotated classes only, in the shape nnU-Net reads, and what is refused."""

import json
import math

import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_partial.evaluation import (
    METRIC_NAMES,
    VOLUME_NAMES,
    class_name,
    dice_table,
    evaluate_folder,
    metric_rows,
    write_summary,
)


def test_means_are_over_the_cases_in_which_a_class_was_looked_for(folders, annotation):
    summary = evaluate_folder(*folders, annotation)
    dice = {key: values["Dice"] for key, values in summary["mean"].items()}
    assert dice == {
        1: pytest.approx((1 + 2 / 3) / 2),  # kits_1 shows no liver: no Dice
        2: pytest.approx(2 / 3),  # full_2 has none; what kits_1 predicts is nobody's error
        3: pytest.approx(1),
        4: pytest.approx((0 + 1) / 2),
        (3, 4): pytest.approx(4 / 5),
    }
    assert summary["annotated_cases"] == {1: 3, 2: 2, 3: 2, 4: 2, (3, 4): 1}
    assert summary["foreground_mean"]["Dice"] == pytest.approx((5 / 6 + 2 / 3 + 1 + 1 / 2) / 4)  # the union is not news
    assert summary["mean"][1]["TP"] == pytest.approx((2 + 1 + 0) / 3)


def test_per_source(folders, annotation):
    per_source = evaluate_folder(*folders, annotation)["per_source"]
    assert list(per_source) == ["full", "kits"]
    assert list(per_source["kits"]) == [1, (3, 4)]
    assert per_source["kits"][3, 4]["Dice"] == pytest.approx(4 / 5)
    liver = per_source["kits"][1]
    assert (liver["annotated_cases"], liver["dice_cases"]) == (1, 0)
    assert math.isnan(liver["Dice"])


def test_a_union_counts_in_the_foreground_mean_where_nothing_else_is_known_of_its_classes(folders, annotation):
    for file in ("full_1", "full_2"):
        (folders[1] / f"{file}.nii.gz").unlink()
    summary = evaluate_folder(*folders, annotation)
    assert math.isnan(summary["mean"][3]["Dice"])
    assert summary["foreground_mean"]["Dice"] == pytest.approx(4 / 5)
    assert summary["without_prediction"] == ["full_1", "full_2"]


def test_full_reference_judges_every_class(folders, annotation):
    summary = evaluate_folder(*folders, annotation, full_reference=True)
    kits = next(case for case in summary["metric_per_case"] if case["identifier"] == "kits_1")
    assert (kits["metrics"][2]["Dice"], kits["metrics"][2]["FP"]) == (0, 2)
    assert (kits["metrics"][3]["TP"], kits["metrics"][3]["FN"]) == (1, 2)
    assert (3, 4) not in summary["mean"]


def test_full_reference_takes_cases_the_dataset_does_not_know(folders, annotation, write):
    for folder in folders:
        write(folder / "held_out.nii.gz", [2] * 8)
    with pytest.raises(ValueError, match=r"1 cases that are not in dataset.json\['annotation'\]: held_out.*--full-reference"):
        evaluate_folder(*folders, annotation)
    summary = evaluate_folder(*folders, annotation, full_reference=True)
    assert summary["per_source"]["unlisted"][2]["Dice"] == 1


def only_theirs(ours, theirs) -> dict:
    """Our values of the metrics that the host has; ours come after them."""
    assert all(list(ours[key])[: len(theirs[key])] == list(theirs[key]) for key in theirs)
    return {key: {name: ours[key][name] for name in theirs[key]} for key in theirs}


def test_full_reference_gives_nnunets_own_numbers(folders, annotation):
    for name in ("full_2", "kits_1"):  # nnU-Net's foreground_mean is NaN as soon as one class has no value
        (folders[1] / f"{name}.nii.gz").unlink()
    theirs = compute_metrics_on_folder(*map(str, folders), None, SimpleITKIO(), ".nii.gz", [1, 2, 3, 4], num_processes=1)
    ours = evaluate_folder(*folders, annotation, full_reference=True)
    assert only_theirs(ours["mean"], theirs["mean"]) == theirs["mean"]
    assert only_theirs({0: ours["foreground_mean"]}, {0: theirs["foreground_mean"]}) == {0: theirs["foreground_mean"]}
    metrics = [summary["metric_per_case"][0]["metrics"] for summary in (ours, theirs)]
    assert only_theirs(*metrics) == metrics[1]
    assert set(theirs) <= set(ours)
    assert set(theirs["metric_per_case"][0]) <= set(ours["metric_per_case"][0])


def test_nnunet_reads_what_is_written(folders, annotation, tmp_path):
    summary = evaluate_folder(*folders, annotation)
    write_summary(summary, tmp_path / "summary.json")
    read = load_summary_json(str(tmp_path / "summary.json"))
    assert list(read["mean"]) == [1, 2, 3, 4, (3, 4)]
    assert read["foreground_mean"] == summary["foreground_mean"]
    for case, written in zip(read["metric_per_case"], summary["metric_per_case"], strict=True):
        assert list(case["metrics"]) == [1, 2, 3, 4, (3, 4)]
        assert case["reference_file"] == written["reference_file"]
        assert list(case["metrics"][1]) == [*METRIC_NAMES, *VOLUME_NAMES]
    assert math.isnan(read["metric_per_case"][2]["metrics"][2]["Dice"])
    assert "NaN elsewhere" in read["policy"]


def test_same_input_same_bytes_whatever_the_number_of_processes(folders, annotation, tmp_path):
    for number in (1, 2):
        write_summary(evaluate_folder(*folders, annotation, num_processes=number), tmp_path / f"{number}.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert json.loads((tmp_path / "1.json").read_text(encoding="utf-8"))["mean"]["(3, 4)"]["TP"] == 2


def test_every_case_at_fault_is_named(folders, annotation, write):
    references, predictions = folders
    write(predictions / "full_1.nii.gz", [0] * 12, shape=(3, 2, 2))
    write(predictions / "full_2.nii.gz", [0] * 8, spacing_mm=(1, 1, 5))
    write(predictions / "kits_1.nii.gz", [9] * 8)
    with pytest.raises(ValueError, match="3 of 3 cases cannot be judged") as error:
        evaluate_folder(references, predictions, annotation)
    first, second, third = str(error.value).splitlines()[1:]
    assert "case 'full_1': reference has shape (2, 2, 2) (z, y, x), prediction (3, 2, 2)" in first
    assert "case 'full_2': reference has spacing (1, 1, 3) mm (x, y, z), prediction (1, 1, 5) mm" in second
    assert "case 'kits_1': prediction holds label ids 9..9" in third


def test_missing_and_extra_predictions(folders, annotation, write):
    references, predictions = folders
    (predictions / "full_1.nii.gz").unlink()
    write(predictions / "extra.nii.gz", [0] * 8)
    summary = evaluate_folder(references, predictions, annotation)
    assert (summary["without_prediction"], summary["without_reference"]) == (["full_1"], ["extra"])
    with pytest.raises(ValueError, match=r"1 references have no prediction in .*predictions: full_1"):
        evaluate_folder(references, predictions, annotation, allow_missing=False)


def test_nothing_to_judge(folders, annotation, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        evaluate_folder(tmp_path / "nowhere", folders[1], annotation)
    with pytest.raises(ValueError, match=r"no prediction in .* \(0 files \*\.nrrd\) has a reference"):
        evaluate_folder(*folders, annotation, file_ending=".nrrd")


def test_table(folders, annotation):
    summary = evaluate_folder(*folders, annotation)
    lines = [line.split() for line in dice_table(summary, annotation.space).splitlines() if not line.startswith("-")]
    assert lines == [
        ["class", "full", "kits", "all"],
        ["liver", "0.8333", "(2)", "nan", "(0", "of", "1)", "0.8333", "(2", "of", "3)"],
        ["spleen", "0.6667", "(1", "of", "2)", ".", "0.6667", "(1", "of", "2)"],
        ["kidney_left", "1.0000", "(1", "of", "2)", ".", "1.0000", "(1", "of", "2)"],
        ["kidney_right", "0.5000", "(2)", ".", "0.5000", "(2)"],
        ["kidney_left+kidney_right", ".", "0.8000", "(1)", "0.8000", "(1)"],
        ["mean", "0.7500"],
    ]


def test_rows(folders, annotation):
    rows = metric_rows(evaluate_folder(*folders, annotation), annotation.space)
    assert len(rows) == 3 * 5
    assert list(rows.columns) == ["identifier", "source", "protocol", "class", "annotated", *METRIC_NAMES, *VOLUME_NAMES]
    assert rows.query("annotated").groupby("class").size().to_dict() == {
        "liver": 3, "spleen": 2, "kidney_left": 2, "kidney_right": 2, "kidney_left+kidney_right": 1
    }  # fmt: skip
    assert class_name(2, annotation.space) == "spleen"
