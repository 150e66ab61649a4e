r"""Completions by a density that can be scored but not conditioned in closed form.

Where cells m of a row are missing and cells o are observed, coordinates ε ~ N(0, I) stand for all
that is not known:

    y_o = y(x_o + Φ(ε_o))    where cells are discrete
    y_m = μ(y_o) + A ε_m     μ, A of a Gaussian's N(y_m | y_o)
    log π_β(ε) = log φ(ε) + β G(ε),     G = log p(y) + log |∂y_o/∂u_o| − log φ(ε_m)

β goes from 0, that Gaussian and uniform noise, to 1, p(missing | observed), by annealed importance
sampling with Langevin steps that Metropolis corrects (Neal, 2001; Roberts & Tweedie, 1996); of the
particles of a row one is drawn by its weight.
An approximation with finitely many particles: exact as they, or the steps, become many.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genus.distributions.gaps import Conditionals
from genus.samplers.annealing import anneal
from genus.samplers.chains import mala
from genus.samplers.particles import pick_several

if TYPE_CHECKING:
    from genus.density import DensityModel

PARTICLES = 8  # a row; of many coordinates fewer, for their weights say little there
PER_DRAW = 2  # particles, at least, for each of several draws of a row
TEMPERATURES = 4  # times the root of the number of coordinates
STEPS = 4  # of Langevin a temperature
ACCEPTED = 0.57  # the share of proposals that the step size aims at (Roberts & Rosenthal, 1998)
# standard deviations of the Gaussian, times those of the rows, so that its tails hold those of p
WIDE = 1.5
AT_ONCE = 1 << 22  # numbers held at once, of the particles or of the rows' matrices

Start = tuple[Tensor, Tensor, Tensor]  # mean (d,), standard deviations (d,), correlations (d, d)


def complete(
    model: DensityModel, x: Tensor, start: Start, rng: torch.Generator, given: Tensor | None = None
) -> Tensor:
    """y (n, d) whose missing cells are drawn from p(missing | observed) of ``model``.

    The missing cells are NaN in x (n, *shape).

    start: the Gaussian from which the draws set out.
    """
    return complete_many(model, x, 1, start, rng, given)[0]


def complete_many(
    model: DensityModel,
    x: Tensor,
    n: int,
    start: Start,
    rng: torch.Generator,
    given: Tensor | None = None,
) -> Tensor:
    """n draws as of :func:`complete`, (n, rows, d), of one set of particles a row."""
    d = x[0].numel()
    alike = len(torch.isnan(x).flatten(1).unique(dim=0)) == 1
    K = min(PARTICLES, max(2, 4 * PARTICLES // math.isqrt(d)))
    K = K if n == 1 else max(K, PER_DRAW * n)
    # else each row brings matrices of its own
    size = max(1, AT_ONCE // (K * d if alike else max(K, d) * d))
    parts = [x.split(size)] if given is None else [x.split(size), given.split(size)]
    drawn = [_complete(model, rows, K, n, start, rng, *g) for rows, *g in zip(*parts, strict=True)]
    return torch.cat(drawn, 1)


def _complete(
    model: DensityModel,
    x: Tensor,
    K: int,
    keep: int,
    start: Start,
    rng: torch.Generator,
    given: Tensor | None = None,
) -> Tensor:
    n = len(x)
    many = x.flatten(1).repeat_interleave(K, 0)
    conditions = () if given is None else (given.repeat_interleave(K, 0),)
    gaps = torch.isnan(x.flatten(1))
    free = gaps | model.hides(x)
    gap, free = gaps.repeat_interleave(K, 0), free.repeat_interleave(K, 0)
    mean, scale, correlation = start
    regress = Conditionals(correlation.double(), gaps, K, WIDE)

    def place(e: Tensor) -> tuple[Tensor, Tensor]:
        """y(ε) and log |∂y_o/∂u_o|, (n K, d) → (n K, d), (n K,)."""
        # cut off where y is NaN, and so its gradient
        u = torch.where(gap, 0.5, torch.special.ndtr(e.double()))
        y, log_det = model.real(many, u)
        known = torch.where(gap, 0.0, (y - mean) / scale)
        y = torch.where(gap, mean + scale * regress(known, torch.where(gap, e, 0.0).double()), y)
        return y, log_det

    def gain(e: Tensor) -> Tensor:
        """G(ε) up to a constant; a place where p is not finite has none of it."""
        y, log_det = place(e)
        g = model.log_density(y, *conditions) + log_det + 0.5 * (e.square() * gap).sum(1)
        return torch.where(g.isfinite(), g, -1e30)

    def step(
        state: tuple[Tensor, float], now: float, then: float
    ) -> tuple[tuple[Tensor, float], Tensor]:
        e, size = state
        more = (then - now) * gain(e)
        e, share = mala(
            lambda v: 0.5 * (v.square() * free).sum(1) - then * gain(v), e, STEPS, size, rng
        )
        return (e, min(1.0, size * math.exp(2 * (share - ACCEPTED)))), more

    e = torch.randn(many.shape, generator=rng, device=x.device)
    last = math.ceil(TEMPERATURES * math.sqrt(many.shape[1]))
    grid = [(i / last) ** 2 for i in range(last + 1)]
    (e, _), log_w = anneal(step, (e, 0.3), grid)
    y = place(e)[0]
    log_w = torch.where(model.coordinates_.inside(y), log_w, -1e30)
    return y[pick_several(log_w.reshape(n, K), keep, rng)]
