"""Where a cell stands: vectors and angles of places on a line or a grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NEAR = 0.3  # of a random vector that is added to what begins on a line or a grid


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
