"""Layers whose weights a model draws from its own generator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """nn.Linear that draws nothing from the global random state; ``zero=True`` starts it at 0."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True, zero: bool = False) -> None:
        super().__init__(n_in, n_out, bias)
        self.zero = zero

    def reset_parameters(self) -> None:
        """Left to :func:`initialise`."""


class Conv2d(nn.Conv2d):
    """nn.Conv2d that draws nothing from the global random state; ``zero=True`` starts it at 0."""

    def __init__(self, *args: Any, zero: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zero = zero

    def reset_parameters(self) -> None:
        """Left to :func:`initialise`."""


class ConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d that draws nothing from the global random state."""

    def reset_parameters(self) -> None:
        """Left to :func:`initialise`."""


class Dropout(nn.Module):
    """Dropout whose mask comes from the generator that the model lends it while training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rng: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        keep = torch.rand(x.shape, generator=self.rng, device=x.device) >= self.p
        return x * keep / (1 - self.p)


def initialise(network: nn.Module, rng: torch.Generator) -> nn.Module:
    """Draw the weights of genus's own layers from N(0, 2/fan-in) (He et al., 2015).

    Those outside a mask, and biases, are 0.
    """
    for layer in network.modules():
        if isinstance(layer, Dropout):
            layer.rng = rng
        if not isinstance(layer, Linear | Conv2d | ConvTranspose2d) or layer.weight.is_meta:
            continue
        fan_in = (
            layer.weight[0].numel()
            if not isinstance(layer, ConvTranspose2d)
            else layer.weight[:, 0].numel()
        )
        with torch.no_grad():
            layer.weight.normal_(
                0,
                0.0 if getattr(layer, "zero", False) else math.sqrt(2 / max(fan_in, 1)),
                generator=rng,
            )
            layer.weight *= getattr(layer, "mask", 1)
            if layer.bias is not None:
                layer.bias.zero_()
    return network


def output_layer(network: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The last layer with weights, which puts out what the network is for."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else None
