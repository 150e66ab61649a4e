"""Diagnostics of chains against processes whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.samplers.diagnostics import ChainReport, autocorrelation_time, r_hat


def ar(rho: float, steps: int = 4000, n: int = 20) -> Tensor:
    """Stationary chains x ← ρ x + √(1 − ρ²) ξ, of which τ = (1 + ρ)/(1 − ρ)."""
    noise = torch.randn(steps, n, generator=generator(0), dtype=torch.float64)
    x = [noise[0]]
    for e in noise[1:]:
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * e)
    return torch.stack(x)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_an_autoregression(rho: float) -> None:
    assert autocorrelation_time(ar(rho)) == pytest.approx((1 + rho) / (1 - rho), rel=0.1)


def test_a_chain_that_never_moves_is_worth_one_draw() -> None:
    stuck = torch.ones(50, 3)
    assert autocorrelation_time(stuck) == 50
    assert ChainReport(stuck, 0.0, 50.0, 1.0).ess == 3


def test_r_hat_tells_chains_apart() -> None:
    together = ar(0.5)
    apart = together + torch.arange(20)
    drifting = together + torch.linspace(0, 5, len(together))[:, None]
    assert r_hat(together) == pytest.approx(1, abs=0.01)
    assert r_hat(apart) > 3
    assert r_hat(drifting) > 1.3  # the halves of one chain differ
    assert math.isnan(r_hat(together[:3]))
    assert r_hat(torch.ones(8, 2)) == 1
    assert r_hat(torch.ones(8, 2) * torch.arange(2)) == math.inf


def test_a_report_reads_in_one_line() -> None:
    report = ChainReport(torch.zeros(200, 20), 0.25, 12.0, 1.01)
    assert repr(report) == (
        "ChainReport(20 chains, 200 steps, flips 0.250, autocorrelation time 12.0, R̂ 1.010)"
    )
