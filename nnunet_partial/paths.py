"""Where nnU-Net keeps things: its three folders, and the one in which it finds our trainers."""

import os
from pathlib import Path

FOLDER_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
TRAINER_VARIABLE = "nnUNet_extTrainer"
TRAINER_FOLDER = Path(__file__).parent / "ext_trainers"


def nnunet_folder(variable: str) -> Path:
    """The folder an nnU-Net variable names.

    Raises:
        SystemExit: the variable is not set; the message says how to set it.
    """
    value = os.environ.get(variable)
    if not value:
        raise SystemExit(
            f"{variable} is not set; say where nnU-Net may keep its files, such as\n  export {variable}=$HOME/nnunet/{variable}"
        )
    return Path(value).expanduser()


def offer_trainers() -> None:
    """Add our trainers to the ones nnU-Net finds, in this process and the ones it starts."""
    known = [entry for entry in os.environ.get(TRAINER_VARIABLE, "").split(os.pathsep) if entry]
    if str(TRAINER_FOLDER) not in known:
        os.environ[TRAINER_VARIABLE] = os.pathsep.join([*known, str(TRAINER_FOLDER)])
