"""A dataset that the trainers of this folder may train on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from phantom_dataset import offered_copy


@pytest.fixture
def root(small_dataset, tmp_path, monkeypatch) -> Path:
    """A copy of the planned dataset, with our trainers offered to nnU-Net."""
    torch.manual_seed(0)
    np.random.seed(0)
    return offered_copy(small_dataset, tmp_path, monkeypatch)
