"""A network whose rows are the columns of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genus.networks.activations import ACTIVATIONS, InPlaceReLU
from genus.networks.context import Beside, Layers
from genus.networks.layers import Linear


class Transposed:
    """A network of vectors that takes and gives rows as the columns of a matrix.

    Coordinate by coordinate in memory, narrow layers multiply faster, and coordinates are taken
    without a stride. An MLP is computed so layer by layer; other networks are called as they are.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        # of an MLP: each layer, and the activation that follows it
        self.layers: list[tuple[nn.Linear, nn.Module]] = []
        if not isinstance(network, Layers):
            return
        first, *layers, last = network
        plain = all(type(m) in (Linear, InPlaceReLU, *ACTIVATIONS.values()) for m in layers)
        if isinstance(first, Beside) and isinstance(last, nn.Unflatten) and plain:
            activations = [*layers[1::2], nn.Identity()]
            self.layers = list(zip(layers[::2], activations, strict=True))  # type: ignore[arg-type]

    def __call__(self, x: Tensor, *context: Tensor) -> Tensor:
        """(n_in, n), and a context (n, c) where the network takes one → (n_out, n)."""
        if not self.layers:
            out: Tensor = self.network(x.t(), *context)
            return out.flatten(1).t().contiguous()
        if context:
            x = torch.cat([x, context[0].t()])
        for layer, act in self.layers:
            x = act.forward(torch.addmm(layer.bias.unsqueeze(1), layer.weight, x))
        return x
