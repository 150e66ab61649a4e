"""Causal attention, and where a cell stands: the parts of a transformer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.networks.layers import Dropout, Linear

NEAR = 0.3  # of a random vector that is added to what begins on a line or a grid


class Block(nn.Module):
    """h + attention(norm(h)), then h + perceptron(norm(h)); both start at 0."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = Linear(width, 3 * width, bias=False), Linear(width, width, zero=True)
        self.up, self.down = Linear(width, 4 * width), Linear(4 * width, width, zero=True)
        self.drop = Dropout(dropout)

    def forward(
        self, h: Tensor, turns: tuple[Tensor, ...] = (), cache: tuple[Tensor, int] | None = None
    ) -> Tensor:
        """(n, T, width) → the same.

        cache: (keys and values (2, n, heads, d, m) of the steps so far, their number).
        """
        n, T, w = h.shape
        q, k, v = (
            self.qkv(self.norm1(h)).reshape(n, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        )
        if turns:
            q, k = turned(q, turns[0]), turned(k, turns[1])
        if cache is not None:
            store, t = cache
            store[0, :, :, t : t + T], store[1, :, :, t : t + T] = k, v
            k, v = store[:, :, :, : t + T].unbind()
        a = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        h = h + self.drop(self.out(a.transpose(1, 2).reshape(n, T, w)))
        out: Tensor = h + self.drop(self.down(F.gelu(self.up(self.norm2(h)))))
        return out


def turned(q: Tensor, angle: Tensor) -> Tensor:
    """Pairs of coordinates of q (n, heads, T, m) turned by angles (1 or n, T, m/2)."""
    a, b = q.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = angle.cos()[:, None].to(q.dtype), angle.sin()[:, None].to(q.dtype)
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def places(image: tuple[int, int, int] | None, d: int, w: int, rng: torch.Generator) -> Tensor:
    """Vectors to begin with for each cell, (d, w).

    In images they are near the sum of one for the row and one for the column.
    """
    each = torch.randn(d, w, generator=rng)
    if image:
        rows, columns = (
            torch.randn(image[1], 1, w, generator=rng),
            torch.randn(1, image[2], w, generator=rng),
        )
        each = NEAR * each + ((rows + columns) / math.sqrt(2)).reshape(-1, w).repeat(image[0], 1)
    return each


def angles_of(image: tuple[int, int, int] | None, d: int, pairs: int) -> Tensor:
    """By how much each cell turns each pair, (d + 1, pairs); the last is the start.

    Frequencies from 1 down, by turns for row and column.
    """
    if image:
        c, h, w = image
        place = torch.cartesian_prod(torch.arange(h), torch.arange(w)).repeat(c, 1)
    else:
        place = torch.arange(d)[:, None]
    place = torch.cat([place, -torch.ones_like(place[:1])]).double()
    axes = place.shape[1]
    i = torch.arange(pairs)
    return (place[:, i % axes] * 1e4 ** (-(i // axes) * axes / max(pairs, 1))).float()


def at(h: Tensor, order: Tensor) -> Tensor:
    """h (n, d, …) at the cells (1 or n, T)."""
    if len(order) == 1:
        return h[:, order[0]]
    return h.gather(
        1, order.reshape(*order.shape, *[1] * (h.dim() - 2)).expand(*order.shape, *h.shape[2:])
    )
