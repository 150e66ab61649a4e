"""Chains against the laws they must leave alone; annealing against ratios of Z that are known."""

from __future__ import annotations

import math

import pytest
import torch

from genus import samplers
from genus.rows import generator


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
    x = samplers.langevin(normal_energy, start(20_000, 1), 40, eta, generator(1), temperature)
    expected = temperature / (1 - eta / 2)
    assert float(x.var()) == pytest.approx(expected, abs=4 * expected * math.sqrt(2 / 20_000))
    assert abs(float(x.mean())) < 4 * math.sqrt(expected / 20_000)


def test_metropolis_removes_the_bias_of_langevin() -> None:
    """At η = 0.8 the unadjusted chain has variance 1.67."""
    x, rate = samplers.mala(normal_energy, start(20_000, 1), 40, 0.8, generator(2))
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 20_000))
    assert 0.6 < rate < 0.99
    _, small = samplers.mala(normal_energy, start(2000, 1), 10, 0.01, generator(2))
    assert small > 0.99


def test_hamiltonian_accepts_nearly_all_and_is_exact() -> None:
    x, rate = samplers.hmc(normal_energy, 5 * start(20_000, 1), 25, 0.4, 5, generator(3))  # from far off
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 20_000))
    assert 0.95 < rate <= 1
    x, rate = samplers.hmc(normal_energy, start(20_000, 1), 25, 1.7, 3, generator(3))  # coarse: Metropolis must work
    assert float(x.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 20_000))
    assert 0.4 < rate < 0.95


@pytest.mark.parametrize("name", ["mala", "hmc"])
def test_correlated_gaussian(name: str) -> None:
    x = 3 * start(4000, 2)
    if name == "mala":
        x, rate = samplers.mala(correlated_energy, x, 80, 0.4, generator(4))
    else:
        x, rate = samplers.hmc(correlated_energy, x, 25, 0.4, 4, generator(4))  # a half turn, 0.4 · 6, would resonate with the narrow axis
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
        x, rate = samplers.mala(energy, x, 30, 0.3, generator(5))
    else:
        x, rate = samplers.hmc(energy, x, 30, 0.3, 3, generator(5))
    assert bool((x > 0).all()) and 0.3 < rate < 1
    assert float(x.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.06)


def test_the_generator_decides() -> None:
    a, b, c = (samplers.hmc(normal_energy, start(10, 2), 3, 0.3, 2, generator(s))[0] for s in (1, 1, 2))
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
    state = samplers.gibbs([x_given_y, y_given_x], (zero, zero), 20)
    assert calls == ["x", "y"] * 20
    torch.testing.assert_close(torch.cov(torch.stack(state)), torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64), atol=0.04, rtol=0)


class Bridge:
    """f_β(x) = exp(−½ x² (1 − β + β/σ²)): Z_1/Z_0 = σ; one Metropolis step at each temperature."""

    sigma = 0.3

    def __init__(self, seed: int) -> None:
        self.rng = generator(seed)

    def precision(self, beta: float) -> float:
        return 1 - beta + beta / self.sigma**2

    def __call__(self, x: torch.Tensor, now: float, then: float) -> tuple[torch.Tensor, torch.Tensor]:
        gain = -0.5 * x[:, 0].square() * (self.precision(then) - self.precision(now))
        t = self.precision(then)
        x, _ = samplers.hmc(lambda v: 0.5 * v[:, 0].square() * t, x, 1, 1 / math.sqrt(t), 1, self.rng)
        return x, gain


@pytest.mark.parametrize("backward", [False, True])
def test_annealing_finds_the_ratio_of_two_gaussians(backward: bool) -> None:
    grid, x = samplers.temperatures(60), start(500, 1, seed=7)
    if backward:
        grid, x = grid[::-1], Bridge.sigma * x
    x, log_w = samplers.anneal(Bridge(8), x, grid)
    value, stderr, ess = samplers.log_mean_weight(log_w)
    truth = math.log(Bridge.sigma) * (-1 if backward else 1)
    assert abs(value - truth) < 3 * stderr and stderr < 0.03 and ess > 300
    assert float(x.std()) == pytest.approx(1.0 if backward else Bridge.sigma, rel=0.15)  # and the state arrives


def test_annealing_slower_is_better() -> None:
    def error(n: int) -> float:  # from the narrow to the wide
        x = Bridge.sigma * start(500, 1, seed=7)
        return samplers.log_mean_weight(samplers.anneal(Bridge(9), x, samplers.temperatures(n)[::-1])[1])[1]

    assert error(60) < 0.5 * error(3)


def test_one_temperature_is_importance_sampling() -> None:
    x = start(50, 1)
    _, log_w = samplers.anneal(Bridge(0), x, [0.0, 1.0])
    torch.testing.assert_close(log_w, -0.5 * x[:, 0].square() * (1 / Bridge.sigma**2 - 1))


def test_temperatures() -> None:
    t = samplers.temperatures(10)
    assert len(t) == 11 and t[0] == 0 and t[-1] == 1
    gaps = [b - a for a, b in zip(t, t[1:], strict=False)]
    assert all(a > b > 0 for a, b in zip(gaps, gaps[1:], strict=False))  # closer together near 1
    assert samplers.temperatures(4, power=1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_log_mean_weight_by_hand() -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    value, stderr, ess = samplers.log_mean_weight(torch.log(w) + 1000)  # a shift that would overflow
    assert value == pytest.approx(math.log(3) + 1000)
    assert stderr == pytest.approx(float(w.std()) / 3 / 2)
    assert ess == pytest.approx(144 / 50)
    assert samplers.log_mean_weight(torch.zeros(7))[1:] == pytest.approx((0.0, 7.0))
    assert samplers.log_mean_weight(torch.zeros(1))[1] == math.inf


def test_the_standard_error_of_log_mean_weight_is_honest() -> None:
    log_w = 0.5 * torch.randn(2000, 100, generator=generator(10), dtype=torch.float64) - 0.125  # E w = 1
    values, errors, _ = (torch.tensor(v) for v in zip(*(samplers.log_mean_weight(r) for r in log_w), strict=True))
    assert float((values / errors).std()) == pytest.approx(1.0, abs=0.1)


def test_log_partition_says_what_it_is() -> None:
    assert samplers.LogPartition(3.0).exact and not samplers.LogPartition(3.0, 0.1, 50.0, 100).exact
