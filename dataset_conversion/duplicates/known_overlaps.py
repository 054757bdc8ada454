"""Public datasets that are known to hold the same scans."""

_KNOWN_BY = {
    "LiTS": ("lits",),
    "Decathlon Task03": ("task03",),
    "Decathlon Task07": ("task07",),
    "Decathlon Task09": ("task09",),
    "TCIA Pancreas-CT": ("tcia_pancreas", "pancreas-ct", "pancreasct"),
    "KiTS19": ("kits19",),
    "AbdomenCT-1K": ("abdomenct-1k", "abdomenct1k", "abdomen_ct_1k"),
    "3D-IRCADb": ("ircad",),
}
_CONTAINED = {
    "AbdomenCT-1K": ("LiTS", "Decathlon Task03", "KiTS19", "Decathlon Task07", "Decathlon Task09", "TCIA Pancreas-CT"),
    "LiTS": ("3D-IRCADb",),
    "Decathlon Task03": ("3D-IRCADb",),
}


def known_overlap(first: str, second: str) -> str:
    """A sentence where two sources are known to share scans, else "".

    Args:
        first: What is known of a source: its converter, its name, its path.
        second: The same of the other.
    """
    one, other = _collection(first), _collection(second)
    if {one, other} == {"LiTS", "Decathlon Task03"}:
        return "LiTS and Decathlon Task03 are the same scans"
    for whole, part in ((one, other), (other, one)):
        if part in _CONTAINED.get(whole, ()):
            return f"{part} is contained in {whole}"
    return ""


def _collection(words: str) -> str:
    words = words.lower()
    return next((name for name, keys in _KNOWN_BY.items() if any(key in words for key in keys)), "")
