"""Draws of discrete cells, all at once."""

from __future__ import annotations

import torch
from torch import Tensor


def flip(p: Tensor, rng: torch.Generator) -> Tensor:
    """Coins that fall on 1 with probability p, as numbers."""
    u = torch.rand(p.shape, generator=rng, dtype=p.dtype, device=p.device)
    return torch.lt(u, p, out=u)


def choose(weights: Tensor, rng: torch.Generator) -> Tensor:
    """An index along the last axis, drawn by its weights, (…, K) → (…)."""
    flat = weights.reshape(-1, weights.shape[-1])
    if flat.device.type == "cpu":
        drawn = torch.multinomial(flat, 1, generator=rng)
    else:  # what multinomial does, but for its look at the numbers, which would wait for them
        drawn = (flat / torch.empty_like(flat).exponential_(generator=rng)).argmax(-1)
    return drawn.reshape(weights.shape[:-1])
