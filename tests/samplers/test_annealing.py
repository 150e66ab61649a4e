"""Annealing against ratios of Z that are known."""

from __future__ import annotations

import math

import pytest
import torch

from genus.learn.rows import generator
from genus.samplers import chains
from genus.samplers.annealing import LogPartition, anneal, log_mean_weight, temperatures


def normal_energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.square().sum(1)


COV = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64)
PRECISION = torch.linalg.inv(COV)


def correlated_energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * ((x @ PRECISION) * x).sum(1)


def start(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


class Bridge:
    """f_β(x) = exp(−½ x² (1 − β + β/σ²)): Z_1/Z_0 = σ; one Metropolis step at each temperature."""

    sigma = 0.3

    def __init__(self, seed: int) -> None:
        self.rng = generator(seed)

    def precision(self, beta: float) -> float:
        return 1 - beta + beta / self.sigma**2

    def __call__(
        self, x: torch.Tensor, now: float, then: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gain = -0.5 * x[:, 0].square() * (self.precision(then) - self.precision(now))
        t = self.precision(then)
        x, _ = chains.hmc(lambda v: 0.5 * v[:, 0].square() * t, x, 1, 1 / math.sqrt(t), 1, self.rng)
        return x, gain


@pytest.mark.parametrize("backward", [False, True])
def test_annealing_finds_the_ratio_of_two_gaussians(backward: bool) -> None:
    grid, x = temperatures(60), start(500, 1, seed=7)
    if backward:
        grid, x = grid[::-1], Bridge.sigma * x
    x, log_w = anneal(Bridge(8), x, grid)
    value, stderr, ess = log_mean_weight(log_w)
    truth = math.log(Bridge.sigma) * (-1 if backward else 1)
    assert abs(value - truth) < 3 * stderr and stderr < 0.03 and ess > 300
    # and the state arrives
    assert float(x.std()) == pytest.approx(1.0 if backward else Bridge.sigma, rel=0.15)


def test_annealing_slower_is_better() -> None:
    def error(n: int) -> float:  # from the narrow to the wide
        x = Bridge.sigma * start(500, 1, seed=7)
        return log_mean_weight(anneal(Bridge(9), x, temperatures(n)[::-1])[1])[1]

    assert error(60) < 0.5 * error(3)


def test_one_temperature_is_importance_sampling() -> None:
    x = start(50, 1)
    _, log_w = anneal(Bridge(0), x, [0.0, 1.0])
    torch.testing.assert_close(log_w, -0.5 * x[:, 0].square() * (1 / Bridge.sigma**2 - 1))


def test_temperatures() -> None:
    t = temperatures(10)
    assert len(t) == 11 and t[0] == 0 and t[-1] == 1
    gaps = [b - a for a, b in zip(t, t[1:], strict=False)]
    assert all(a > b > 0 for a, b in zip(gaps, gaps[1:], strict=False))  # closer together near 1
    assert temperatures(4, power=1) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_log_mean_weight_by_hand() -> None:
    w = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    value, stderr, ess = log_mean_weight(torch.log(w) + 1000)  # a shift that would overflow
    assert value == pytest.approx(math.log(3) + 1000)
    assert stderr == pytest.approx(float(w.std()) / 3 / 2)
    assert ess == pytest.approx(144 / 50)
    assert log_mean_weight(torch.zeros(7))[1:] == pytest.approx((0.0, 7.0))
    assert log_mean_weight(torch.zeros(1))[1] == math.inf


def test_the_standard_error_of_log_mean_weight_is_honest() -> None:
    # E w = 1
    log_w = 0.5 * torch.randn(2000, 100, generator=generator(10), dtype=torch.float64) - 0.125
    values, errors, _ = (
        torch.tensor(v) for v in zip(*(log_mean_weight(r) for r in log_w), strict=True)
    )
    assert float((values / errors).std()) == pytest.approx(1.0, abs=0.1)


def test_log_partition_says_what_it_is() -> None:
    assert LogPartition(3.0).exact and not LogPartition(3.0, 0.1, 50.0, 100).exact
