"""What several rooms' tests need: the real CT where it is at hand, and a small dataset that can be trained on in seconds."""

import os
from pathlib import Path

import pytest
from phantom_dataset import set_nnunet_folders, write_small_dataset

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CT: NNUNET_PARTIAL_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("NNUNET_PARTIAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "btcv").is_dir():
        pytest.skip(f"no real CT at {folder}; set NNUNET_PARTIAL_DATA to its folder")
    return folder


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch) -> Path:
    """nnU-Net's three folders below a fresh one, and few workers."""
    return set_nnunet_folders(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory) -> Path:
    """A root with the three folders: nine cases of 24 x 24 x 24 voxels, three protocols, planned tiny and preprocessed."""
    from nnunet_partial.cli import main

    root = tmp_path_factory.mktemp("small_dataset")
    write_small_dataset(root / "nnUNet_raw" / "Dataset701_Small")
    with pytest.MonkeyPatch.context() as patch:
        set_nnunet_folders(root, patch)
        settings = ["num_epochs=2", "num_iterations_per_epoch=2", "num_val_iterations_per_epoch=1", "save_every=1"]
        assert main(["plan", "-d", "701", "--tiny", "-np", "1", "-c", "3d_fullres", "2d", "--set", *settings]) == 0
    return root
