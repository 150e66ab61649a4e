"""What the tests of models that draw an image pixel by pixel share."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus import Space
from genus.learn.rows import generator


def shaken(model: Any, size: float = 0.3) -> Any:
    """The model with random parameters, so that all depends on whatever it may depend on."""
    rng = generator(0)
    with torch.no_grad():
        for p in model.network_.parameters():
            p.add_(size * torch.randn(p.shape, generator=rng))
    return model


def every(space: Space) -> np.ndarray:
    """All images of the space."""
    return np.array(list(itertools.product(range(space.levels or 1), repeat=space.dim))).reshape(
        -1, *space.shape
    )


def sees(model: Any, place: int, n: int = 4) -> Tensor:
    """|∂ parameters of a pixel / ∂ features of each cell|, (cells of the pixel, C, H, W).

    At n images, as a rectifier may be off.
    """
    c, h, w = model._shape
    network = model.network_.double()
    x = torch.randn(n, c * model._each, h, w, generator=generator(2), dtype=torch.float64)
    rows = (
        torch.autograd.functional.jacobian(
            lambda v: network(v)[:, :, place // w, place % w].sum(0), x
        )
        .abs()
        .sum(1)
    )
    return rows.unflatten(1, (c, model._each)).sum(2).unflatten(0, (c, -1)).sum(1)


def naive(model: Any, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
    """Draws by a full pass of the network for every cell."""
    (c, h, w), each, cell = (
        model._shape,
        model.observation_.per_cell,
        model._observe(model.space_, 1),
    )
    x = torch.zeros(n, c, h, w)
    with torch.no_grad():
        for i, j, k in itertools.product(range(h), range(w), range(c)):
            p = model.network_(model._features(x), model._context(given))[
                :, k * each : (k + 1) * each, i, j
            ]
            x[:, k, i, j] = cell.sample(p, rng)[:, 0]
    rows: Tensor = x.reshape(-1, *model.space_.cell_shape)
    return rows
