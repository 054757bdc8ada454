"""What the anatomy says of ids that stand for more than one class."""

import numpy as np
from native_sources import SPACING_MM, abdomen, drawn

from nnunet_partial.dataset_conversion.anatomy import anatomy_notes
from nnunet_partial.dataset_conversion.image_files.volume import Volume
from nnunet_partial.labels import AnnotationProtocol


def notes(protocol: dict[int, tuple[str, ...]], ids: dict[str, int]) -> list[str]:
    """What is said of a label map that is flipped against its CT."""
    image = Volume(abdomen(), np.diag([*SPACING_MM, 1.0]))
    return anatomy_notes(drawn(ids)[::-1], image, AnnotationProtocol(labels=protocol), is_ct=True)


def test_an_organ_is_judged_with_what_may_lie_inside_it():
    said = notes({1: ("liver", "liver_tumor", "liver_cyst"), 2: ("spleen",)}, {"liver": 1, "spleen": 2})
    assert "liver does not lie to the patient's right of spleen: the scan may be flipped" in said


def test_an_id_for_both_sides_is_not_judged():
    assert notes({1: ("kidney_left", "kidney_right")}, {"kidney_left": 1, "kidney_right": 1}) == []
