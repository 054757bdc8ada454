"""How large organs can be, and in how many parts: bounds so wide that what lies outside is an error of scale or of labels.

The lower bound is about a tenth of the reference adult's organ, for children, atrophy and resection; the upper one is several
times it, for disease (polycystic kidneys, splenomegaly, tumours drawn as part of the organ) and for what can be filled. Reference
masses, at about 1 g per ml: ICRP Publication 89 (2002), table 2.8, man and woman: liver 1800 and 1400 g, spleen 150 and 130, both
kidneys 310 and 275, pancreas 140 and 120, both adrenals 14 and 13, lungs with blood 1200 and 950 (several times that in ml, with
air), heart with blood 840 and 620, brain 1450 and 1300, oesophagus 40 and 35, stomach wall 150 and 140, small intestine 650 and
600, thyroid 20 and 17, prostate 17, uterus 80. Vessels: length times cross section. What is not in the table is not judged.
"""

from typing import NamedTuple

from nnunet_partial.labels.vocabulary import canonical, canonical_names, host_organ, members, other_side


class Plausible(NamedTuple):
    """Bounds for one structure.

    Attributes:
        low_ml: A whole organ is not smaller; one that the scan cuts may be.
        high_ml: It is not larger.
        parts: Connected components it has; None where they are not counted (bowel, vessels).
    """

    low_ml: float
    high_ml: float
    parts: int | None = 1


_BOUNDS = {
    "liver": Plausible(200, 6000),
    "spleen": Plausible(15, 4000),
    "kidney_left": Plausible(15, 2500),
    "pancreas": Plausible(5, 600),
    "gallbladder": Plausible(0.5, 500),
    "stomach": Plausible(20, 4000),
    "esophagus": Plausible(0.5, 200),
    "duodenum": Plausible(5, 500),
    "small_bowel": Plausible(50, 5000, None),
    "intestine": Plausible(50, 6000, None),
    "colon": Plausible(30, 5000, None),
    "rectum": Plausible(3, 1500),
    "adrenal_gland_left": Plausible(0.2, 150),
    "bladder": Plausible(3, 2500),
    "prostate": Plausible(3, 500),
    "uterus": Plausible(5, 3000),
    "aorta": Plausible(2, 1200, 2),  # a scan that begins below the arch has the ascending and the descending part
    "inferior_vena_cava": Plausible(2, 400),
    "superior_vena_cava": Plausible(1, 100),
    "portal_vein": Plausible(0.5, 150, None),
    "splenic_vein": Plausible(0.5, 100, None),
    "portal_and_splenic_vein": Plausible(1, 200, None),
    "trachea": Plausible(3, 150),
    "thyroid_gland": Plausible(1, 400, 2),
    "lung_left": Plausible(100, 5000),
    "lung_upper_lobe_left": Plausible(20, 3000),
    "lung_lower_lobe_left": Plausible(20, 3000),
    "lung_middle_lobe_right": Plausible(10, 1500),
    "heart": Plausible(80, 2500),
    "left_atrium": Plausible(5, 600),
    "brain": Plausible(400, 2200),
    "hippocampus_anterior": Plausible(0.2, 6),
    "hippocampus_posterior": Plausible(0.2, 6),
    "femur_left": Plausible(10, 900),
    "hip_left": Plausible(20, 900),
    "sacrum": Plausible(10, 600),
} | {name: Plausible(1, 200) for name in canonical_names() if name.startswith("vertebrae_")}


def plausible(classes: tuple[str, ...]) -> Plausible | None:
    """Bounds for what stands under one label id; None where any of it has none.

    Several classes under one id are any or all of them: the least of the lower bounds, the sum of the upper ones. A tumour under
    the id of its organ changes nothing, the organ's bounds are for both.
    """
    names = [canonical(name) for name in classes]
    organs = [name for name in names if name is None or host_organ(name) not in names]
    return _together([_of(name) for name in organs])


def _of(name: str | None) -> Plausible | None:
    if name is None:
        return None
    own = _BOUNDS.get(name) or _BOUNDS.get(other_side(name) or "")
    return own or (_together([_of(part) for part in members(name)]) if members(name) else None)


def _together(bounds: list[Plausible | None]) -> Plausible | None:
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds):
        return None
    parts = [bound.parts for bound in known]
    return Plausible(
        min(bound.low_ml for bound in known),
        sum(bound.high_ml for bound in known),
        None if None in parts else sum(parts),
    )
