"""A training that goes on from another network's weights, and its validation.

    python -m benchmarks.train fine_tune DATASET FOLD TRAINER INITIAL_CHECKPOINT OUTPUT_FOLDER --epochs 10

nnUNetv2_train's -pretrained_weights leaves out the last layers; this takes all of them, as a round of pseudo-labels does.
"""

import argparse
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from benchmarks.trainings import CONFIGURATION, PLANS
from nnunet_partial.training.fine_tuning import FineTuning


def main() -> None:
    """Train, or go on where a killed training stopped, and predict the fold's validation cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("dataset", "fold", "trainer", "initial_checkpoint", "output_folder"):
        parser.add_argument(name, type=int if name == "fold" else str)
    parser.add_argument("--plans", default=PLANS)
    parser.add_argument("--npz", action="store_true", help="keep the probabilities of the validation cases")
    parser.add_argument("--alone", action="store_true", help="on fully annotated cases alone")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    cpu = torch.device("cpu")
    trainer = get_trainer_from_args(args.dataset, CONFIGURATION, args.fold, args.trainer, args.plans, True, cpu)
    output_folder = Path(args.output_folder)
    trainer.fine_tune(FineTuning(Path(args.initial_checkpoint), output_folder, args.epochs, args.lr))
    if args.alone:
        trainer.settings = trainer.settings.model_copy(update={"stage_one_epochs": args.epochs})
    is_trained = (output_folder / "checkpoint_final.pth").exists()
    maybe_load_checkpoint(trainer, continue_training=not is_trained, validation_only=is_trained)
    if not is_trained:
        trainer.run_training()
    trainer.perform_actual_validation(save_probabilities=args.npz)


if __name__ == "__main__":
    main()
