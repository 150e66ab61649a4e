r"""The two paths of a ladder of latent vectors z_1 … z_L, of which z_1 is next to the row.

    up      e_l = block(e_{l−1}),  e_0 = W h
    down    d_L = W c,    z_l ~ N(μ_l(d_l), σ_l(d_l)²),    d_{l−1} = block(d_l + V_l z_l)
    out     parameters = W d_0

Blocks are residual, and their branches start at 0, as do μ_l and the change of σ_l from 1. A vector
z_l enters as u_l = (z_l − μ_l)/σ_l, which is standard normal: q is said relative to p.
Source: Sønderby et al. (2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.networks.blueprints import Residual, Shape
from genus.networks.layers import Linear

ONE = math.log(math.e - 1)  # softplus(ONE) = 1
LEAST = 1e-3  # of a scale
SMALL = 0.1  # share of the usual size that what tells q from p starts with


def scale(raw: Tensor) -> Tensor:
    """σ > 0, 1 where raw is 0."""
    return F.softplus(raw + ONE) + LEAST


def blocks(width: int, depth: int) -> nn.Sequential:
    """``depth`` residual blocks."""
    return nn.Sequential(*[Residual(width, "silu") for _ in range(depth)])


class Upward(nn.Module):
    """Features and a context → a place of every u, then e_1 … e_L, side by side.

    dims: the sizes of z_1 … z_L.
    """

    def __init__(
        self, in_shape: Shape, dims: Sequence[int], width: int, depth: int, context: int
    ) -> None:
        super().__init__()
        self.enter = Linear(math.prod(in_shape) + context, width)
        self.blocks = nn.ModuleList(blocks(width, depth) for _ in dims)
        self.place = Linear(width, sum(dims))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, …), (n, context) → (n, sum(dims) + L · width)."""
        x = x.flatten(1)
        e = F.silu(self.enter(x if context is None else torch.cat([x, context], 1)))
        seen = []
        for block in self.blocks:
            e = block(e)
            seen.append(e)
        return torch.cat([self.place(e), *seen], 1)


class Downward(nn.Module):
    """u_1 … u_L, side by side, and a context → parameters of the row."""

    def __init__(
        self, dims: Sequence[int], out_shape: Shape, width: int, depth: int, context: int
    ) -> None:
        super().__init__()
        self.dims, self.width = tuple(dims), width
        self.begin = nn.Parameter(torch.zeros(width))
        self.of_context = Linear(context, width) if context else None
        self.prior = nn.ModuleList(Linear(width, 2 * k, zero=True) for k in dims)
        self.enter = nn.ModuleList(Linear(k, width) for k in dims)
        self.blocks = nn.ModuleList(blocks(width, depth) for _ in dims)
        self.leave = nn.Sequential(nn.SiLU(), Linear(width, math.prod(out_shape)))
        self.shape = tuple(out_shape)

    def top(self, context: Tensor | None) -> Tensor:
        """d_L, (width,) or (n, width)."""
        return self.begin if self.of_context is None else self.begin + self.of_context(context)

    def step(self, layer: int, d: Tensor, u: Tensor) -> Tensor:
        """d_{l−1} from d_l and u_l, (..., width)."""
        mean, raw = self.prior[layer](d).chunk(2, -1)
        z = mean + scale(raw) * u
        out: Tensor = self.blocks[layer](d + self.enter[layer](z))
        return out

    def forward(self, u: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, sum(dims)), (n, context) → (n, *out_shape)."""
        d = self.top(context)
        parts = u.split(self.dims, -1)
        for layer in reversed(range(len(self.dims))):
            d = self.step(layer, d, parts[layer])
        return self.out(d)

    def out(self, d: Tensor) -> Tensor:
        """(..., width) → (..., *out_shape)."""
        p: Tensor = self.leave(d)
        return p.reshape(*p.shape[:-1], *self.shape)


class Apart(nn.Module):
    """What tells q(u_l | u_>l, x) from p: m and s of (d_l, e_l)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.of_d = nn.Sequential(nn.LayerNorm(width), Linear(width, width))
        self.of_e = Linear(width, width, bias=False)
        self.last = Linear(width, 2 * size)

    def forward(self, d: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """(..., width), (n, width) → m and raw s, (..., size) each."""
        m, raw = self.last(F.silu(self.of_d(d) + self.of_e(e))).chunk(2, -1)
        return m, raw
