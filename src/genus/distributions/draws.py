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
    return torch.multinomial(flat, 1, generator=rng).reshape(weights.shape[:-1])
