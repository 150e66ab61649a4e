"""Causal attention: the blocks of a transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.networks.layers import Dropout, Linear


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
        a = attended(q, k, v, is_causal=T > 1)
        h = h + self.drop(self.out(a.transpose(1, 2).reshape(n, T, w)))
        out: Tensor = h + self.drop(self.down(F.gelu(self.up(self.norm2(h)))))
        return out


def turned(q: Tensor, angle: Tensor) -> Tensor:
    """Pairs of coordinates of q (n, heads, T, m) turned by angles (1 or n, T, m/2)."""
    a, b = q.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = angle.cos()[:, None].to(q.dtype), angle.sin()[:, None].to(q.dtype)
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def attended(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """softmax(q kᵀ/√d) v; on a processor in float32, whose backward pass in bfloat16 is slow."""
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            q, k, v = q.float(), k.float(), v.float()
            return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
