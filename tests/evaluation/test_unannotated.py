"""Predictions of classes nobody looked for: figures to count by hand, and what makes them implausible."""

import numpy as np
import pytest

from nnunet_partial.evaluation import evaluate_folder, unannotated_predictions
from nnunet_partial.evaluation.unannotated import implausible, volume_ranges_ml
from nnunet_partial.labels import AnnotationProtocol, LabelSpace

SPACE = LabelSpace(classes=("liver", "kidney_left", "kidney_right", "spleen"), has_ignore=True)
PROTOCOL = AnnotationProtocol(labels={1: ("liver",), 2: ("kidney_left", "kidney_right")})


def volume(**voxels) -> np.ndarray:
    array = np.zeros((6, 6, 6), np.uint8)
    for name, places in voxels.items():
        for place in places:
            array[place] = SPACE.num_classes if name == "ignore" else SPACE.id_of(name)
    return array


def test_figures_by_hand():
    reference = volume(liver=[(1, 1, 1), (1, 1, 2)], kidney_left=[(5, 5, 5)], ignore=[(0, 5, 0)])
    prediction = volume(spleen=[(1, 1, 2), (1, 1, 3), (2, 2, 4), (4, 0, 0), (0, 5, 0)], liver=[(1, 1, 1)])
    found = unannotated_predictions(reference, prediction, 0.5, PROTOCOL, SPACE)
    assert found == {
        4: {  # the voxel under the ignore label does not count; (1, 1, 3) and (2, 2, 4) meet at a corner
            "volume_ml": 2.0,
            "components": 2,
            "largest_component_share": 0.75,
            "touches": ["liver"],
            "overlap_share": 0.25,
        }
    }


def test_unions_are_annotated_and_named_as_such():
    reference, prediction = volume(kidney_left=[(2, 2, 2)]), volume(spleen=[(2, 2, 3)], kidney_right=[(0, 0, 0)])
    found = unannotated_predictions(reference, prediction, 1, PROTOCOL, SPACE)
    assert list(found) == [4]
    assert (found[4]["touches"], found[4]["overlap_share"]) == (["kidney_left+kidney_right"], 0)


def test_diagonal_neighbours_do_not_touch():
    reference, prediction = volume(liver=[(2, 2, 2)]), volume(spleen=[(2, 3, 3)])
    assert unannotated_predictions(reference, prediction, 1, PROTOCOL, SPACE)[4]["touches"] == []


def test_ranges_come_from_annotated_references_and_need_three():
    assert volume_ranges_ml({1: [10, 20, 40], 2: [5, 6]}) == {1: (5, 80)}


def test_faults():
    figures = {"volume_ml": 100, "components": 3, "largest_component_share": 0.5, "touches": ["liver"], "overlap_share": 0.2}
    assert implausible(figures, (5, 80)) == [
        "volume 100 ml outside 5..80",
        "largest of 3 components holds 50%",
        "20% lies on liver",
    ]
    fine = {"volume_ml": 80, "components": 2, "largest_component_share": 0.9, "touches": ["liver"], "overlap_share": 0.1}
    assert implausible(fine, (5, 80)) == []
    assert implausible({**fine, "volume_ml": 1e6}, None) == []


def test_they_are_listed_apart_and_count_as_no_error(folders, annotation, write):
    references, predictions = folders
    listed = evaluate_folder(references, predictions, annotation)["unannotated_predictions"]
    assert listed["per_class"] == {2: {"cases": 1, "plausible_cases": 1, "volume_range_ml": None}}
    (entry,) = listed["per_case"]
    assert (entry["identifier"], entry["class"], entry["volume_ml"]) == ("kits_1", "spleen", pytest.approx(2 * 3 / 1000))
    before = evaluate_folder(references, predictions, annotation)["mean"]
    write(predictions / "kits_1.nii.gz", [0, 0, 0, 0, 3, 4, 0, 0])  # no spleen any more
    after = evaluate_folder(references, predictions, annotation)
    assert after["unannotated_predictions"] == {"per_class": {}, "per_case": []}
    assert after["mean"][2] == before[2]
    assert after["mean"][3, 4] == before[3, 4]
