"""Patterns such as `images/{case}_0000.nii.gz`: which files belong to which case."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CASE = "{case}"
_ANY_FOLDERS = "**/"


@dataclass(frozen=True)
class CasePattern:
    """A path relative to a source's folder, in which `{case}` stands for the case and `*` for any part of a name.

    `**/` stands for any folders; hidden files, and those that begin with `_`, match nothing.
    """

    text: str

    @property
    def faults(self) -> list[str]:
        """Why this cannot be such a pattern."""
        faults = []
        if CASE not in self.text:
            faults.append(f"'{self.text}' holds no {CASE}, the place where the name of the case stands")
        if PurePosixPath(self.text).is_absolute() or ".." in PurePosixPath(self.text).parts or "~" in self.text:
            faults.append(f"'{self.text}' must be relative to the source's path, and below it")
        return faults

    def find(self, root: Path) -> dict[str, list[Path]]:
        """The files and folders that match, by case."""
        found: dict[str, list[Path]] = {}
        for path in sorted(root.glob(re.sub(r"[?\[]", r"[\g<0>]", self.text.replace(CASE, "*")))):
            case = self.case_of(path, root)
            if case is not None:
                found.setdefault(case, []).append(path)
        return found

    def case_of(self, path: Path, root: Path) -> str | None:
        """The case a path belongs to, None where it does not match."""
        relative = path.relative_to(root)
        if any(part.startswith((".", "_")) for part in relative.parts):
            return None
        match = re.fullmatch(self._expression(), relative.as_posix())
        return match["case"] if match else None

    def _expression(self) -> str:
        parts = []
        for part in re.split(r"(\{case\}|\*\*/|\*)", self.text):
            if part == CASE:
                parts.append("(?P=case)" if any("?P<case>" in before for before in parts) else r"(?P<case>[^/]+?)")
            else:
                parts.append({_ANY_FOLDERS: "(?:.*/)?", "*": "[^/]*"}.get(part, re.escape(part)))
        return "".join(parts)
