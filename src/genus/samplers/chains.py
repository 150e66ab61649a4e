"""Markov chains for any energy.

Each transition leaves its target alone (or says by how much it does not). Random numbers come from
an explicit generator; states are tensors (n, …), one chain a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Energy = Callable[[Tensor], Tensor]


def gibbs(steps: Sequence[Callable[[Any], Any]], state: Any, sweeps: int) -> Any:
    """``sweeps`` rounds of the conditional draws ``steps``, each state → state.

    Geman & Geman (1984).
    """
    for _ in range(sweeps):
        for step in steps:
            state = step(state)
    return state


def gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """(E(x), ∇E(x)) of every row."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        e = energy(x)
        (g,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), g


def langevin(
    energy: Energy,
    x: Tensor,
    steps: int,
    step_size: float | Tensor,
    rng: torch.Generator,
    temperature: float = 1.0,
    box: tuple[float, float] | None = None,
) -> Tensor:
    """Unadjusted Langevin dynamics, x ← x − η ∇E(x) + √(2ηT) ξ (Roberts & Tweedie, 1996).

    step_size: η > 0. Its law is e^{−E/T} up to O(η): on N(0, 1) the variance is 1/(1 − η/2), and
    from η = 2 on it has none. box: the ends of every coordinate, onto which each step is projected.
    """
    for _ in range(steps):
        _, g = gradient(energy, x)
        x = x - step_size * g + (2 * step_size * temperature) ** 0.5 * _noise(x, rng)
        if box is not None:
            x = x.clamp(*box)
    return x


def mala(
    energy: Energy, x: Tensor, steps: int, step_size: float | Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Langevin proposals accepted by Metropolis and Hastings: exact for e^{−E}.

    Returns (x, acceptance rate).
    """
    e, g = gradient(energy, x)
    accepted = x.new_zeros((), dtype=torch.float64)

    def log_q(to: Tensor, at: Tensor, grad: Tensor) -> Tensor:
        return -(to - at + step_size * grad).square().flatten(1).sum(1) / (4 * step_size)

    for _ in range(steps):
        new = x - step_size * g + (2 * step_size) ** 0.5 * _noise(x, rng)
        e_new, g_new = gradient(energy, new)
        accept = _accept(e - e_new + log_q(x, new, g_new) - log_q(new, x, g), rng)
        x, e, g = (
            torch.where(_like(accept, a), b, a) for a, b in ((x, new), (e, e_new), (g, g_new))
        )
        accepted = accepted + accept.double().mean()
    return x, accepted / max(steps, 1)


def hmc(
    energy: Energy,
    x: Tensor,
    steps: int,
    step_size: float | Tensor,
    leapfrog: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Hamiltonian Monte Carlo with unit masses (Duane et al., 1987; Neal, 2011).

    Returns (x, acceptance rate).
    """
    accepted = x.new_zeros((), dtype=torch.float64)
    for _ in range(steps):
        p = _noise(x, rng)
        e, g = gradient(energy, x)
        new, momentum, g_new, e_new = x, p, g, e
        for _ in range(leapfrog):
            momentum = momentum - 0.5 * step_size * g_new
            new = new + step_size * momentum
            e_new, g_new = gradient(energy, new)
            momentum = momentum - 0.5 * step_size * g_new
        kinetic = 0.5 * (p.square() - momentum.square()).flatten(1).sum(1)
        accept = _accept(e - e_new + kinetic, rng)
        x = torch.where(_like(accept, x), new, x)
        accepted = accepted + accept.double().mean()
    return x, accepted / max(steps, 1)


def _noise(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)


def _accept(log_ratio: Tensor, rng: torch.Generator) -> Tensor:
    u = torch.rand(log_ratio.shape, generator=rng, dtype=log_ratio.dtype, device=log_ratio.device)
    return torch.log(u) < log_ratio


def _like(accept: Tensor, x: Tensor) -> Tensor:
    return accept.reshape(-1, *[1] * (x.dim() - 1))
