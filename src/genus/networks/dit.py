r"""A transformer on the patches of an image: images to images of the same size.

    tokens    W (p × p patch) + place
    block     h ← h + g₁ ⊙ attention(FiLM₁(norm(h))),    h ← h + g₂ ⊙ perceptron(FiLM₂(norm(h)))
    out       W (FiLM(norm(h))) as patches

The scales, shifts and gates g of every block come from the context, and are 0 at the start: each
block starts as the identity, and the whole at 0. Every token sees every other, from the first block
on. Source: Peebles & Xie (2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.networks.attention import attended
from genus.networks.blueprints import Shape, check_one_size
from genus.networks.layers import Linear
from genus.settings import Rule, Settings, Whole

TOKENS = 64  # patches of an image, about, where their size is not said


@dataclass(frozen=True)
class DiT(Settings):
    """A transformer on patches of images (C, H, W), of which each sees all others.

    Parameters
    ----------
    width : int, default=128
        Numbers a token; a multiple of ``heads`` and of 4.
    depth : int, default=4
        Blocks.
    heads : int, default=4
        Of attention.
    patch : int or None, default=None
        Side of a patch, which divides both sides of the image. None: the smallest that leaves at
        most 64 patches.

    Examples
    --------
    >>> import torch, genus
    >>> network = genus.DiT(16, 2)((1, 8, 8), (1, 8, 8), context=3)
    >>> network(torch.zeros(5, 1, 8, 8), torch.zeros(5, 3)).shape
    torch.Size([5, 1, 8, 8])
    """

    arguments: ClassVar[dict[str, Rule]] = {
        "width": Whole(4, 1 << 14),
        "depth": Whole(1, 1000),
        "heads": Whole(1, 1 << 10),
        "patch": Whole(1, 1 << 10) | None,
    }

    width: int = 128
    depth: int = 4
    heads: int = 4
    patch: int | None = None

    def __call__(self, in_shape: Shape, out_shape: Shape, context: int = 0) -> nn.Module:
        self.check()
        check_one_size(self, in_shape, out_shape)
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"DiT(width={self.width}): a multiple of heads={self.heads} and of 4 is needed"
            )
        sides = in_shape[1:]
        patch = patch_of(*sides) if self.patch is None else self.patch
        if any(side % patch for side in sides):
            raise ValueError(
                f"DiT(patch={patch}) does not divide images of {sides[0]} × {sides[1]}: pass a "
                "patch that does, or None"
            )
        return _DiT(in_shape, out_shape[0], self, patch, context)


def patch_of(height: int, width: int) -> int:
    """The smallest side of patches that divides both sides and leaves at most 64 of them."""
    both = math.gcd(height, width)
    each = [p for p in range(1, both + 1) if both % p == 0]
    few = [p for p in each if (height // p) * (width // p) <= TOKENS]
    return (few or each[-1:])[0]


class _DiT(nn.Module):
    places: Tensor

    def __init__(self, shape: Shape, n_out: int, said: DiT, patch: int, context: int) -> None:
        super().__init__()
        n_in, height, width = shape
        self.patch, self.grid, self.context = patch, (height // patch, width // patch), context
        w, size = said.width, 2 * said.width
        # without a context, scales, shifts and gates are learned as they are
        self.embed = nn.Sequential(Linear(max(context, 1), size), nn.SiLU(), Linear(size, size))
        self.first = Linear(n_in * patch**2, w)
        self.register_buffer("places", waves(self.grid, w), persistent=False)
        self.blocks = nn.ModuleList(_Block(w, said.heads, size) for _ in range(said.depth))
        self.norm = nn.LayerNorm(w, elementwise_affine=False)
        self.move = Linear(size, 2 * w, zero=True)
        self.last = Linear(w, n_out * patch**2, zero=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(n, C, H, W), (n, context) → (n, C', H, W)."""
        size = 0 if context is None else context.shape[1]
        if size != self.context:
            raise ValueError(
                f"this network takes a context of {self.context} numbers a row, and got {size}"
            )
        c = F.silu(self.embed(x.new_ones(len(x), 1) if context is None else context))
        h = self.first(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2))
        h = h + self.places.to(h.dtype)
        for block in self.blocks:
            h = block(h, c)
        s, t = self.move(c)[:, None].chunk(2, -1)
        h = self.last(self.norm(h) * (1 + s) + t).transpose(1, 2)
        size_out = self.grid[0] * self.patch, self.grid[1] * self.patch
        out: Tensor = F.fold(h, size_out, self.patch, stride=self.patch)
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.move = Linear(context, 6 * width, zero=True)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.up, self.down = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """(n, T, width), (n, context) → (n, T, width)."""
        n, T, w = h.shape
        s1, t1, g1, s2, t2, g2 = self.move(c)[:, None].chunk(6, -1)
        a = self.qkv(self.norm(h) * (1 + s1) + t1)
        q, k, v = a.reshape(n, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        a = attended(q, k, v).transpose(1, 2).reshape(n, T, w)
        h = h + g1 * self.out(a)
        out: Tensor = h + g2 * self.down(F.gelu(self.up(self.norm(h) * (1 + s2) + t2)))
        return out


def waves(grid: tuple[int, int], width: int) -> Tensor:
    """Sines and cosines of the row and of the column of each place, (T, width)."""
    place = torch.cartesian_prod(*(torch.arange(side).double() for side in grid)).view(-1, 2)
    i = torch.arange(width // 4).double() / max(width // 4, 1)
    angle = place[:, :, None] * (100.0**-i)
    return torch.cat([angle.sin(), angle.cos()], -1).flatten(1).float()
