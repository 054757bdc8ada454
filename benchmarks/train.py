"""A command that trains, as the studies run it on a CPU: a thread a process, and half precision where asked.

    python -m benchmarks.train [--half] nnUNetv2_train|nnunet_partial|fine_tune ARGUMENTS

nnUNetv2_train takes a thread for every core, and trainings side by side that do would wait for each other. --half is nnU-Net's
half precision, which it has on a GPU alone, in bfloat16; and the weights of convolutions have their channels last. A step of
training takes about two thirds of the time with it (an AMD EPYC with AVX-512 BF16, the studies' tiny plan). Losses compute in
float32 with it, as they do on a GPU; validation cases are predicted in float32.
"""

import sys
from importlib import import_module

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from benchmarks.trainings import HALF

COMMANDS = {
    "nnUNetv2_train": ("nnunetv2.run.run_training", "run_training_entry"),
    "nnunet_partial": ("nnunet_partial.cli", "main"),
    "fine_tune": ("benchmarks.study.fine_tune", "main"),
}


def main() -> None:
    """Run the command."""
    torch.set_num_threads = lambda threads: None
    arguments = sys.argv[1:]
    if HALF in arguments[:1]:
        train_in_half_precision()
        arguments = arguments[1:]
    if not arguments or arguments[0] not in COMMANDS:
        raise SystemExit(__doc__)
    module, function = COMMANDS[arguments[0]]
    sys.argv = arguments
    sys.exit(getattr(import_module(module), function)())


def train_in_half_precision() -> None:
    """Every trainer's steps under autocast, and its network's channels last, from here on."""
    initialize = nnUNetTrainer.initialize

    def initialize_in_half_precision(trainer: nnUNetTrainer) -> None:
        initialize(trainer)
        for parameter in trainer.network.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        for name in ("train_step", "validation_step"):
            setattr(trainer, name, torch.autocast(trainer.device.type, torch.bfloat16)(getattr(trainer, name)))

    nnUNetTrainer.initialize = initialize_in_half_precision


if __name__ == "__main__":
    main()
