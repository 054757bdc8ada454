"""What several rooms' tests need: the real CT where it is at hand, and a small dataset that can be trained on in seconds."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from phantom_dataset import set_nnunet_folders, write_small_dataset
from several_annotators import add_annotators

ROOT = Path(__file__).parents[1]
settings.register_profile("any machine", deadline=None)  # a busy one takes longer, and is not wrong for it
settings.load_profile("any machine")


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
    root = tmp_path_factory.mktemp("small_dataset")
    write_small_dataset(root / "nnUNet_raw" / "Dataset701_Small")
    return planned(root, "701", "3d_fullres", "2d")


@pytest.fixture(scope="session")
def annotators_dataset(tmp_path_factory) -> Path:
    """The same with three annotators of every fully annotated case."""
    root = tmp_path_factory.mktemp("annotators_dataset")
    write_small_dataset(root / "nnUNet_raw" / "Dataset702_Readers")
    add_annotators(root / "nnUNet_raw" / "Dataset702_Readers")
    return planned(root, "702", "3d_fullres", "2d")


def planned(root: Path, dataset: str, *configurations: str) -> Path:
    """Plan and preprocess the dataset below a root, for trainings of two epochs of two iterations."""
    from nnunet_partial.cli import main

    with pytest.MonkeyPatch.context() as patch:
        set_nnunet_folders(root, patch)
        settings = ["num_epochs=2", "num_iterations_per_epoch=2", "num_val_iterations_per_epoch=1", "save_every=1"]
        assert main(["plan", "-d", dataset, "--tiny", "-np", "1", "-c", *configurations, "--set", *settings]) == 0
    return root
