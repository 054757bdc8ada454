"""The one exception of this room, and how long lists are said in a message."""

from collections.abc import Sequence


class LabelError(ValueError):
    """Labels, protocols or a manifest that contradict themselves or each other; `faults` lists every fault found."""

    def __init__(self, faults: str | Sequence[str], *, where: str = ""):
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        head = f"{where}: " if where else ""
        if len(self.faults) == 1:
            super().__init__(head + self.faults[0])
        else:
            super().__init__(head + f"{len(self.faults)} faults:\n" + "\n".join(f"  - {fault}" for fault in self.faults))


def first_of(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and dots where there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
