"""Spectral normalisation: a layer whose weight is divided by its largest singular value.

    W / σ(W),    σ(W) = max |W v| / |v|,    by power iteration  v ← Wᵀu/|Wᵀu|,  u ← Wv/|Wv|

A network of such layers and of activations of slope 1 has slopes of at most 1. A convolution's
weight is taken as a matrix of its output channels (Miyato, Kataoka, Koyama & Yoshida, 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.networks.layers import initialise

FIRST = 30  # iterations before training, and after
TINY = 1e-12


class SpectralNorm(nn.Module):
    """A linear or convolutional layer with its weight over the largest singular value.

    u (outputs,) stays from step to step and is improved by one iteration at every forward pass
    while training. rng: draws its start, after the weights are drawn.
    """

    u_: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d, rng: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        u = torch.empty(len(layer.weight))
        if not u.is_meta:
            u.normal_(generator=rng)
        self.register_buffer("u_", u)
        self.settle()

    @torch.no_grad()
    def settle(self, iterations: int = FIRST) -> None:
        """Improve u for the weight as it is, as after a change that no step made."""
        W = self.layer.weight.flatten(1)
        u = self.u_
        for _ in range(iterations):
            v = F.normalize(W.T @ u, dim=0, eps=TINY)
            u = F.normalize(W @ v, dim=0, eps=TINY)
        if not u.is_meta and u.any():  # else the weight is 0, and u waits for another
            self.u_.copy_(u)

    def norm(self) -> Tensor:
        """σ(W), with its gradient ∂σ/∂W = u vᵀ."""
        W = self.layer.weight.flatten(1)
        u = self.u_.clone()
        v = F.normalize(W.detach().T @ u, dim=0, eps=TINY)
        return u @ W @ v

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.settle(1)
        W = self.layer.weight / self.norm().clamp_min(TINY)
        if isinstance(self.layer, nn.Conv2d):
            return self.layer._conv_forward(x, W, self.layer.bias)
        return F.linear(x, W, self.layer.bias)


def with_spectral_norm(network: nn.Module, rng: torch.Generator) -> nn.Module:
    """The network with every linear and convolutional layer over its largest singular value.

    A layer that starts at 0 has no direction, and starts as the others do.
    """
    if isinstance(network, nn.Linear | nn.Conv2d):
        if getattr(network, "zero", False):
            network.zero = False  # type: ignore[assignment]
            initialise(network, rng)
        return SpectralNorm(network, rng)
    for name, child in network.named_children():
        setattr(network, name, with_spectral_norm(child, rng))
    return network
