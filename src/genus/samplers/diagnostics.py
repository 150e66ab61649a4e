"""How well chains have mixed, from the trace of a number of theirs, as the energy.

    ρ_t = Cov(e_s, e_{s+t}) / Var(e),     τ = 1 + 2 Σ_t ρ_t      up to the first t ≥ 5 τ
    R̂² = (within + between) / within, of the halves of all chains

τ steps are worth one independent draw (Sokal, 1997). R̂ is near 1 where chains that started apart
tell the same (Gelman & Rubin, 1992; of halves: Gelman et al., 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ChainReport:
    """What n chains did in some steps.

    energy: (steps, n), the free energy after each step, in nats. flips: the share of cells that a
    step changed. autocorrelation_time: steps worth one independent draw. r_hat: near 1 where all
    chains tell the same.
    """

    energy: Tensor
    flips: float
    autocorrelation_time: float
    r_hat: float

    @property
    def ess(self) -> float:
        """How many independent draws the trace of the energy is worth."""
        return self.energy.numel() / self.autocorrelation_time

    def __repr__(self) -> str:
        steps, n = self.energy.shape
        return (
            f"ChainReport({n} chains, {steps} steps, flips {self.flips:.3f}, "
            f"autocorrelation time {self.autocorrelation_time:.1f}, R̂ {self.r_hat:.3f})"
        )


def autocorrelation_time(trace: Tensor) -> float:
    """τ of a trace (steps, n), about the mean of all chains; 1 where nothing moves together."""
    steps = len(trace)
    e = trace.double() - trace.double().mean()
    variance = float(e.square().mean())
    if variance == 0:
        return float(steps)  # it never moved
    time = 1.0
    for t in range(1, steps):
        if t >= 5 * time:
            break
        time += 2 * float((e[t:] * e[:-t]).mean()) / variance
    return max(1.0, time)


def r_hat(trace: Tensor) -> float:
    """R̂ of the halves of the chains of a trace (steps, n); NaN below 4 steps."""
    half = len(trace) // 2
    if half < 2:
        return math.nan
    chains = torch.cat([trace[:half], trace[half : 2 * half]], 1).double()
    within = float(chains.var(0).mean())
    between = float(chains.mean(0).var())
    if within == 0:
        return 1.0 if between == 0 else math.inf
    return math.sqrt((half - 1) / half + between / within)
