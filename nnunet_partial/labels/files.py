"""Files that are either whole or not there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` with the same ending; renamed to it when the block ends well, removed when it does not."""
    path = Path(path)
    ending = "".join(path.suffixes[-2:])  # writers choose their format by it
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{ending}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write text as UTF-8 so that no reader ever sees half a file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(content: Any, path: Path) -> None:
    """Write JSON as `write_text` does; same content, same bytes."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path)
