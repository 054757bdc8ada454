"""What the structures of the body are called: one canonical name each, its synonyms, code, sides, members and host organ.

The table is vocabulary.json: the organs of the public datasets we know, the 117 classes of TotalSegmentator v2, and tumours. An
entry that is `sided` stands for three names: the left one, the right one, and their union, which is what "kidney" without a side
means. Names are those of this project where it had one (`bladder`, `portal_and_splenic_vein`, `vertebrae_l5`: classes are in
lower case); other datasets' names are synonyms.

Codes are SNOMED CT, as the public mapping tables of TotalSegmentator and of its 3D Slicer extension give them, which follow the
context groups of DICOM PS3.16; where these two differ, or name a region in place of the organ (hip), there is none here. Rectum,
uterus, hippocampus, portal and splenic vein are not in those tables: their codes are those of PS3.16's anatomic regions.
"""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("vocabulary.json")
SIDES = ("left", "right")
_SIDE_OF = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_SIDE_CODES = {"left": "7771000", "right": "24028007"}
_SPELLINGS = {
    "tumour": "tumor",
    "oesophagus": "esophagus",
    "oesophageal": "esophageal",
    "neoplasm": "tumor",
    "carcinoma": "cancer",
}
_FILLERS = frozenset(("organ", "the", "of"))


class Snomed(NamedTuple):
    """A SNOMED CT code as DICOM segmentations write it: the thing, the side it is on, and for a tumour the organ it is in."""

    code: str
    meaning: str
    side_code: str | None = None
    region_code: str | None = None


@dataclass(frozen=True)
class _Structure:
    synonyms: tuple[str, ...]
    code: Snomed | None
    members: tuple[str, ...]
    host: str | None


def canonical_names() -> tuple[str, ...]:
    """Every canonical name."""
    return tuple(_structures())


def canonical(name: str) -> str | None:
    """The canonical name of a structure, None where the vocabulary does not know it.

    Case, spaces, hyphens and plural do not matter, nor where the side stands and how it is said.
    """
    return _names().get(_key(name))


def snomed(name: str) -> Snomed | None:
    """The code of a structure, None where it is unknown or has none we are sure of."""
    structure = _structure(name)
    host = snomed(structure.host) if structure and structure.host else None
    code = structure.code if structure else None
    return code._replace(region_code=host.code) if code and host else code


def members(name: str) -> tuple[str, ...]:
    """What a union is made of, one level down ("kidney": both kidneys); nothing for other structures."""
    structure = _structure(name)
    return structure.members if structure else ()


def host_organ(name: str) -> str | None:
    """The organ in which a tumour, a cyst or a vessel of an organ lies; its voxels belong to that organ."""
    structure = _structure(name)
    return structure.host if structure else None


def other_side(name: str) -> str | None:
    """The same structure on the other side, spelled as `name` is where it says left or right; None where it has no other side.

    A structure the vocabulary does not know is taken at its word: foo_left has foo_right.
    """
    ours, swapped = canonical(name), _swapped(name)
    if ours is None:
        return swapped
    other = _swapped(ours)
    if other is None or other not in _structures():
        return None
    return swapped if swapped is not None and canonical(swapped) == other else other


def side(name: str) -> str | None:
    """'left', 'right', or None."""
    return _split_side(canonical(name) or name)[0]


def other_side_among(name: str, known: Iterable[str]) -> str | None:
    """Which of the known names is the other side of this one, however both are spelled."""
    known = tuple(known)
    other = other_side(name)
    if other is None or other in known:
        return other
    ours = canonical(other)
    return next((candidate for candidate in known if ours is not None and canonical(candidate) == ours), None)


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Which of the known names was probably meant: the same structure by another name, else the nearest spelling."""
    known = tuple(known)
    ours = canonical(name)
    same = [candidate for candidate in known if ours is not None and canonical(candidate) == ours]
    if same:
        return same[0]
    mirrored = other_side_among(name, known)  # nearly the same letters, the wrong organ
    spelled = {word.replace(" ", "_").lower(): word for word in known if word != mirrored}
    near = difflib.get_close_matches(name.replace(" ", "_").lower(), spelled, n=1)
    return spelled[near[0]] if near else None


def _swapped(name: str) -> str | None:
    """The name with left for right and right for left, None where it says neither."""
    swapped = "".join({"left": "right", "right": "left"}.get(word, word) for word in re.split(r"([^A-Za-z0-9])", name))
    return swapped if swapped != name else None


def _structure(name: str) -> _Structure | None:
    ours = canonical(name)
    return _structures()[ours] if ours else None


@cache
def _structures() -> dict[str, _Structure]:
    """The table, with sided entries taken apart and every structure's other side looked up."""
    found: dict[str, _Structure] = {}
    for name, entry in json.loads(TABLE.read_text(encoding="utf-8")).items():
        pattern, host = entry.get("sided"), entry.get("host")
        sided = {where: pattern.format(side=where) for where in SIDES} if pattern else {}
        code = Snomed(*entry["snomed"]) if "snomed" in entry else None
        synonyms = tuple(entry.get("synonyms", ()))
        own_side = None if entry.get("side_in_code") else _split_side(name)[0]
        found[name] = _Structure(
            synonyms, _on_side(code, own_side), tuple(sided.values()) or tuple(entry.get("members", ())), host
        )
        for where, sided_name in sided.items():
            spelled = _sided_synonyms((name, *synonyms), where)
            found[sided_name] = _Structure(spelled, _on_side(code, where), (), f"{host}_{where}" if host else None)
    return found


def _on_side(code: Snomed | None, where: str | None) -> Snomed | None:
    return code and code._replace(side_code=_SIDE_CODES.get(where or ""))


def _sided_synonyms(names: Iterable[str], where: str) -> tuple[str, ...]:
    """A name on one side: 'kidney left', and 'lkidney' as some datasets write."""
    return tuple(spelled for name in names for spelled in (f"{name} {where}", f"{where[0]}{name}"))


@cache
def _names() -> dict[str, str]:
    """Key of every name and synonym -> canonical name; canonical names come first, so that no synonym takes one over."""
    structures = _structures()
    found = {_key(name): name for name in structures}
    for name, structure in structures.items():
        for synonym in structure.synonyms:
            found.setdefault(_key(synonym), name)
    return found


def _key(name: str) -> str:
    """What all spellings of a name share: the side first, then the words without plural, spaces and fillers."""
    where, words = _split_side(name)
    return f"{where or ''}:" + "".join(words)


def _split_side(name: str) -> tuple[str | None, list[str]]:
    """The side, if exactly one is said, and the other words."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and word not in _FILLERS]
    said = [_SIDE_OF[word] for word in words if word in _SIDE_OF]
    if len(said) != 1:
        return None, [_singular(word) for word in words]
    return said[0], [_singular(word) for word in words if word not in _SIDE_OF]


def _singular(word: str) -> str:
    """A stem, not a word: both sides of a comparison go through it ('pancreas' becomes 'pancrea' twice)."""
    word = _SPELLINGS.get(word, _SPELLINGS.get(word.removesuffix("s"), word))
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith("ae"):
        return word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
