"""The vocabulary: one canonical name a structure, however it is written."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_partial.dataset_conversion.sources.btcv import ORGANS
from nnunet_partial.labels import LabelSpace
from nnunet_partial.labels import vocabulary as words
from nnunet_partial.labels.space import near_miss
from nnunet_partial.labels.vocabulary import canonical, canonical_names, host_organ, members, other_side, side, snomed, suggest

TOTALSEGMENTATOR = """\
spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right esophagus
trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left kidney_cyst_right sacrum
vertebrae_S1 heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left
common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right
atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right
iliac_vena_left iliac_vena_right humerus_left humerus_right scapula_left scapula_right clavicula_left clavicula_right
femur_left femur_right hip_left hip_right spinal_cord gluteus_maximus_left gluteus_maximus_right gluteus_medius_left
gluteus_medius_right gluteus_minimus_left gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left
iliopsoas_right brain skull sternum costal_cartilages"""  # version 2, without vertebrae and ribs
VERTEBRAE = [f"vertebrae_{part}{n}" for part, last in (("C", 7), ("T", 12), ("L", 5)) for n in range(1, last + 1)]
RIBS = [f"rib_{where}_{n}" for where in ("left", "right") for n in range(1, 13)]
PROJECT = (
    *ORGANS, "bladder", "prostate_uterus", "rectum", "intestine", "femur_head_left", "liver_tumor", "pancreas_tumor",
    "kidney_tumor", "kidney_cyst", "hippocampus_anterior", "hippocampus_posterior", "left_atrium",
    "lung_tumor", "colon_tumor", "hepatic_vessel",
)  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("gall bladder", "gallbladder"), ("Gall-Bladder", "gallbladder"), ("postcava", "inferior_vena_cava"),
        ("lkidney", "kidney_left"), ("rkidney", "kidney_right"), ("left kidney", "kidney_left"), ("kidney left", "kidney_left"),
        ("Kidney (L)", "kidney_left"), ("kidney_r", "kidney_right"), ("Kidneys", "kidney"), ("spleen organ", "spleen"),
        ("liver tumour", "liver_tumor"), ("Oesophagus", "esophagus"), ("urinary_bladder", "bladder"),
        ("adrenals", "adrenal_gland"), ("L5 vertebra", "vertebrae_l5"),
        ("portal_vein_and_splenic_vein", "portal_and_splenic_vein"), ("vertebrae_L5", "vertebrae_l5"),
        ("left rib 3", "rib_left_3"), ("heart_atrium_left", "left_atrium"), ("Left common iliac arteries", "iliac_artery_left"),
        ("middle lobe of right lung", "lung_middle_lobe_right"), ("leftover", None), ("kidney left right", None), ("", None),
    ],
)  # fmt: skip
def test_canonical(written, name):
    assert canonical(written) == name


def test_every_canonical_name_is_a_class_name_and_maps_to_itself():
    assert [canonical(name) for name in canonical_names()] == list(canonical_names())
    assert LabelSpace(classes=canonical_names()).classes == canonical_names()


def test_no_spelling_stands_for_two_names():
    names = words._structures()
    stands_for: dict[str, set[str]] = {}
    for name, structure in names.items():
        for spelled in (name, *structure.synonyms):
            stands_for.setdefault(words._key(spelled), set()).add(name)
    assert {key: found for key, found in stands_for.items() if len(found) > 1} == {}


def test_knows_the_classes_of_the_project_and_of_totalsegmentator():
    everything = [*TOTALSEGMENTATOR.split(), *VERTEBRAE, *RIBS]
    assert len(everything) == 117
    assert [name for name in (*everything, *PROJECT) if canonical(name) is None] == []
    assert len({canonical(name) for name in everything}) == 117
    assert {name: canonical(name) for name in PROJECT} == {name: name for name in PROJECT}


def test_sides_are_pairs():
    sided = [name for name in canonical_names() if side(name)]
    assert {"kidney_left", "left_atrium", "rib_left_12", "lung_right"} <= set(sided)
    without = [name for name in sided if other_side(name) is None]
    assert without == ["lung_middle_lobe_right", "atrial_appendage_left"]
    for name in set(sided) - set(without):
        assert other_side(other_side(name)) == name
        assert {side(name), side(other_side(name))} == {"left", "right"}
    assert [other_side(name) for name in ("liver", "kidney", "middle lobe of right lung")] == [None, None, None]


def test_other_side_keeps_the_spelling():
    assert [other_side(name) for name in ("left-lung", "lkidney", "foo_left")] == ["right-lung", "kidney_right", "foo_right"]
    space = LabelSpace(classes=("lkidney", "kidney_r", "foo_left", "foo_right", "lung_left"))
    assert space.left_right_pairs() == (("lkidney", "kidney_r"), ("foo_left", "foo_right"))


def test_unions_and_hosts():
    assert members("kidneys") == ("kidney_left", "kidney_right")
    assert members("lung") == ("lung_left", "lung_right")
    assert members("right lung") == ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right")
    assert len(members("vertebrae")) == 24
    assert members("liver") == members("nonsense") == ()
    assert [host_organ(n) for n in ("liver_tumor", "kidney cyst left", "kidney_cyst", "liver")] == [
        "liver", "kidney_left", "kidney", None
    ]  # fmt: skip
    for name in canonical_names():
        assert {canonical(part) for part in members(name)} == set(members(name))
        assert host_organ(name) is None or canonical(host_organ(name)) == host_organ(name)


def test_codes():
    assert snomed("left kidney") == ("64033007", "Kidney", "7771000", None)
    assert snomed("liver_tumor") == ("108369006", "Neoplasm", None, "10200004")
    assert snomed("kidney_cyst_right") == ("367643001", "Cyst", "24028007", "64033007")
    assert snomed("left_atrium") == ("82471001", "Left atrium", None, None)
    assert snomed("hip_left") is None  # the lists code the region, not the bone
    codes = [snomed(name) for name in canonical_names() if snomed(name)]
    assert len(codes) > 150
    for name in canonical_names():
        assert snomed(name) is None or passes_check_digit(snomed(name).code), name
    whole = [code for code in codes if code.code not in ("108369006", "367643001")]
    assert len({(code.code, code.side_code) for code in whole}) == len(whole)  # nothing pasted twice


def passes_check_digit(code: str) -> bool:
    """Verhoeff's check digit, by which every SNOMED CT identifier ends: one mistyped digit never passes."""
    turn = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    check = 0
    for place, digit in enumerate(reversed(code)):
        number = int(digit)
        for _ in range(place % 8):
            number = turn[number]
        a, b = check, number  # addition in the dihedral group of the pentagon
        rotated = (a + b) % 5 if a < 5 else (a - b) % 5
        check = rotated if (a < 5) == (b < 5) else rotated + 5
    return check == 0


@pytest.mark.parametrize(
    ("written", "known", "meant"),
    [
        ("gall bladder", ("bladder", "gallbladder"), "gallbladder"),
        ("postcava", ("portal_vein", "inferior_vena_cava"), "inferior_vena_cava"),
        ("spleeen", ("liver", "spleen"), "spleen"),
        ("kidney_left", ("kidney_right", "liver"), None),
        ("btvc", ("btcv", "lits"), "btcv"),
        ("kidney", ("kidney_left",), "kidney_left"),
    ],
)
def test_suggest(written, known, meant):
    assert suggest(written, known) == meant


def test_hints_speak_the_vocabulary():
    space = LabelSpace(classes=("gallbladder", "inferior_vena_cava"))
    assert "did you mean 'inferior_vena_cava'" in space.unknown("postcava")
    assert near_miss("gall bladder", space.classes) == " (did you mean 'gallbladder'?)"


def test_the_table_is_read_when_it_is_needed_only():
    code = "from nnunet_partial.labels import vocabulary; assert vocabulary._structures.cache_info().currsize == 0"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(
    st.sampled_from(canonical_names()), st.sampled_from((" ", "-", "_", "  ", ".")), st.booleans(), st.booleans(), st.booleans()
)
def test_spelling_does_not_matter(name, gap, upper, side_first, in_brackets):
    parts = name.split("_")
    where = [part for part in parts if part in ("left", "right")]
    rest = [part for part in parts if part not in ("left", "right")]
    said = [f"({part[0]})" if in_brackets else part for part in where]
    spelled = gap.join([*said, *rest] if side_first else [*rest, *said])
    assert canonical(spelled.upper() if upper else spelled) == name


@given(st.text(max_size=30))
def test_anything_may_be_asked(text):
    found = canonical(text)
    assert found is None or canonical(found) == found
    assert other_side(text) is None or side(other_side(text)) in ("left", "right") or re.search("left|right", text)
