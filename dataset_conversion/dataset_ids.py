"""nnU-Net finds a dataset by its id: no two folders beside each other may have one."""

from pathlib import Path


def same_id_faults(folder: Path) -> list[str]:
    """Why a dataset cannot have this folder: others beside it with its id."""
    prefix = folder.name.split("_", 1)[0]
    return [
        f"'{other}' has the same id; choose another id, or remove it"
        for other in sorted(folder.parent.glob(f"{prefix}_*"))
        if other != folder
    ]
