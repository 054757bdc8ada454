"""The public datasets the converter can read; a new one is a module beside this one and a line here."""

from nnunet_partial.dataset_conversion import (
    abdomenatlas,
    abdomenct1k,
    amos22,
    btcv,
    flare22,
    kits,
    kits19,
    lits,
    msd,
    tcia_pancreas,
    word,
)

_ALL = (
    abdomenatlas.SOURCE,
    abdomenct1k.SOURCE,
    amos22.SOURCE_CT,
    amos22.SOURCE_MR,
    btcv.SOURCE,
    flare22.SOURCE,
    kits19.SOURCE,
    kits.SOURCE_2021,
    kits.SOURCE_2023,
    lits.SOURCE,
    msd.SOURCE,
    tcia_pancreas.SOURCE,
    word.SOURCE,
)
SOURCES = {source.key: source for source in _ALL}
