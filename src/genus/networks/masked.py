"""A perceptron in which each output sees the coordinates before its own alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genus.networks.activations import activation_of
from genus.networks.layers import Linear
from genus.settings import Whole


class MaskedMLP(nn.Module):
    """A perceptron whose outputs for coordinate j see the coordinates before j alone.

    Germain et al. (2015). (n, d) → (n, each, d). Hidden units have degrees up to d − 1 in rising
    order: one of degree m sees the first m coordinates and units of degree ≤ m, and is seen by
    the outputs of coordinates ≥ m. Outputs start at 0. All units of the first layer see a
    context (n, context) as well; without, none has degree 0. backwards: the last coordinate
    comes first. Weights outside the masks are 0 at the start and learn nothing; whoever sets
    weights by hand keeps them 0.
    """

    def __init__(
        self,
        d: int,
        each: int,
        width: int,
        depth: int,
        activation: str = "relu",
        context: int = 0,
        backwards: bool = False,
    ) -> None:
        super().__init__()
        Whole(1, 1 << 20).check("width", width, of="MLP")
        Whole(1, 1000).check("depth", depth, of="MLP")
        self.d, self.each, self.backwards = d, each, backwards
        self.act = activation_of(activation, own=True)
        least = 0 if context or d == 1 else 1
        degrees = [least + i * (d - least) // width for i in range(width)]
        degree = torch.tensor(degrees)
        place = self.turned(torch.arange(d), 0)
        seen = [place + 1, *[degree] * depth]
        shown = [*[degree] * depth, place.repeat(each)]
        sizes = [d, *[width] * depth, d * each]
        self.layers = nn.ModuleList(
            Linear(a, b, zero=i == depth) for i, (a, b) in enumerate(itertools.pairwise(sizes))
        )
        for layer, a, b in zip(self.layers, seen, shown, strict=True):
            layer.register_buffer("mask", (b[:, None] >= a).float(), persistent=False)
        # units that become known with each coordinate
        self.sizes = [degrees.count(j) for j in range(d)]
        self.given = Linear(context, width, bias=False) if context else None

    def turned(self, x: Tensor, dim: int) -> Tensor:
        """What lies along dim in the order in which coordinates become known."""
        return x.flip(dim) if self.backwards else x

    def parts(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias (·, 1) of every layer.

        Masked weights start at 0; to stay there it is enough that they get no gradient.
        """
        parts: list[tuple[Tensor, Tensor]] = []
        for layer in self.layers:
            weight, bias, mask = (getattr(layer, name) for name in ("weight", "bias", "mask"))
            if torch.is_grad_enabled():
                weight = weight * mask
            parts.append((weight.to(dtype), bias.unsqueeze(1).to(dtype)))
        return parts

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """(n, d) → (n, each, d)."""
        return self.transposed(x.t(), *context).view(self.each, self.d, len(x)).movedim(-1, 0)

    def transposed(self, x: Tensor, *context: Tensor) -> Tensor:
        """(d, n) → (each · d, n), in the precision of x."""
        *hidden, (last, shift) = self.parts(x.dtype)
        for i, (weight, bias) in enumerate(hidden):
            x = torch.addmm(bias, weight, x)
            x = self.act(x if i or self.given is None else x + self.given(*context).t())
        return torch.addmm(shift, last, x)

    def in_order(
        self,
        z: Tensor,
        inverse: Callable[[Tensor, Tensor], Tensor],
        *context: Tensor,
        bound: float = math.inf,
    ) -> Tensor:
        """y (d, n) with y_j = ``inverse``(z_j, outputs for j (each, n)), in turn.

        Each unit is computed once, when it is known.

        bound: the network sees coordinates clamped to ± this.
        """
        *hidden, (last, shift) = self.parts(z.dtype)
        hidden[0] = (self.turned(hidden[0][0], 1), hidden[0][1])
        layers = [(weight.split(self.sizes), bias.split(self.sizes)) for weight, bias in hidden]
        weights, shifts = (v.reshape(self.each, self.d, -1).unbind(1) for v in (last, shift))
        told = None if self.given is None else self.given(*context).T.split(self.sizes)
        known = _Grown if torch.is_grad_enabled() else _Filled
        seen, units = known([1] * self.d, z), [known(self.sizes, z) for _ in layers]
        rows, y = z.unbind(0), [z[0]] * self.d
        for k, j in enumerate(range(self.d)[:: -1 if self.backwards else 1]):
            below = seen
            for i, (weight, bias) in enumerate(layers if self.sizes[k] else ()):
                more = below.times(weight[k], bias[k])
                units[i].add(self.act(more if i or told is None else more + told[k]))
                below = units[i]
            y[j] = inverse(rows[j], units[-1].times(weights[j], shifts[j]))
            seen.add(nn.functional.hardtanh(y[j], -bound, bound)[None])
        return torch.stack(y)


class _Filled:
    """Coordinates (d, n) that become known in blocks, written in place over zeros."""

    def __init__(self, sizes: list[int], like: Tensor) -> None:
        self.known = like.new_zeros(sum(sizes), like.shape[1])
        self.next = iter(self.known.split([s for s in sizes if s]))

    def add(self, new: Tensor) -> None:
        next(self.next).copy_(new)

    def times(self, weight: Tensor, bias: Tensor) -> Tensor:
        """W x + b, where what is not known yet has weight 0."""
        return torch.addmm(bias, weight, self.known)


class _Grown:
    """The same where a gradient is wanted: copied as they grow."""

    def __init__(self, sizes: list[int], like: Tensor) -> None:
        self.known = like.new_empty(0, like.shape[1])

    def add(self, new: Tensor) -> None:
        self.known = torch.cat([self.known, new])

    def times(self, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, weight[:, : len(self.known)], self.known)
