"""Diffusion: the floor of its loss, discrete times, variances, the bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genus import Diffusion, LowerBound, ResNet, Trainer
from genus.learn.rows import generator
from genus.models.diffusion.diffusion import between
from genus.models.diffusion.samplers import posterior
from oracles import GaussianField

QUICK = Trainer(epochs=3, batch_size=64, progress=False)
X = np.random.default_rng(0).normal(size=(200, 1))


def small(**args: object) -> Diffusion:
    return Diffusion(ResNet(8, 1), trainer=QUICK, random_state=0, **args)  # type: ignore[arg-type]


@pytest.mark.parametrize("prediction", ["noise", "data", "v", "edm"])
def test_the_floor_of_the_loss(prediction: str) -> None:
    """ᾱ s²/v of the noise, v = ᾱ s² + 1 − ᾱ; what else is said errs by a multiple of that."""
    s, n, t = 0.5, 20_000, torch.tensor(0.4, dtype=torch.float64)
    model = small(prediction=prediction).fit(X)
    path = model.path()
    one = torch.ones(1, dtype=torch.float64)
    field = GaussianField(path, 0 * one, s**2 * one[None])
    alpha, sigma = path.alpha(t), path.sigma(t)
    a, b = model.target(alpha, sigma)

    def look(x: Tensor, *more: object) -> Tensor:
        x0, e = field(x, t)
        return a * x0 + b * e

    model.look = look  # type: ignore[method-assign]
    y, e = torch.randn(2, n, 1, generator=generator(0), dtype=torch.float64)
    found = float(model.error(s * y, y > -9, e, t.expand(n, 1), None, None))
    floor = float(alpha**2 * s**2 / (alpha**2 * s**2 + sigma**2))
    # what is said errs by b − a σ/α times what the noise errs by
    assert found == pytest.approx(floor * float((b - a * sigma / alpha) ** 2), rel=0.04)


def test_times_are_those_at_which_it_learned() -> None:
    u = torch.rand(2000, 1, generator=generator(0), dtype=torch.float64)
    discrete, continuous = small(n_times=10), small(n_times=None)
    found = discrete.learning_times(u)
    assert sorted(set((10 * found).round().flatten().tolist())) == list(range(1, 11))
    assert torch.equal(continuous.learning_times(u), u)
    grid = discrete.times() * 10
    assert torch.allclose(grid, grid.round()) and grid[0] == 10 and grid[-1] == 0
    assert len(continuous.times()) == 11


def test_learned_variances_lie_between_the_two() -> None:
    path = small().path()
    t, s = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    x = torch.zeros(3, 1, dtype=torch.float64)
    _, low, high = posterior(path, x, x, t, s)
    v = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float64)
    found = between(v, low, high)
    assert torch.allclose(found, torch.stack([low, (low * high).sqrt(), high]), rtol=1e-6)
    assert float(between(v, torch.zeros(()).double(), high)[0]) == pytest.approx(float(high))


@pytest.mark.parametrize(
    ("variance", "v"), [("beta", 0), ("beta-tilde", 0), ("learned", 30), ("learned", -30)]
)
def test_draws_have_the_variance_that_was_asked_for(variance: str, v: float) -> None:
    """A network that is right of N(0, s²): each step is a line, whose draws are known."""
    s, n = 0.5, 20_000
    model = small(variance=variance, sampler="ancestral", steps=4, n_times=None).fit(X)
    path = model.path()
    one = torch.ones(1, dtype=torch.float64)
    field = GaussianField(path, 0 * one, s**2 * one[None])

    def look(x: Tensor, t: Tensor, *more: object) -> Tensor:
        x0, e = field(x, t[0])
        v_is = torch.full_like(x, v)
        said = path.alpha(t) * e - path.sigma(t) * x0
        return torch.cat([said, v_is][: model.outputs()], 1)

    model.look = look  # type: ignore[method-assign]
    x = torch.randn(n, 1, generator=generator(0), dtype=torch.float64)
    times = path.times(4)
    with torch.no_grad():
        y = model.denoised(x, model.times(), generator(1))
    known = {}
    for which in ("beta-tilde", "beta"):
        V = 1.0
        for t, r in zip(times, times[1:], strict=False):
            x0, _ = field(one[None], t)
            slope, low, high = posterior(path, one[None], x0, t, r)
            w = float(low if which == "beta-tilde" else high) if r > 0 else 0.0
            V = float(slope) ** 2 * V + w
        known[which] = V
    asked = {30: "beta", -30: "beta-tilde"}.get(int(v), variance)
    assert known["beta-tilde"] < 0.8 * known["beta"]
    assert float(y.var()) == pytest.approx(known[asked], rel=0.04)


def test_the_bound_teaches_the_variance() -> None:
    """Of standard normal data the right one is β, which few steps tell from β̃."""
    trainer = QUICK.replace(epochs=60, lr=1e-2)
    model = Diffusion(
        ResNet(16, 1), variance="learned", n_times=8, trainer=trainer, random_state=0
    ).fit(X)
    times = torch.arange(8, 0, -1, dtype=torch.float64) / 8
    x = torch.randn(200, 1, generator=generator(0), dtype=torch.float64)
    spread = model.spread()
    assert callable(spread)
    with torch.no_grad():
        for t, s in ((times[2], times[3]), (times[5], times[6])):
            _, low, high = posterior(model.path(), x, x, t, s)
            assert float(spread(x, t, s).mean()) > float((low * high).sqrt())
    assert np.isfinite(model.set_params(sampler="ancestral").sample(5, random_state=0)).all()


def test_log_prob_is_the_bound_where_asked() -> None:
    """With a network that is right of standard normal scores the bound is tight where w is β."""
    found = {}
    for variance in ("beta", "beta-tilde"):
        model = small(likelihood="bound", variance=variance, steps=20).fit(X)
        model.look = lambda x, *more: torch.zeros_like(x)  # type: ignore[method-assign]
        p = model.log_prob(X)
        assert isinstance(p, LowerBound) and (p.stderr > 0).all()
        found[variance] = p.mean()
    model.likelihood = "ode"
    truth = model.log_prob(X).mean()
    assert found["beta"] == pytest.approx(truth, abs=0.1)
    assert found["beta-tilde"] < truth - 0.2


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedules_have_other_paths(schedule: str) -> None:
    t = torch.tensor(0.3, dtype=torch.float64)
    alpha = float(small(schedule=schedule).path().alpha(t))
    assert alpha == pytest.approx({"cosine": 0.8920, "linear": 0.6296}[schedule], abs=2e-3)
