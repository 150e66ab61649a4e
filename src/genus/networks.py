"""Blueprints: how a network is described before its sizes are known.

A blueprint is a small frozen settings object; called with the input and output shapes of one row it
makes an ``nn.Module``. Any callable ``(in_shape, out_shape) -> nn.Module`` serves in its place.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import numbers
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
Network = Callable[[Shape, Shape], nn.Module]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


class Settings:
    """Frozen dataclass with scikit-learn's ``get_params``, so that ``model__encoder__width`` can be searched."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every field and its value."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def replace(self, **changes: Any) -> Any:
        """A copy with some fields changed."""
        known = self.get_params()
        for name in changes:
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no field {name!r}: choose from {', '.join(known)}")
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _activation(name: str, own: bool = False) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is unknown: choose from {', '.join(ACTIVATIONS)}")
    return _InPlace() if own and name == "relu" else ACTIVATIONS[name]()


class _InPlace(nn.ReLU):
    """ReLU of what a layer has just made, and has no other use for."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_()


def _within(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= int(value) <= high:
        raise ValueError(f"{name}={value!r}: an integer from {low} to {high} is needed")


@dataclass(frozen=True)
class MLP(Settings):
    """A multilayer perceptron: ``depth`` hidden layers of ``width`` units.

    ``dropout`` drops inputs of the first layer while training (a denoising regulariser, from 0 to 1).
    """

    width: int = 512
    depth: int = 2
    activation: str = "relu"
    dropout: float = 0.0

    def __call__(self, in_shape: Shape, out_shape: Shape) -> nn.Module:
        _within("MLP(width)", self.width, 1, 1 << 20)
        _within("MLP(depth)", self.depth, 0, 1000)
        sizes = [math.prod(in_shape), *[self.width] * self.depth]
        layers: list[nn.Module] = [nn.Flatten()]
        if self.dropout:
            layers.append(Dropout(self.dropout))
        for a, b in itertools.pairwise(sizes):
            layers += [Linear(a, b), _activation(self.activation, own=True)]
        return nn.Sequential(*layers, Linear(sizes[-1], math.prod(out_shape)), nn.Unflatten(1, out_shape))


@dataclass(frozen=True)
class ResNet(Settings):
    """A residual perceptron: ``depth`` blocks x + W₂ φ(W₁ norm(x)) of ``width`` units; the last map starts at 0."""

    width: int = 256
    depth: int = 2
    activation: str = "silu"

    def __call__(self, in_shape: Shape, out_shape: Shape) -> nn.Module:
        _within("ResNet(width)", self.width, 1, 1 << 20)
        _within("ResNet(depth)", self.depth, 0, 1000)
        blocks = [_Residual(self.width, self.activation) for _ in range(self.depth)]
        first = Linear(math.prod(in_shape), self.width)
        last = Linear(self.width, math.prod(out_shape))
        return nn.Sequential(nn.Flatten(), first, *blocks, _activation(self.activation), last, nn.Unflatten(1, out_shape))


class _Residual(nn.Module):
    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(width), Linear(width, width), _activation(activation), Linear(width, width, zero=True))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Conv(Settings):
    """A convolutional network on images (C, H, W): ``depth`` halvings of the resolution, then one linear layer.

    Turned round (a vector in, an image out) it starts from the linear layer and doubles the resolution.
    """

    channels: int = 32
    depth: int = 2
    activation: str = "relu"

    def __call__(self, in_shape: Shape, out_shape: Shape) -> nn.Module:
        _within("Conv(channels)", self.channels, 1, 1 << 14)
        _within("Conv(depth)", self.depth, 0, 8)
        if len(in_shape) == 3:
            return self._down(in_shape, out_shape)
        if len(out_shape) == 3:
            return self._up(in_shape, out_shape)
        raise ValueError(f"Conv needs images (C, H, W) on one side, got {in_shape} and {out_shape}: use MLP, or a space with a layout")

    def _sizes(self, h: int, w: int) -> list[tuple[int, int]]:
        sizes = [(h, w)]
        for _ in range(self.depth):
            h, w = (h + 1) // 2, (w + 1) // 2
            sizes.append((h, w))
        return sizes

    def _down(self, in_shape: Shape, out_shape: Shape) -> nn.Module:
        c, h, w = in_shape
        layers: list[nn.Module] = []
        width = self.channels
        for i in range(self.depth):
            width = self.channels * 2**i
            layers += [Conv2d(c, width, 3, stride=2, padding=1), _activation(self.activation)]
            c = width
        h, w = self._sizes(h, w)[-1]
        return nn.Sequential(*layers, nn.Flatten(), Linear(c * h * w, math.prod(out_shape)), nn.Unflatten(1, out_shape))

    def _up(self, in_shape: Shape, out_shape: Shape) -> nn.Module:
        out, h, w = out_shape
        sizes = self._sizes(h, w)
        c = self.channels * 2 ** max(self.depth - 1, 0)
        h, w = sizes[-1]
        layers: list[nn.Module] = [
            nn.Flatten(),
            Linear(math.prod(in_shape), c * h * w),
            nn.Unflatten(1, (c, h, w)),
            _activation(self.activation),
        ]
        for i in reversed(range(self.depth)):
            width = self.channels * 2 ** max(i - 1, 0)
            th, tw = sizes[i]
            extra = (th - (2 * h - 1), tw - (2 * w - 1))  # odd sizes: 7 → 13 or 14
            layers += [ConvTranspose2d(c, width, 3, stride=2, padding=1, output_padding=extra), _activation(self.activation)]
            c, h, w = width, th, tw
        return nn.Sequential(*layers, Conv2d(c, out, 3, padding=1))


@dataclass(frozen=True)
class SameConv(Settings):
    """A convolutional network from images to images of the same size: 3 × 3, then ``depth`` of 1 × 1, then 3 × 3."""

    width: int = 64
    depth: int = 1
    activation: str = "relu"

    def __call__(self, in_shape: Shape, out_shape: Shape) -> nn.Module:
        _within("SameConv(width)", self.width, 1, 1 << 14)
        _within("SameConv(depth)", self.depth, 0, 100)
        if len(in_shape) != 3 or len(out_shape) != 3 or in_shape[1:] != out_shape[1:]:
            raise ValueError(f"SameConv needs images (C, H, W) of one size, got {in_shape} and {out_shape}: use MLP")
        layers: list[nn.Module] = [Conv2d(in_shape[0], self.width, 3, padding=1), _activation(self.activation)]
        for _ in range(self.depth):
            layers += [Conv2d(self.width, self.width, 1), _activation(self.activation)]
        return nn.Sequential(*layers, Conv2d(self.width, out_shape[0], 3, padding=1))


class MaskedMLP(nn.Module):
    """A multilayer perceptron whose outputs for coordinate j see the coordinates before j alone (Germain et al., 2015).

    (n, d) → (n, each, d). Hidden units have degrees up to d − 1 in rising order: one of degree m sees the first m
    coordinates and units of degree ≤ m, and is seen by the outputs of coordinates ≥ m. Outputs start at 0. All units of the
    first layer see conditions (n, given) as well; without, none has degree 0. backwards: the last coordinate comes first.
    Weights outside the masks are 0 at the start and learn nothing; whoever sets weights by hand keeps them 0.
    """

    def __init__(
        self, d: int, each: int, width: int, depth: int, activation: str = "relu", given: int = 0, backwards: bool = False
    ) -> None:
        super().__init__()
        _within("MLP(width)", width, 1, 1 << 20)
        _within("MLP(depth)", depth, 1, 1000)
        self.d, self.each, self.backwards = d, each, backwards
        self.act = _activation(activation, own=True)
        least = 0 if given or d == 1 else 1
        degrees = [least + i * (d - least) // width for i in range(width)]
        degree = torch.tensor(degrees)
        place = self.turned(torch.arange(d), 0)
        seen = [place + 1, *[degree] * depth]
        shown = [*[degree] * depth, place.repeat(each)]
        sizes = [d, *[width] * depth, d * each]
        self.layers = nn.ModuleList(Linear(a, b, zero=i == depth) for i, (a, b) in enumerate(itertools.pairwise(sizes)))
        for layer, a, b in zip(self.layers, seen, shown, strict=True):
            layer.register_buffer("mask", (b[:, None] >= a).float(), persistent=False)
        self.sizes = [degrees.count(j) for j in range(d)]  # units that become known with each coordinate
        self.given = Linear(given, width, bias=False) if given else None

    def turned(self, x: Tensor, dim: int) -> Tensor:
        """What lies along dim in the order in which coordinates become known."""
        return x.flip(dim) if self.backwards else x

    def parts(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias (·, 1) of every layer. Masked weights start at 0; to stay there it is enough that they get no gradient."""
        parts: list[tuple[Tensor, Tensor]] = [(m.weight, m.bias.unsqueeze(1)) for m in self.layers]  # type: ignore[misc,operator]
        if torch.is_grad_enabled():
            parts = [(weight * m.mask, bias) for m, (weight, bias) in zip(self.layers, parts, strict=True)]  # type: ignore[operator]
        return parts if parts[0][0].dtype == dtype else [(weight.to(dtype), bias.to(dtype)) for weight, bias in parts]

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """(n, d) → (n, each, d)."""
        return self.columns(x.t(), *given).view(self.each, self.d, len(x)).movedim(-1, 0)

    def columns(self, x: Tensor, *given: Tensor) -> Tensor:
        """(d, n) → (each · d, n), in the precision of x."""
        *hidden, (last, shift) = self.parts(x.dtype)
        for i, (weight, bias) in enumerate(hidden):
            x = torch.addmm(bias, weight, x)
            x = self.act(x if i or self.given is None else x + self.given(*given).t())
        return torch.addmm(shift, last, x)

    def in_order(self, z: Tensor, inverse: Callable[[Tensor, Tensor], Tensor], *given: Tensor, bound: float = math.inf) -> Tensor:
        """y (d, n) with y_j = ``inverse``(z_j, outputs for j (each, n)), in turn: each unit is computed once, when it is known.

        bound: the network sees coordinates clamped to ± this.
        """
        *hidden, (last, shift) = self.parts(z.dtype)
        hidden[0] = (self.turned(hidden[0][0], 1), hidden[0][1])
        layers = [(weight.split(self.sizes), bias.split(self.sizes)) for weight, bias in hidden]
        weights, shifts = (v.reshape(self.each, self.d, -1).unbind(1) for v in (last, shift))
        context = None if self.given is None else self.given(*given).T.split(self.sizes)
        known = _Grown if torch.is_grad_enabled() else _Filled
        seen, units = known([1] * self.d, z), [known(self.sizes, z) for _ in layers]
        rows, y = z.unbind(0), [z[0]] * self.d
        for k, j in enumerate(range(self.d)[:: -1 if self.backwards else 1]):
            below = seen
            for i, (weight, bias) in enumerate(layers if self.sizes[k] else ()):
                more = below.times(weight[k], bias[k])
                units[i].add(self.act(more if i or context is None else more + context[k]))
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


# ---------------------------------------------------------------------- layers whose weights are drawn by initialise()


class Linear(nn.Linear):
    """nn.Linear that draws nothing from the global random state; ``zero=True`` starts it at 0."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True, zero: bool = False) -> None:
        super().__init__(n_in, n_out, bias)
        self.zero = zero

    def reset_parameters(self) -> None:
        """Left to :func:`initialise`."""


class Conv2d(nn.Conv2d):
    """nn.Conv2d that draws nothing from the global random state."""

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
        if not 0 <= p < 1:
            raise ValueError(f"dropout={p}: a number from 0 up to 1 is needed")
        self.p = p
        self.rng: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        keep = torch.rand(x.shape, generator=self.rng, device=x.device) >= self.p
        return x * keep / (1 - self.p)


def initialise(network: nn.Module, rng: torch.Generator) -> nn.Module:
    """Draw the weights of genus's own layers from N(0, 2/fan-in), those outside a mask and biases 0 (He et al., 2015)."""
    for layer in network.modules():
        if isinstance(layer, Dropout):
            layer.rng = rng
        if not isinstance(layer, Linear | Conv2d | ConvTranspose2d) or layer.weight.is_meta:
            continue
        fan_in = layer.weight[0].numel() if not isinstance(layer, ConvTranspose2d) else layer.weight[:, 0].numel()
        with torch.no_grad():
            layer.weight.normal_(0, 0.0 if getattr(layer, "zero", False) else math.sqrt(2 / max(fan_in, 1)), generator=rng)
            layer.weight *= getattr(layer, "mask", 1)
            if layer.bias is not None:
                layer.bias.zero_()
    return network


class Columns:
    """A network of vectors that takes rows as the columns of a matrix, (n_in, n) → (n_out, n).

    Coordinate by coordinate in memory, narrow layers multiply faster, and coordinates are taken without a stride.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.layers: list[tuple[nn.Linear, nn.Module]] = []  # of an MLP, with activations; other networks are called as they are
        layers = list(network) if isinstance(network, nn.Sequential) else []
        if len(layers) > 2 and isinstance(layers[0], nn.Flatten) and isinstance(layers[-1], nn.Unflatten):
            layers = layers[1:-1]
            if all(type(m) in (Linear, _InPlace, *ACTIVATIONS.values()) for m in layers):
                self.layers = list(zip(layers[::2], [*layers[1::2], nn.Identity()], strict=True))  # type: ignore[arg-type]

    def __call__(self, x: Tensor) -> Tensor:
        if not self.layers:
            out: Tensor = self.network(x.t())
            return out.flatten(1).t().contiguous()
        for layer, act in self.layers:
            x = act.forward(torch.addmm(layer.bias.unsqueeze(1), layer.weight, x))
        return x


def output_layer(network: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The last layer with weights, which puts out what the network is for."""
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else None


_GLOBAL = threading.Lock()


def construct(blueprint: Network, in_shape: Shape, out_shape: Shape, rng: torch.Generator) -> nn.Module:
    """Make the network. A caller's own callable may draw from torch's global state, which is put back after."""
    if isinstance(blueprint, Settings):
        return initialise(blueprint(in_shape, out_shape), rng)
    if not callable(blueprint):
        raise TypeError(f"{blueprint!r} is no blueprint: pass MLP(), Conv(), ResNet() or a callable (in_shape, out_shape) -> nn.Module")
    with _GLOBAL:
        before = torch.random.get_rng_state()
        try:
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng, device="cpu")))
            return initialise(blueprint(in_shape, out_shape), rng)
        finally:
            torch.random.set_rng_state(before)
