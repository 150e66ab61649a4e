"""The U-Net: images to images of the same size, seen at several resolutions.

    patch   squares of p × p places become features of one, H/p × W/p of them
    down    blocks at this size, then at half of it, …, twice the feature maps at the first halving
    middle  a block, attention between all places, a block
    up      back again; each resolution sees the features of the way down beside its own

A block is h + conv(φ(FiLM(norm(conv(φ(norm(h))))))), and starts as the identity; FiLM is the scale
and shift that a context has learned to set. Sources: Ronneberger, Fischer & Brox (2015); Ho, Jain &
Abbeel (2020); patches: Hoogeboom, Heek & Salimans (2023).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.networks.attention import attended
from genus.networks.blueprints import Shape, check_one_size
from genus.networks.context import FiLM
from genus.networks.layers import Conv2d, Linear
from genus.settings import Rule, Settings, Whole

LEAST = 4  # the side below which images are not halved
MOST = 16  # the shorter side above which a U-Net sees patches, where these fit
GROUPS = 8  # of feature maps that are normalised together, at most


@dataclass(frozen=True)
class UNet(Settings):
    """A U-Net on images (C, H, W), with attention at its lowest resolution.

    Parameters
    ----------
    channels : int, default=32
        Features at the full resolution, and twice as many below it.
    depth : int or None, default=None
        Halvings of the resolution. None: as long as the shorter side stays at least 4, and at most
        3; 8 × 8 has one, and 28 × 28 in patches of 2 has one.
    blocks : int, default=1
        Residual blocks a resolution, on the way down and on the way up.
    patch : int or None, default=None
        p of squares of p × p places that are seen as one: p² times fewer places to compute. None:
        the least of 1, 2, 4, 8 that leaves the shorter side at most 16 and divides both sides.

    Examples
    --------
    >>> import torch, genus
    >>> network = genus.UNet(8)((1, 8, 8), (1, 8, 8), context=3)
    >>> network(torch.zeros(5, 1, 8, 8), torch.zeros(5, 3)).shape
    torch.Size([5, 1, 8, 8])
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "channels": Whole(1, 1 << 14),
        "depth": Whole(0, 8) | None,
        "blocks": Whole(1, 100),
        "patch": Whole(1, 64) | None,
    }

    channels: int = 32
    depth: int | None = None
    blocks: int = 1
    patch: int | None = None

    def __call__(self, in_shape: Shape, out_shape: Shape, context: int = 0) -> nn.Module:
        self.check()
        check_one_size(self, in_shape, out_shape)
        p = patch_of(*in_shape[1:]) if self.patch is None else self.patch
        if any(side % p for side in in_shape[1:]):
            raise ValueError(
                f"UNet(patch={p}) needs sides that {p} divides, got {in_shape[1:]}: set another "
                "patch, or None"
            )
        depth = halvings(min(in_shape[1:]) // p) if self.depth is None else self.depth
        n_in, n_out = in_shape[0] * p * p, out_shape[0] * p * p
        network = _UNet(n_in, n_out, self.channels, depth, self.blocks, context)
        return network if p == 1 else _Patched(network, p)


def patch_of(*sides: int) -> int:
    """The least patch that leaves the shorter side at most 16: 1 of 14, 2 of 28, 4 of 64."""
    fit = [p for p in (1, 2, 4, 8) if all(side % p == 0 for side in sides)]
    return next((p for p in fit if min(sides) <= MOST * p), fit[-1])


def halvings(side: int) -> int:
    """How often a side is halved: 1 of 8, 2 of 28, at most 3."""
    return max(0, min(3, int(math.log2(max(side, 1) / LEAST))))


class _Patched(nn.Module):
    """A network on images of which each place holds a square of p × p."""

    def __init__(self, network: nn.Module, p: int) -> None:
        super().__init__()
        self.network, self.p = network, p

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, C, H, W), (n, context) → (n, C', H, W)."""
        out: Tensor = self.network(F.pixel_unshuffle(x, self.p), context)
        return F.pixel_shuffle(out, self.p)


class _UNet(nn.Module):
    def __init__(
        self, n_in: int, n_out: int, width: int, depth: int, blocks: int, context: int
    ) -> None:
        super().__init__()
        widths = [width] + [2 * width] * depth
        size = 4 * width if context else 0
        self.context = context
        if context:
            self.embed = nn.Sequential(Linear(context, size), nn.SiLU(), Linear(size, size))
        self.first = Conv2d(n_in, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        c = width
        for i, w in enumerate(widths):
            if i:
                self.shrink.append(Conv2d(c, c, 3, stride=2, padding=1))
            self.down.append(_Blocks([c] + [w] * blocks, size))
            c = w
        self.middle = nn.ModuleList([_Block(c, c, size), _Attention(c), _Block(c, c, size)])
        for i, w in reversed(list(enumerate(widths))):
            self.up.append(_Blocks([c + w] + [w] * blocks, size))
            c = w
            if i:
                self.grow.append(Conv2d(c, c, 3, padding=1))
        self.last = nn.Sequential(_norm(c), nn.SiLU(), Conv2d(c, n_out, 3, padding=1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, C, H, W), (n, context) → (n, C', H, W)."""
        size = 0 if context is None else context.shape[1]
        if size != self.context:
            raise ValueError(
                f"this network takes a context of {self.context} numbers a row, and got {size}"
            )
        c = None if context is None else F.silu(self.embed(context))
        h, seen = self.first(x), []
        for i, blocks in enumerate(self.down):
            if i:
                h = self.shrink[i - 1](h)
            h = blocks(h, c)
            seen.append(h)
        h = self.middle[0](h, c)
        h = self.middle[2](self.middle[1](h), c)
        for i, blocks in enumerate(self.up):
            beside = seen.pop()
            if i:
                h = self.grow[i - 1](F.interpolate(h, size=beside.shape[2:], mode="nearest"))
            h = torch.cat([h, beside], 1)
            h = blocks(h, c)
        out: Tensor = self.last(h)
        return out


class _Blocks(nn.Module):
    """Blocks one after another, from so many feature maps to the next so many."""

    def __init__(self, widths: list[int], context: int) -> None:
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.blocks = nn.ModuleList(_Block(a, b, context) for a, b in pairs)

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        for block in self.blocks:
            h = block(h, context)
        return h


class _Block(nn.Module):
    """h + conv(φ(FiLM(norm(conv(φ(norm(h))))))); a 1 × 1 goes past where sizes change."""

    def __init__(self, n_in: int, n_out: int, context: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(n_in), Conv2d(n_in, n_out, 3, padding=1)
        self.film = FiLM(context, n_out) if context else None
        self.norm2, self.conv2 = _norm(n_out), Conv2d(n_out, n_out, 3, padding=1, zero=True)
        self.past = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        a = self.norm2(self.conv1(F.silu(self.norm1(h))))
        if self.film is not None:
            a = self.film(a, context)
        out: Tensor = self.past(h) + self.conv2(F.silu(a))
        return out


class _Attention(nn.Module):
    """h + attention between all places of the image; it starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.heads = max(1, channels // 32)
        while channels % self.heads:
            self.heads -= 1
        self.qkv = Linear(channels, 3 * channels, bias=False)
        self.out = Linear(channels, channels, zero=True)

    def forward(self, h: Tensor) -> Tensor:
        n, c, height, width = h.shape
        places = self.norm(h).flatten(2).mT  # (n, H W, c)
        q, k, v = self.qkv(places).reshape(n, -1, 3, self.heads, c // self.heads).unbind(2)
        a = attended(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        a = self.out(a.transpose(1, 2).reshape(n, -1, c))
        return h + a.mT.reshape(n, c, height, width)


def _norm(channels: int) -> nn.GroupNorm:
    """Feature maps normalised in groups of at least four."""
    groups = max(1, min(GROUPS, channels // 4))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)
