"""Samplers on fields that are known: their order, moments, and the weights of a mixture."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from genus.learn.rows import generator
from genus.models.diffusion import samplers
from genus.models.diffusion.schedules import Cosine, Exploding, LinearBeta, Schedule, Straight
from oracles import GaussianField, MixtureField

MEAN, S = 0.7, 0.4
PATHS = [Straight(), Cosine(), LinearBeta(), Exploding()]
paths = pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)


def gaussian(path: Schedule) -> GaussianField:
    one = torch.ones(1, dtype=torch.float64)
    return GaussianField(path, MEAN * one, S**2 * one[None])


def solve(name: str, path: Schedule, x: Tensor, times: Tensor) -> Tensor:
    """x_t of standard normals x̂ through a sampler on the Gaussian field."""
    x = x * path.radius(times[0])
    return samplers.SAMPLERS[name](gaussian(path), path, x, times, generator(1))  # type: ignore[operator]


def run(name: str, path: Schedule, x: Tensor, steps: int, field: object = None) -> Tensor:
    """x̂ of standard normals through a sampler."""
    x = x * path.radius(path.times(1)[0])
    sampler = samplers.SAMPLERS[name]
    return sampler(field or gaussian(path), path, x, path.times(steps), generator(1))  # type: ignore[operator,arg-type]


def truth(path: Schedule, x: Tensor, angle: float | None = None) -> Tensor:
    """Where the ODE brings x̂ from an angle, the last: scores (x − α μ)/√V stay what they are."""
    angle = path.last if angle is None else angle
    c, s = math.cos(angle), math.sin(angle)
    return MEAN + S * (x - c * MEAN) / math.sqrt(c**2 * S**2 + s**2)


@paths
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpm-solver++", 2)])
def test_the_order_of_deterministic_samplers(path: Schedule, name: str, order: int) -> None:
    """From a little after pure noise to a little before the data, where log α/σ is finite."""
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    errors = []
    for n in (40, 80, 160):
        angles = torch.linspace(1.5, 0.2, n + 1, dtype=torch.float64)
        times = path.time(angles)
        c, s = math.cos(0.2), math.sin(0.2)
        start = truth(path, x, 1.5)
        true = c * MEAN + math.sqrt(c**2 * S**2 + s**2) / S * (start - MEAN)
        end = path.radius(times[-1]) * true
        errors.append(float((solve(name, path, x, times) - end).abs().max()))
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)
    assert float((run(name, path, x, 80) - truth(path, x)).abs().max()) < 0.1**order


NOISY = [("ancestral", 100), ("predictor-corrector", 60), ("langevin", 60)]


@paths
@pytest.mark.parametrize(("name", "steps"), NOISY)
def test_moments_of_random_samplers(path: Schedule, name: str, steps: int) -> None:
    n = 4000
    x = torch.randn(n, 1, generator=generator(0), dtype=torch.float64)
    y = run(name, path, x, steps)
    # Langevin without Metropolis, of so many steps, is a little too wide and too near its start
    loose = 2 if name == "langevin" else 1
    assert float(y.mean()) == pytest.approx(MEAN, abs=0.03 * loose)
    assert float(y.std()) == pytest.approx(S, rel=0.06 * loose)
    start = x[:, 0] - x.mean()
    told = float((start * (y[:, 0] - y.mean())).mean() / (start.std() * y.std()))
    assert abs(told) < 0.25  # noise is drawn on the way: ends forget where they began


@pytest.mark.parametrize("name", list(samplers.SAMPLERS))
def test_weights_of_a_mixture(name: str) -> None:
    path = Cosine()
    field = MixtureField(path, torch.tensor([0.25, 0.75]), torch.tensor([-1.5, 0.8]), 0.25)
    x = torch.randn(3000, 1, generator=generator(0), dtype=torch.float64)
    y = run(name, path, x, 80, field)
    assert float((y < -0.35).double().mean()) == pytest.approx(0.25, abs=0.035)
    assert float(y[y > -0.35].std()) == pytest.approx(0.25, rel=0.25)


def test_the_corrector_alone_brings_a_wrong_start_to_the_noise_that_it_is_at() -> None:
    path, t = Cosine(), torch.tensor(0.3, dtype=torch.float64)
    field, rng = gaussian(path), generator(0)
    x = torch.zeros(2000, 1, dtype=torch.float64)
    for _ in range(80):
        x = samplers._corrected(field, path, x, t, rng)
    V = float(path.alpha(t)) ** 2 * S**2 + float(path.sigma(t)) ** 2
    assert float(x.mean()) == pytest.approx(float(path.alpha(t)) * MEAN, abs=0.04)
    assert float(x.var()) == pytest.approx(V, rel=0.12)


def test_the_corrector_looks_once_more_a_step_and_mends_what_the_predictor_leaves() -> None:
    """By steps of variance β̃ alone a marginal becomes too narrow."""
    path, looks = Cosine(), []
    field = gaussian(path)

    def counted(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        looks.append(float(t))
        return field(x, t)

    x = torch.zeros(50_000, 1, dtype=torch.float64)
    times = path.times(40)[:36]
    last = times[-1]
    V = float(path.alpha(last)) ** 2 * S**2 + float(path.sigma(last)) ** 2
    off = {}
    for name in ("ancestral", "predictor-corrector"):
        looks.clear()
        options = {"variance": "beta-tilde"} if name == "ancestral" else {}
        y = samplers.SAMPLERS[name](counted, path, x, times, generator(0), **options)  # type: ignore[operator]
        off[name] = 1 - float(y.var()) / V
        corrected = [] if name == "ancestral" else times[1:].tolist()
        assert sorted(looks) == sorted(times[:-1].tolist() + corrected)
    assert 0 < off["predictor-corrector"] < 0.7 * off["ancestral"]


def test_the_posterior_is_that_of_bayes() -> None:
    path = Straight()
    t, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    x, x0 = torch.tensor([[0.9]]).double(), torch.tensor([[0.2]]).double()
    mean, small, beta = samplers.posterior(path, x, x0, t, s)
    ratio = float(path.alpha(t) / path.alpha(s))
    precision = 1 / 0.4**2 + ratio**2 / float(beta)
    assert ratio**2 * 0.4**2 + float(beta) == pytest.approx(0.6**2)
    assert float(small) == pytest.approx(1 / precision)
    by_hand = (0.6 * 0.2 / 0.4**2 + ratio * 0.9 / float(beta)) / precision
    assert float(mean) == pytest.approx(by_hand)


def test_variances_between_the_two_extremes_are_used() -> None:
    path = Cosine()
    x = torch.zeros(3000, 1, dtype=torch.float64)
    spread = {}
    for variance in ("beta", "beta-tilde", lambda x, t, s: torch.zeros(())):
        y = samplers.ancestral(gaussian(path), path, x, path.times(4), generator(0), variance)
        spread[str(variance)[:10]] = float(y.std())
    none, small, large = sorted(spread.values())
    assert none == 0 and small < 0.97 * large
    assert spread["beta-tilde"] == small and spread["beta"] == large
