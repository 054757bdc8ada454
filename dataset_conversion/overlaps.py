"""Sources that hold the same scans: one scan would be trained on and validated on."""

from collections.abc import Mapping, Set


def overlap_sentences(scans: Mapping[str, Set[str]]) -> list[str]:
    """What every two sources of a pool have in common.

    Args:
        scans: Name of a source in the pool -> the collections (or folders) its scans belong to.
    """
    holders: dict[str, list[str]] = {}
    for name, collections in scans.items():
        for collection in sorted(collections):
            holders.setdefault(collection, []).append(name)
    shared: dict[tuple[str, ...], list[str]] = {}
    for collection, names in holders.items():
        if len(names) > 1:
            shared.setdefault(tuple(names), []).append(collection)
    return [f"sources {' and '.join(names)} hold the same scans ({', '.join(found)})" for names, found in shared.items()]
