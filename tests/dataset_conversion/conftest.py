"""The pool that most tests of conversion start from."""

from pathlib import Path

import pytest
from native_sources import write_btcv, write_kits19, write_lits, write_msd, write_pool, write_tcia


@pytest.fixture
def five_sources(tmp_path, monkeypatch) -> Path:
    """A pool file over five sources of two cases each; one path holds a variable, the others are relative to the file."""
    data = tmp_path / "data"
    write_btcv(data / "btcv")
    write_lits(data / "lits")
    write_tcia(data / "tcia")
    write_msd(data / "Task09_Spleen")
    write_kits19(data / "kits19")
    monkeypatch.setenv("TEST_CONVERSION_DATA", str(data))
    return write_pool(
        data / "abdomen.yaml",
        [
            {"source": "btcv", "path": "btcv"},
            {"source": "lits", "path": "$TEST_CONVERSION_DATA/lits", "tumor": "merge"},
            {"source": "tcia_pancreas", "path": "tcia"},
            {"source": "msd", "path": "./Task09_Spleen"},
            {"source": "kits19", "path": "kits19"},
        ],
    )
