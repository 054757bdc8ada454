"""An iteration of the confidence network's training, in multiples of an iteration of the segmentation network's.

    python -m benchmarks.confidence --patch 64 --reps 3 --threads 1 --clock cpu

The segmentation network is nnU-Net's plain U-Net as it plans it for 3D full resolution (features 32 to 320), the head sits on its
32 last features. An iteration is forward, loss, backward and an optimiser step on a batch of two patches; that of the confidence
network has the segmentation network's forward in it, which says what is true. *prediction* is what ranking adds to a tile: the
confidence network's forward beside the segmentation network's. Variants run in shuffled order; a ratio is formed within each
repetition; shown are median and quartiles.
"""

import argparse
import random
import statistics
from collections.abc import Callable

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from benchmarks.ratios import CLOCKS, machine
from nnunet_partial.losses import AmbiguityLoss
from nnunet_partial.losses.confidence import confidence_loss
from nnunet_partial.losses.log_odds import binary_log_odds
from nnunet_partial.networks import ConfidenceModel
from nnunet_partial.networks.confidence import PAPER_WIDTHS
from nnunet_partial.targets import PartialTarget

FEATURES = (32, 64, 128, 256, 320)
WIDTHS = {"default (2, 1, 1, 1 times 32)": None, "half of it": (32, 16, 16, 16), "paper (400, 120, 64, 64)": PAPER_WIDTHS}


def segmentation_network(num_organs: int) -> nn.Module:
    """nnU-Net's plain U-Net."""
    return PlainConvUNet(
        input_channels=1,
        n_stages=len(FEATURES),
        features_per_stage=FEATURES,
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=(1, *[2] * (len(FEATURES) - 1)),
        n_conv_per_stage=(2,) * len(FEATURES),
        num_classes=num_organs + 1,
        n_conv_per_stage_decoder=(2,) * (len(FEATURES) - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    )


def target_of(num_organs: int, patch: int) -> PartialTarget:
    """One fully annotated case, one in which the last organ was not looked for."""
    labels = torch.randint(0, num_organs, (2, 1, *[patch] * 3), dtype=torch.int16)
    tables = torch.eye(num_organs + 1, dtype=torch.bool).repeat(2, 1, 1)
    annotated = torch.ones(2, num_organs + 1, dtype=torch.bool)
    tables[1, 0, -1], annotated[1, -1] = True, False
    return PartialTarget(labels, tables, annotated)


def segmentation_step(network: nn.Module, image: torch.Tensor, target: PartialTarget) -> Callable[[], None]:
    """One iteration of the segmentation network."""
    loss, optimizer = AmbiguityLoss(weight_dice=1.0), torch.optim.SGD(network.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network.train()(image), target).backward()
        optimizer.step()

    return step


def confidence_step(network: nn.Module, model: ConfidenceModel, image: torch.Tensor, target: PartialTarget) -> Callable[[], None]:
    """One iteration of the confidence network, as `rounds` trains it."""
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], 1e-4)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            log_odds = binary_log_odds(network.eval()(image))
        confidence_loss(model(image, log_odds > 0), log_odds, target).backward()
        optimizer.step()

    return step


def prediction(network: nn.Module, image: torch.Tensor) -> Callable[[], None]:
    """A forward pass of one patch."""

    @torch.inference_mode()
    def step() -> None:
        network.eval()(image[:1])

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--organs", type=int, default=13)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network, image, target = (
        segmentation_network(args.organs),
        torch.randn(2, 1, *[args.patch] * 3),
        target_of(args.organs, args.patch),
    )
    training = {"segmentation": segmentation_step(network, image, target)}
    predicting = {"segmentation": prediction(network, image)}
    for name, widths in WIDTHS.items():
        for mode in ("finetuned", "frozen"):
            model = ConfidenceModel(network, args.organs, binary_log_odds, widths=widths, frozen=mode == "frozen")
            training[f"{name}, {mode}"] = confidence_step(network, model, image, target)
            predicting[f"{name}, {mode}"] = prediction(model, image)
    print(f"patch {args.patch}, {args.organs} organs, {args.threads} threads, {args.clock} clock; {machine()}")
    iteration, tile = (ratios(variants, args.reps, CLOCKS[args.clock]) for variants in (training, predicting))
    print("| confidence network | training iteration | prediction of a tile |\n|---|---:|---:|")
    for name in iteration:
        print(f"| {name} | {iteration[name]} | {tile[name]} |")


def ratios(variants: dict[str, Callable[[], None]], reps: int, clock: Callable[[], float]) -> dict[str, str]:
    """Median [quartiles] of each variant's time over the segmentation network's of the same repetition."""
    for run in variants.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in variants if name != "segmentation"}
    for _ in range(reps):
        seconds = {}
        for name in random.sample(list(variants), len(variants)):
            began = clock()
            variants[name]()
            seconds[name] = clock() - began
        for name in found:
            found[name].append(seconds[name] / seconds["segmentation"])
    return {name: quartiles(values) for name, values in found.items()}


def quartiles(values: list[float]) -> str:
    """'1.23 [1.20, 1.30]'."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
