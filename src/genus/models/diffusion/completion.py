r"""Completions: noise becomes data under the guidance of the cells that were observed.

    log L_t(x_t) = Σ_j log p(x_j | x_t) over observed cells j,    z_j | x_t ~ N(x̂_0j(x_t), V_j)

is the density of an observed number, or the mass between the normal scores of a level's two edges.
The covariance of x_0 given x_t is σ²/α ∂x̂_0/∂x_t; V_j is the sum of its row over the observed
cells, which one derivative gives (Boys et al., 2023). The gradient of L_t joins that of log p_t:
each ancestral step is drawn from

    q(x_s | x_t) = N(μ(x_t) + w ∇ log L_t(x_t), w),      w the variance of the step

(pseudo-inverse guidance: Song, Vahdat, Mardani & Kautz, 2023). Where rows are short, several
particles a row are weighted, first by L, then by p(x_s | x_t) L_s(x_s) / (L_t(x_t) q(x_s | x_t)),
and those that count go on, which makes it right in the limit of many (Wu et al., 2023). Observed
cells are never put in place of those that were drawn: the others would not know of them.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from genus.distributions.points import LOG_2PI
from genus.models.diffusion.samplers import Field, posterior
from genus.models.diffusion.schedules import Schedule
from genus.samplers.particles import pick_several, resample

FAR = 1e3  # scores beyond this are as good as infinite
FAINT = 0.02  # α below which the derivative of x̂_0 says nothing of its variance
LEAST = 0.25  # share of the noise's variance that V is at least, so that no step overshoots


def guided(
    field: Field,
    schedule: Schedule,
    low: Tensor,
    high: Tensor,
    times: Tensor,
    rng: torch.Generator,
    particles: int = 1,
    keep: int = 1,
) -> Tensor:
    """y (keep, n, d) drawn given that the coordinates lie between low and high, (n, d) each.

    Both are one where the coordinate itself is known, and infinite where nothing is. The field is
    one of n · particles rows, those of a row together.
    """
    n = len(low)
    low, high = (edge.repeat_interleave(particles, 0) for edge in (low, high))
    x = torch.randn(low.shape, generator=rng, dtype=low.dtype, device=low.device)
    x = x * schedule.radius(times[0])
    x0, log_l, slope = _look(field, schedule, x, times[0], low, high)
    log_w = log_l.reshape(n, particles)
    for t, s in itertools.pairwise(times[:-1]):
        mean, spread, _ = posterior(schedule, x, x0, t, s)
        e = torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)
        new = mean + spread * slope + spread.sqrt() * e
        # log p(x_s | x_t) − log q(x_s | x_t), both of the same variance
        more = 0.5 * (e.square() - (e + spread.sqrt() * slope).square()).sum(1)
        x, before = new, log_l
        x0, log_l, slope = _look(field, schedule, x, s, low, high)
        log_w = log_w + (more + log_l - before).reshape(n, particles)
        chosen = resample(log_w, rng) if particles > 1 else None
        if chosen is not None:
            places, log_w = chosen
            x, x0, log_l, slope = x[places], x0[places], log_l[places], slope[places]
    return x0[pick_several(log_w, keep, rng)]


def _look(
    field: Field, schedule: Schedule, x: Tensor, t: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The expected data (n, d), log L_t (n,) and its gradient (n, d)."""
    known = ~(torch.isinf(low) & torch.isinf(high))
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    most = sigma**2 / (alpha**2 + sigma**2)  # the variance of x_0 given x_t if cells were apart
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        x0, _ = field(x, t)
        variance = torch.full_like(x, most)
        if alpha > FAINT:
            (sums,) = torch.autograd.grad(x0, x, known.to(x.dtype), retain_graph=True)
            variance = (sums * sigma**2 / alpha).clamp(LEAST * most, most)
        log_l = _log_mass(low, high, x0, variance.sqrt()).sum(1)
        (slope,) = torch.autograd.grad(log_l.sum(), x)
    return x0.detach(), log_l.detach(), slope


def _log_mass(low: Tensor, high: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """log of the mass of N(mean, spread²) between low and high, or its density where they are one.

    0 where nothing is known. Masses are taken by the tail in which nothing cancels.
    """
    point = low == high
    unknown = torch.isinf(low) & torch.isinf(high)
    e = (torch.where(point, low, 0.0) - mean) / spread
    density = -0.5 * (e.square() + LOG_2PI) - spread.log()
    a = ((low - mean) / spread).clamp(-FAR, FAR)
    b = ((high - mean) / spread).clamp(-FAR, FAR)
    flip = a + b > 0
    a, b = torch.where(flip, -b, a), torch.where(flip, -a, b)
    apart = ~point & ~unknown & (a < b)
    a, b = torch.where(apart, a, -1.0), torch.where(apart, b, 1.0)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    mass = log_b + torch.log(-torch.expm1((log_a - log_b).clamp_max(-1e-12)))
    return torch.where(point, density, torch.where(apart, mass, 0.0))
