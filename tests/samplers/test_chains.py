"""Chains against the laws they must leave alone."""

from __future__ import annotations

import math

import pytest
import torch

from genus.learn.rows import generator
from genus.samplers import chains


def normal_energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum(1)


COV = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64)
PRECISION = torch.linalg.inv(COV)


def correlated_energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * ((x @ PRECISION) * x).sum(1)


def start(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("eta, temperature", [(0.5, 1.0), (0.2, 1.0), (0.5, 0.25)])
def test_unadjusted_langevin_has_the_variance_of_its_step(eta: float, temperature: float) -> None:
    """x ← (1 − η) x + √(2ηT) ξ has variance T / (1 − η/2), not T."""
    x = chains.langevin(normal_energy, start(20_000, 1), 40, eta, generator(1), temperature)
    expected = temperature / (1 - eta / 2)
    assert float(x.var()) == pytest.approx(expected, abs=4 * expected * math.sqrt(2 / 20_000))
    assert abs(float(x.mean())) < 4 * math.sqrt(expected / 20_000)


def test_metropolis_removes_the_bias_of_langevin() -> None:
    """At η = 0.8 the unadjusted chain has variance 1.67."""
    x, rate = chains.mala(normal_energy, start(20_000, 1), 40, 0.8, generator(2))
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 20_000))
    assert 0.6 < rate < 0.99
    _, small = chains.mala(normal_energy, start(2000, 1), 10, 0.01, generator(2))
    assert small > 0.99


def test_hamiltonian_accepts_nearly_all_and_is_exact() -> None:
    # from far off
    x, rate = chains.hmc(normal_energy, 5 * start(20_000, 1), 25, 0.4, 5, generator(3))
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 20_000))
    assert 0.95 < rate <= 1
    # coarse: Metropolis must work
    x, rate = chains.hmc(normal_energy, start(20_000, 1), 25, 1.7, 3, generator(3))
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 20_000))
    assert 0.4 < rate < 0.95


@pytest.mark.parametrize("name", ["mala", "hmc"])
def test_correlated_gaussian(name: str) -> None:
    x = 3 * start(4000, 2)
    if name == "mala":
        x, rate = chains.mala(correlated_energy, x, 80, 0.4, generator(4))
    else:
        # a half turn, 0.4 · 6, would resonate with the narrow axis
        x, rate = chains.hmc(correlated_energy, x, 25, 0.4, 4, generator(4))
    assert rate > 0.7
    torch.testing.assert_close(torch.cov(x.T), COV, atol=0.18, rtol=0)
    assert float(x.mean(0).abs().max()) < 0.09


@pytest.mark.parametrize("name", ["mala", "hmc"])
def test_a_step_into_nowhere_is_refused(name: str) -> None:
    """An infinite or NaN energy never enters a chain."""

    def energy(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] > 0, 0.5 * x[:, 0].square(), torch.full_like(x[:, 0], math.inf))

    x = start(2000, 1).abs()
    if name == "mala":
        x, rate = chains.mala(energy, x, 30, 0.3, generator(5))
    else:
        x, rate = chains.hmc(energy, x, 30, 0.3, 3, generator(5))
    assert bool((x > 0).all()) and 0.3 < rate < 1
    assert float(x.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.06)


def test_the_generator_decides() -> None:
    a, b, c = (
        chains.hmc(normal_energy, start(10, 2), 3, 0.3, 2, generator(s))[0] for s in (1, 1, 2)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_gibbs_of_a_correlated_pair() -> None:
    """x | y ~ N(ρy, 1 − ρ²) and back: the steps are taken in turn, each in every sweep."""
    rho, rng, calls = 0.7, generator(6), []

    def x_given_y(s: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append("x")
        e = torch.randn(20_000, generator=rng, dtype=torch.float64)
        return rho * s[1] + math.sqrt(1 - rho**2) * e, s[1]

    def y_given_x(s: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append("y")
        e = torch.randn(20_000, generator=rng, dtype=torch.float64)
        return s[0], rho * s[0] + math.sqrt(1 - rho**2) * e

    zero = torch.zeros(20_000, dtype=torch.float64)
    state = chains.gibbs([x_given_y, y_given_x], (zero, zero), 20)
    assert calls == ["x", "y"] * 20
    torch.testing.assert_close(
        torch.cov(torch.stack(state)),
        torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64),
        atol=0.04,
        rtol=0,
    )


def test_unadjusted_langevin_is_stable_below_a_step_of_two() -> None:
    near = chains.langevin(normal_energy, start(2000, 1), 300, 1.9, generator(1))
    assert float(near.var()) == pytest.approx(1 / (1 - 0.95), rel=0.2)
    beyond = chains.langevin(normal_energy, start(2000, 1), 300, 2.1, generator(1))
    assert float(beyond.var()) > 1e6


def two_modes(x: torch.Tensor) -> torch.Tensor:
    """−log of ¾ N(−1, ½²) + ¼ N(1, ½²)."""
    log_w = torch.tensor([0.75, 0.25], dtype=x.dtype).log()
    centres = torch.tensor([-1.0, 1.0], dtype=x.dtype)
    return -torch.logsumexp(log_w - 2 * (x - centres).square(), 1)


@pytest.mark.parametrize("name", ["langevin", "mala", "hmc"])
def test_both_modes_have_their_weight(name: str) -> None:
    """From chains that all begin in the smaller one."""
    x = torch.ones(4000, 1, dtype=torch.float64)
    if name == "langevin":
        x = chains.langevin(two_modes, x, 400, 0.02, generator(3))
    elif name == "mala":
        x, _ = chains.mala(two_modes, x, 150, 0.15, generator(3))
    else:
        x, _ = chains.hmc(two_modes, x, 80, 0.4, 4, generator(3))
    # P(x > 0) = ¾ Φ(−2) + ¼ Φ(2)
    share = 0.75 * 0.02275 + 0.25 * 0.97725
    assert float((x > 0).double().mean()) == pytest.approx(share, abs=0.03)


def test_a_box_holds_every_step() -> None:
    seen = []

    def energy(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return normal_energy(x - 3)

    x = chains.langevin(energy, 0.1 * start(500, 2), 30, 0.5, generator(1), box=(-1.0, 1.0))
    assert all(bool((v.abs() <= 1).all()) for v in [*seen, x])
    assert float((x == 1).double().mean()) > 0.7  # the energy pulls it to an end
