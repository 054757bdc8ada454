"""The features from which a network's last convolution makes logits, read while it runs."""

from torch import Tensor, nn


class LastFeatures:
    """Keeps what goes into a network's last 1 x 1 convolution until it is taken; the network itself stays as it is.

    Args:
        network: One of nnU-Net's U-Nets, without what torch.compile and DDP wrap around it; to be given before its first run,
            because a compiled network does not look for hooks again.
    Raises:
        NotImplementedError: the network has no `decoder.seg_layers`.
    """

    def __init__(self, network: nn.Module):
        self._features: Tensor | None = None
        last_layer(network).register_forward_pre_hook(self._keep)

    def take(self) -> Tensor:
        """The features of the last run, (B, channels, *S); they are kept no longer."""
        features, self._features = self._features, None
        assert features is not None, "the network has not run since its features were taken"
        return features

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]


def last_layer(network: nn.Module) -> nn.Module:
    """The 1 x 1 convolution that makes logits of full resolution.

    Raises:
        NotImplementedError: the network has no `decoder.seg_layers` as nnU-Net's U-Nets have.
    """
    layers = getattr(getattr(network, "decoder", None), "seg_layers", None)
    if not layers:
        raise NotImplementedError(
            f"{type(network).__name__} has no decoder.seg_layers, so its last features cannot be found; branches, dropout and "
            "learned confidence work on nnU-Net's U-Nets alone (rounds: --criterion mcp needs no such features)"
        )
    return layers[-1]
