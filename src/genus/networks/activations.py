"""Activations by their names."""

from __future__ import annotations

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


class InPlaceReLU(nn.ReLU):
    """ReLU of what a layer has just made, and has no other use for."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_()


def activation_of(name: str, own: bool = False) -> nn.Module:
    """The activation of that name. own: does nobody else use what it is applied to?"""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is unknown: choose from {', '.join(ACTIVATIONS)}")
    return InPlaceReLU() if own and name == "relu" else ACTIVATIONS[name]()
