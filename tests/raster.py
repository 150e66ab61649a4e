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


def noisy(n: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of bits without any order, and the same with a tenth of the bits turned over."""
    r = np.random.default_rng(seed)
    bits = r.integers(0, 2, (n, side, side)).astype(np.uint8)
    return bits, bits ^ (r.random(bits.shape) < 0.1).astype(np.uint8)


def many_conditions(n: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Two images of the height and width of the rows, one of other sizes, and a label."""
    r = np.random.default_rng(3)
    return {
        "picture": r.normal(size=(n, height, width)),
        "labels": r.integers(0, 3, (n, height, width)),
        "small": r.normal(size=(n, 1, 2)),
        "kind": r.choice(["a", "b"], n),
    }


def naive(model: Any, n: int, rng: torch.Generator, given: Tensor | None = None) -> Tensor:
    """Draws by a full pass of the network for every cell, as codes."""
    (c, h, w), each, cell = (
        model._shape,
        model.observation_.per_cell,
        model._observe(model.space_, 1),
    )
    x = torch.zeros(n, c, h, w)
    with torch.no_grad():
        for i, j, k in itertools.product(range(h), range(w), range(c)):
            p = model.network_(model._features(x), *model._context(given))[
                :, k * each : (k + 1) * each, i, j
            ]
            x[:, k, i, j] = cell.sample(p, rng)[:, 0]
    return x.reshape(n, *model.space_.cell_shape)
