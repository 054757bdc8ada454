"""The sources the converter can read: public datasets, each a module beside this one and a line here, and source files."""

import os
from pathlib import Path

from nnunet_partial.dataset_conversion.listing import ConversionError, Source
from nnunet_partial.dataset_conversion.own_data.own_source import own_source
from nnunet_partial.dataset_conversion.own_data.source_file import is_source_file
from nnunet_partial.dataset_conversion.sources import (
    abdomenatlas,
    abdomenct1k,
    amos22,
    btcv,
    chaos,
    flare22,
    kits,
    kits19,
    lits,
    msd,
    nnunet_raw,
    tcia_pancreas,
    totalsegmentator,
    word,
)
from nnunet_partial.labels.space import near_miss

_ALL = (
    abdomenatlas.SOURCE,
    abdomenct1k.SOURCE,
    amos22.SOURCE_CT,
    amos22.SOURCE_MR,
    btcv.SOURCE,
    *chaos.SOURCES,
    flare22.SOURCE,
    kits19.SOURCE,
    kits.SOURCE_2021,
    kits.SOURCE_2023,
    lits.SOURCE,
    msd.SOURCE,
    nnunet_raw.SOURCE,
    tcia_pancreas.SOURCE,
    totalsegmentator.SOURCE,
    word.SOURCE,
)
SOURCES = {source.key: source for source in _ALL}


def find_source(name: str, folder: Path, root: Path) -> Source:
    """The source that a pool names: a public dataset, or a source file.

    Args:
        name: A key of `SOURCES`, or the path of a source file.
        folder: Where a relative path begins.
        root: Where the source's cases lie.

    Raises:
        ConversionError: there is no such source, or its file has faults; all are listed.
    """
    if is_source_file(name):
        return own_source(expanded(name, folder), root)
    if name not in SOURCES:
        raise ConversionError(
            f"unknown source '{name}'{near_miss(name, SOURCES)}; known are {', '.join(SOURCES)}, and source files (.yaml)"
        )
    return SOURCES[name]


def expanded(written: str, folder: Path) -> Path:
    """A path as a user wrote it, with variables and `~` filled in, relative to a folder."""
    return (folder / Path(os.path.expandvars(written)).expanduser()).resolve()
