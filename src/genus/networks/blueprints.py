"""Blueprints: how a network is described before its sizes are known.

A blueprint is a small frozen settings object. Called with the input and output shapes of one row,
and the size of a context (0: none), it makes an ``nn.Module``:

    network = blueprint(in_shape, out_shape, context=0)
    network(x, context=None)      x (n, *in_shape), context (n, context) → (n, *out_shape)

The context is one vector of time and conditions. Any callable of the same signature serves in place
of a blueprint; where there is no context, ``(in_shape, out_shape) -> nn.Module`` is enough.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from genus.networks.activations import ACTIVATIONS, activation_of
from genus.networks.context import Beside, FiLM, Layers
from genus.networks.layers import Conv2d, ConvTranspose2d, Dropout, Linear
from genus.settings import Flag, Function, Number, OneOf, Rule, Settings, Whole

Shape = tuple[int, ...]


Blueprint = Callable[..., nn.Module]


BLUEPRINT = Function("MLP(), Conv(), ResNet() or a callable (in_shape, out_shape) -> nn.Module,")


ACTIVATION = OneOf(*ACTIVATIONS)


@dataclass(frozen=True)
class MLP(Settings):
    """A multilayer perceptron: ``depth`` hidden layers of ``width`` units.

    Parameters
    ----------
    width : int, default=512
        Units of a hidden layer.
    depth : int, default=2
        Hidden layers; 0: a linear map.
    activation : str, default="relu"
        Such as ``relu``, ``silu`` or ``tanh``.
    dropout : float, default=0.0
        Share of the inputs of the first layer dropped while training, from 0 to
        1: a denoising regulariser.
    norm : bool, default=False
        Are the units of a hidden layer brought to mean 0 and variance 1, row by row, before their
        activation (layer normalisation; Ba, Kiros & Hinton, 2016)?

    Examples
    --------
    >>> import genus
    >>> genus.VAE(encoder=genus.MLP(128, 1)).get_params()["encoder__width"]
    128
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "width": Whole(1, 1 << 20),
        "depth": Whole(0, 1000),
        "activation": ACTIVATION,
        "dropout": Number(0, below=1),
        "norm": Flag(),
    }

    width: int = 512
    depth: int = 2
    activation: str = "relu"
    dropout: float = 0.0
    norm: bool = False

    def __call__(self, in_shape: Shape, out_shape: Shape, context: int = 0) -> nn.Module:
        self.check()
        sizes = [math.prod(in_shape) + context, *[self.width] * self.depth]
        layers: list[nn.Module] = [Beside()]
        if self.dropout:
            layers.append(Dropout(self.dropout))
        for a, b in itertools.pairwise(sizes):
            layers.append(Linear(a, b))
            if self.norm:
                layers.append(nn.LayerNorm(b))
            layers.append(activation_of(self.activation, own=True))
        last = Linear(sizes[-1], math.prod(out_shape))
        return Layers(*layers, last, nn.Unflatten(1, out_shape), context=context)


@dataclass(frozen=True)
class ResNet(Settings):
    """A residual perceptron: ``depth`` blocks x + W₂ φ(W₁ norm(x)) of ``width`` units.

    The last map of a block starts at 0, so that the network starts as if it had none.

    Parameters
    ----------
    width : int, default=256
        Units of a block.
    depth : int, default=2
        Blocks.
    activation : str, default="silu"
        Such as ``relu``, ``silu`` or ``tanh``.

    Examples
    --------
    >>> import torch, genus
    >>> network = genus.ResNet(16, 2)((3,), (2,))
    >>> network(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "width": Whole(1, 1 << 20),
        "depth": Whole(0, 1000),
        "activation": ACTIVATION,
    }

    width: int = 256
    depth: int = 2
    activation: str = "silu"

    def __call__(self, in_shape: Shape, out_shape: Shape, context: int = 0) -> nn.Module:
        self.check()
        blocks = [Residual(self.width, self.activation) for _ in range(self.depth)]
        first = Linear(math.prod(in_shape) + context, self.width)
        last = Linear(self.width, math.prod(out_shape))
        act = activation_of(self.activation)
        return Layers(
            Beside(), first, *blocks, act, last, nn.Unflatten(1, out_shape), context=context
        )


class Residual(nn.Module):
    """x + W₂ φ(W₁ norm(x)), at first x."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width),
            Linear(width, width),
            activation_of(activation),
            Linear(width, width, zero=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Conv(Settings):
    """A convolutional network on images (C, H, W): ``depth`` halvings, then one linear layer.

    Turned round (a vector in, an image out) it starts from the linear layer
    and doubles the resolution. A context is the scale and shift of its feature maps.

    Parameters
    ----------
    channels : int, default=32
        Features of the first layer; each next one has twice as many.
    depth : int, default=2
        Halvings of the resolution.
    activation : str, default="relu"
        Such as ``relu``, ``silu`` or ``tanh``.

    Examples
    --------
    >>> import torch, genus
    >>> network = genus.Conv(8, 2)((1, 28, 28), (10,))
    >>> network(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "channels": Whole(1, 1 << 14),
        "depth": Whole(0, 8),
        "activation": ACTIVATION,
    }

    channels: int = 32
    depth: int = 2
    activation: str = "relu"

    def __call__(self, in_shape: Shape, out_shape: Shape, context: int = 0) -> nn.Module:
        self.check()
        if len(in_shape) == 3:
            return self._down(in_shape, out_shape, context)
        if len(out_shape) == 3:
            return self._up(in_shape, out_shape, context)
        raise ValueError(
            f"Conv needs images (C, H, W) on one side, got {in_shape} and {out_shape}: "
            "use MLP, or a space with a layout"
        )

    def _sizes(self, h: int, w: int) -> list[tuple[int, int]]:
        sizes = [(h, w)]
        for _ in range(self.depth):
            h, w = (h + 1) // 2, (w + 1) // 2
            sizes.append((h, w))
        return sizes

    def _down(self, in_shape: Shape, out_shape: Shape, context: int) -> nn.Module:
        c, h, w = in_shape
        layers: list[nn.Module] = [] if self.depth else _modulated(context, c)
        for i in range(self.depth):
            width = self.channels * 2**i
            layers += [Conv2d(c, width, 3, stride=2, padding=1), *_modulated(context, width)]
            layers += [activation_of(self.activation)]
            c = width
        h, w = self._sizes(h, w)[-1]
        last = Linear(c * h * w, math.prod(out_shape))
        return Layers(*layers, nn.Flatten(), last, nn.Unflatten(1, out_shape), context=context)

    def _up(self, in_shape: Shape, out_shape: Shape, context: int) -> nn.Module:
        out, h, w = out_shape
        sizes = self._sizes(h, w)
        c = self.channels * 2 ** max(self.depth - 1, 0)
        h, w = sizes[-1]
        layers: list[nn.Module] = [
            nn.Flatten(),
            Linear(math.prod(in_shape), c * h * w),
            nn.Unflatten(1, (c, h, w)),
            *_modulated(context, c),
            activation_of(self.activation),
        ]
        for i in reversed(range(self.depth)):
            width = self.channels * 2 ** max(i - 1, 0)
            th, tw = sizes[i]
            extra = (th - (2 * h - 1), tw - (2 * w - 1))  # odd sizes: 7 → 13 or 14
            layers += [
                ConvTranspose2d(c, width, 3, stride=2, padding=1, output_padding=extra),
                *_modulated(context, width),
                activation_of(self.activation),
            ]
            c, h, w = width, th, tw
        return Layers(*layers, Conv2d(c, out, 3, padding=1), context=context)


@dataclass(frozen=True)
class SameConv(Settings):
    """A convolutional network from images to images of the same size.

    3 × 3, then ``depth`` of 1 × 1, then 3 × 3. A context is the scale and shift of the feature
    maps of all but the last.

    Parameters
    ----------
    width : int, default=64
        Features of a layer.
    depth : int, default=1
        Layers of 1 × 1.
    activation : str, default="relu"
        Such as ``relu``, ``silu`` or ``tanh``.

    Examples
    --------
    >>> import torch, genus
    >>> network = genus.SameConv(8)((1, 6, 6), (2, 6, 6))
    >>> network(torch.zeros(5, 1, 6, 6)).shape
    torch.Size([5, 2, 6, 6])
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "width": Whole(1, 1 << 14),
        "depth": Whole(0, 100),
        "activation": ACTIVATION,
    }

    width: int = 64
    depth: int = 1
    activation: str = "relu"

    def __call__(self, in_shape: Shape, out_shape: Shape, context: int = 0) -> nn.Module:
        self.check()
        check_one_size(self, in_shape, out_shape)
        layers: list[nn.Module] = [
            Conv2d(in_shape[0], self.width, 3, padding=1),
            *_modulated(context, self.width),
            activation_of(self.activation),
        ]
        for _ in range(self.depth):
            layers += [Conv2d(self.width, self.width, 1), *_modulated(context, self.width)]
            layers += [activation_of(self.activation)]
        return Layers(*layers, Conv2d(self.width, out_shape[0], 3, padding=1), context=context)


def check_one_size(blueprint: Settings, in_shape: Shape, out_shape: Shape) -> None:
    """Raise ValueError unless both are shapes of images (C, H, W) of one size."""
    if len(in_shape) != 3 or len(out_shape) != 3 or in_shape[1:] != out_shape[1:]:
        raise ValueError(
            f"{type(blueprint).__name__} needs images (C, H, W) of one size, "
            f"got {in_shape} and {out_shape}: use MLP"
        )


def _modulated(context: int, channels: int) -> list[nn.Module]:
    """What a context does to feature maps: nothing where there is none."""
    return [FiLM(context, channels)] if context else []
