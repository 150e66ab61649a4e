"""Completions by guidance against conditionals that are known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from genus.learn.rows import generator
from genus.models.diffusion.completion import _log_mass, guided
from genus.models.diffusion.schedules import Cosine, Exploding, Schedule, Straight
from oracles import GaussianField

RHO = 0.9
MEAN = torch.zeros(2, dtype=torch.float64)
COV = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)
INF = math.inf


def drawn(
    low: float, high: float, n: int, particles: int = 1, path: Schedule | None = None
) -> torch.Tensor:
    path = path or Cosine()
    edges = torch.tensor([[low, -INF], [high, INF]], dtype=torch.float64)
    times, rng = path.times(100), generator(0)
    field = GaussianField(path, MEAN, COV)
    y = guided(field, path, edges[:1].expand(n, 2), edges[1:].expand(n, 2), times, rng, particles)
    return y[0]


def test_the_conditional_of_a_gaussian() -> None:
    """Plain replacement gives a mean of .93 and a variance of .30 where these are 1.35 and .19."""
    y = drawn(1.5, 1.5, 2500)
    assert float(y[:, 1].mean()) == pytest.approx(RHO * 1.5, abs=0.03)
    assert float(y[:, 1].var()) == pytest.approx(1 - RHO**2, rel=0.1)
    assert float((y[:, 0] - 1.5).abs().mean()) < 0.05


def test_particles_begin_with_what_the_first_look_says() -> None:
    """From noise of σ = 2 particles that are all alike at first end at a mean of 1.30."""
    y = drawn(1.5, 1.5, 1500, 16, Exploding(0.01, 2.0))
    assert float(y[:, 1].mean()) == pytest.approx(RHO * 1.5, abs=0.03)


def test_guidance_by_a_network_that_learned_nothing_does_not_overshoot() -> None:
    """Data that are said to be differences: a derivative whose sums are 0, and no variance."""
    path = Cosine()

    def field(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x0 = (x - x.flip(1)) / 2
        return x0, (x - path.alpha(t) * x0) / path.sigma(t)

    edges = torch.full((200, 2), 1.0, dtype=torch.float64)
    y = guided(field, path, edges, edges, path.times(100), generator(0))[0]
    assert float(y.abs().max()) < 20


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (1.0, INF)])
def test_a_level_is_known_by_its_edges(low: float, high: float) -> None:
    y = drawn(low, high, 1500, 2)
    cut = stats.truncnorm(low, high)
    assert float(y[:, 0].mean()) == pytest.approx(cut.mean(), abs=0.05)
    assert float(y[:, 1].mean()) == pytest.approx(RHO * cut.mean(), abs=0.05)
    assert float(y[:, 1].var()) == pytest.approx(RHO**2 * cut.var() + 1 - RHO**2, rel=0.15)


def test_where_nothing_is_known_draws_are_plain() -> None:
    y = drawn(-INF, INF, 2000)
    assert torch.allclose(y.T.cov(), COV, atol=0.1)


def test_particles_of_a_row_are_weighted() -> None:
    """Two modes, of which the known cell tells: guidance alone does not weigh them rightly."""
    path, S = Straight(), 0.4
    modes = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)

    def field(x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha, sigma = path.alpha(t), path.sigma(t)
        V = alpha.square() * S**2 + sigma.square()
        apart = x[:, None] - alpha * modes
        share = torch.softmax(-0.5 * apart.square().sum(2) / V, 1)[:, :, None]
        x0 = (share * (modes + alpha * S**2 / V * apart)).sum(1)
        return x0, (share * sigma / V * apart).sum(1)

    n = 400
    low = torch.tensor([0.25, -INF], dtype=torch.float64).expand(n, 2)
    high = torch.tensor([0.25, INF], dtype=torch.float64).expand(n, 2)
    true = 1 / (1 + math.exp(-0.5 * (1.25**2 - 0.75**2) / S**2))
    shares = []
    for particles in (1, 16):
        y = guided(field, path, low, high, path.times(100), generator(0), particles)[0]
        shares.append(float((y[:, 1] > 0).double().mean()))
    assert shares[1] == pytest.approx(true, abs=0.05) and shares[0] < true - 0.07
    several = guided(field, path, low[:50], high[:50], path.times(100), generator(0), 16, 3)
    assert several.shape == (3, 50, 2)


def test_masses_in_the_tails_and_their_gradients_are_finite() -> None:
    low = torch.tensor([-INF, 8.0, 30.0, 1.0, -INF], dtype=torch.float64)
    high = torch.tensor([-8.0, INF, 30.1, 1.0, INF], dtype=torch.float64)
    mean = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    mass = _log_mass(low, high, mean, torch.ones_like(mean))
    mass.sum().backward()
    mass = mass.detach()
    assert torch.isfinite(mass).all() and torch.isfinite(mean.grad).all()  # type: ignore[arg-type]
    assert float(mass[0]) == pytest.approx(stats.norm.logcdf(-8))
    assert float(mass[1]) == pytest.approx(stats.norm.logsf(8))
    assert float(mass[3]) == pytest.approx(stats.norm.logpdf(1)) and mass[4] == 0
