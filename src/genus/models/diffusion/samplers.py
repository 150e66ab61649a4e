r"""Samplers: from noise to data, through any field that tells data and noise apart.

A field gives the expected data and noise of x_t, (x_0, ε) with x_t = α x_0 + σ ε; the score is
−ε/σ. Each sampler goes through times from 1 to 0:

    DDIM            x_s = α_s x_0 + σ_s ε                                             order 1
    Heun            x̂ + ½ h (v(x̂, θ) + v(x̂ + h v, θ + h)),  v = cos θ ε − sin θ x_0      order 2
    DPM-Solver++    x_s = (σ_s/σ_t) x_t + α_s (1 − e^{−h}) D,  h = λ_s − λ_t            order 2
    (2M)            D = x_0 + (x_0 − x_0') h/(2 h'), the prime of the step before; λ = log α/σ
    ancestral       x_s ~ N(posterior mean of x_s given x_t and x_0, variance)
    predictor–      an ancestral step, then Langevin at that noise, of a step that keeps the ratio
    corrector       of gradient to noise
    Langevin        at each noise several steps x + ½ h score + √h z, h = c σ²

Sources: Ho, Jain & Abbeel (2020); Song, Meng & Ermon (2021); Karras et al. (2022); Lu et al.
(2022); Song et al. (2021); Song & Ermon (2019).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from genus.models.diffusion.schedules import Schedule

Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x (n, d), t) → x_0 and ε, (n, d) each

SNR = 0.16  # of the corrector: the ratio of gradient to noise (Song et al., 2021)
CORRECTIONS = 1  # Langevin steps after each step of the predictor
LANGEVIN_STEPS = 10  # at each noise, of annealed Langevin
LANGEVIN_SIZE = 0.2  # c: its step h in units of σ²


def ddim(
    field: Field, schedule: Schedule, x: Tensor, times: Tensor, rng: torch.Generator
) -> Tensor:
    """Each step as if the data and noise that the field sees were true; no noise is drawn."""
    for t, s in itertools.pairwise(times):
        x0, e = field(x, t)
        x = schedule.alpha(s) * x0 + schedule.sigma(s) * e
    return x


def heun(
    field: Field, schedule: Schedule, x: Tensor, times: Tensor, rng: torch.Generator
) -> Tensor:
    """Two looks a step, at its beginning and at its end; no noise is drawn."""
    x = x / schedule.radius(times[0])
    for t, s in itertools.pairwise(times):
        h = schedule.angle(s) - schedule.angle(t)
        first = velocity(field, schedule, x, t)
        second = velocity(field, schedule, x + h * first, s)
        x = x + h * (first + second) / 2
    return x * schedule.radius(times[-1])


def velocity(field: Field, schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """dx̂/dθ = cos θ ε − sin θ x_0 at x̂ (n, d)."""
    r = schedule.radius(t)
    x0, e = field(r * x, t)
    return (schedule.alpha(t) * e - schedule.sigma(t) * x0) / r


def dpm_solver(
    field: Field, schedule: Schedule, x: Tensor, times: Tensor, rng: torch.Generator
) -> Tensor:
    """DPM-Solver++ of two steps: the data of the last look and of this one, drawn on as a line."""
    before, gap = None, math.inf
    for t, s in itertools.pairwise(times):
        x0, _ = field(x, t)
        h = float(_log_snr(schedule, s) - _log_snr(schedule, t))
        D = x0
        if before is not None and math.isfinite(h) and math.isfinite(gap):
            D = x0 + (x0 - before) * (h / (2 * gap))
        x = schedule.sigma(s) / schedule.sigma(t) * x - schedule.alpha(s) * math.expm1(-h) * D
        before, gap = x0, h
    return x


def _log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    return schedule.alpha(t).log() - schedule.sigma(t).log()


Variance = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t, s) → the variance of x_s


def posterior(
    schedule: Schedule, x: Tensor, x0: Tensor, t: Tensor, s: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q(x_s | x_t, x_0): its mean, its variance β̃, and β, the variance of x_t given x_s.

    With α_ts = α_t/α_s and β = σ_t² − α_ts² σ_s² the mean is (α_ts σ_s² x_t + α_s β x_0)/σ_t², and
    β̃ = β σ_s²/σ_t².
    """
    alpha, sigma2, s2 = schedule.alpha(s), schedule.sigma(t).square(), schedule.sigma(s).square()
    ratio = schedule.alpha(t) / alpha
    beta = sigma2 - ratio.square() * s2
    mean = ratio * s2 / sigma2 * x + alpha * beta / sigma2 * x0
    return mean, beta * s2 / sigma2, beta


def ancestral(
    field: Field,
    schedule: Schedule,
    x: Tensor,
    times: Tensor,
    rng: torch.Generator,
    variance: Variance | str = "beta",
    corrections: int = 0,
) -> Tensor:
    """Each x_s is drawn given x_t, as if the data that the field sees were the true ones.

    variance: "beta", "beta-tilde" or a function. corrections: Langevin steps after each, as of
    the predictor–corrector.
    """
    for t, s in itertools.pairwise(times):
        x0, _ = field(x, t)
        mean, small, large = posterior(schedule, x, x0, t, s)
        if callable(variance):
            spread = variance(x, t, s)
        else:
            spread = large if variance == "beta" else small
        if s == 0:
            return mean
        x = mean + spread.sqrt() * _normal(x, rng)
        for _ in range(corrections):
            x = _corrected(field, schedule, x, s, rng)
    return x


def predictor_corrector(
    field: Field, schedule: Schedule, x: Tensor, times: Tensor, rng: torch.Generator
) -> Tensor:
    """Ancestral steps, each followed by a step of Langevin at the noise that it came to."""
    return ancestral(field, schedule, x, times, rng, "beta-tilde", CORRECTIONS)


def _corrected(
    field: Field, schedule: Schedule, x: Tensor, t: Tensor, rng: torch.Generator
) -> Tensor:
    """x + h score + √(2h) z with h = 2 (snr ‖z‖/‖score‖)², both norms their means over rows."""
    sigma = schedule.sigma(t)
    _, e = field(x, t)
    z = _normal(x, rng)
    ratio = SNR * z.norm(dim=1).mean() / e.norm(dim=1).mean().clamp_min(1e-12)
    h = 2 * (ratio * sigma).square()
    return x - h * e / sigma + (2 * h).sqrt() * z


def annealed_langevin(
    field: Field, schedule: Schedule, x: Tensor, times: Tensor, rng: torch.Generator
) -> Tensor:
    """Langevin at each noise in turn, from a start of that of the noise before; then the mean."""
    for t, s in itertools.pairwise(times):
        sigma = schedule.sigma(t)
        h = LANGEVIN_SIZE * sigma.square()
        for _ in range(LANGEVIN_STEPS):
            _, e = field(x, t)
            x = x - 0.5 * h * e / sigma + h.sqrt() * _normal(x, rng)
        x = x * schedule.radius(s) / schedule.radius(t) if s > 0 else field(x, t)[0]
    return x


def _normal(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)


SAMPLERS = {
    "heun": heun,
    "ddim": ddim,
    "dpm-solver++": dpm_solver,
    "ancestral": ancestral,
    "predictor-corrector": predictor_corrector,
    "langevin": annealed_langevin,
}
