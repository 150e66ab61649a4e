r"""The density of what a field turns noise into, by the ODE that it follows.

    dx̂/dθ = v(x̂, θ),      log p(x_0) = log N(x̂(θ_1) | 0, I) + ∫_0^{θ_1} div v dθ

The divergence is exact, a derivative a coordinate, or Hutchinson's eᵀ ∂v/∂x̂ e with a probe e of
signs, which is right on average. Steps are of fourth order (Kutta, 1901). (Chen et al., 2018;
Grathwohl et al., 2019.)
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from genus.distributions.points import LOG_2PI
from genus.models.diffusion.samplers import Field, velocity
from genus.models.diffusion.schedules import Schedule


@torch.no_grad()
def log_density(
    field: Field, schedule: Schedule, y: Tensor, times: Tensor, probe: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """log p(y) in nats, (n,), and where each row y (n, d) ends, x̂ (n, d).

    times: from 0 to 1. probe: signs (n, d) of Hutchinson's estimate; None: the exact divergence.
    It is integrated along the path by Simpson's rule, at the ends of every step and half way, so
    that a step has two divergences, not four.
    """
    x, total = y, y.new_zeros(len(y))
    v, d = _with_divergence(field, schedule, x, times[0], probe)
    for t, s in itertools.pairwise(times):
        h = schedule.angle(s) - schedule.angle(t)
        middle = schedule.time(schedule.angle(t) + h / 2)
        v2 = velocity(field, schedule, x + h / 2 * v, middle)
        v3 = velocity(field, schedule, x + h / 2 * v2, middle)
        v4 = velocity(field, schedule, x + h * v3, s)
        end = x + h / 6 * (v + 2 * v2 + 2 * v3 + v4)
        v_end, d_end = _with_divergence(field, schedule, end, s, probe)
        half = (x + end) / 2 + h / 8 * (v - v_end)  # of the cubic through both ends
        _, d_half = _with_divergence(field, schedule, half, middle, probe)
        total = total + h / 6 * (d + 4 * d_half + d_end)
        x, v, d = end, v_end, d_end
    return total - 0.5 * (x.square() + LOG_2PI).sum(1), x


def transport(field: Field, schedule: Schedule, x: Tensor, times: Tensor) -> Tensor:
    """x̂ (n, d) of the first of the times as it is at the last, by the steps of the likelihood."""
    for t, s in itertools.pairwise(times):
        h = schedule.angle(s) - schedule.angle(t)
        middle = schedule.time(schedule.angle(t) + h / 2)
        v1 = velocity(field, schedule, x, t)
        v2 = velocity(field, schedule, x + h / 2 * v1, middle)
        v3 = velocity(field, schedule, x + h / 2 * v2, middle)
        v4 = velocity(field, schedule, x + h * v3, s)
        x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
    return x


def _with_divergence(
    field: Field, schedule: Schedule, x: Tensor, t: Tensor, probe: Tensor | None
) -> tuple[Tensor, Tensor]:
    """v (n, d) and its divergence, or an estimate of that, (n,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = velocity(field, schedule, x, t)
        if probe is not None:
            (slope,) = torch.autograd.grad(v, x, probe)
            return v.detach(), (slope * probe).sum(1)
        total = x.new_zeros(len(x))
        d = x.shape[1]
        for j in range(d):
            (slope,) = torch.autograd.grad(v[:, j].sum(), x, retain_graph=j < d - 1)
            total = total + slope[:, j]
    return v.detach(), total
