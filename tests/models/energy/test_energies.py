"""What models of energies share: regimes, chains in a buffer, divergence, honest numbers."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import genus
from genus import CapabilityError
from genus.learn.rows import generator

QUICK = genus.Trainer(epochs=3, batch_size=32, lr=1e-2, progress=False)


class Quadratic(nn.Module):
    """E = ½ λ ‖y‖², from which training begins."""

    def __init__(self, precision: float) -> None:
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.precision * y.square().sum(1, keepdim=True)


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(300, 2))
    return X, genus.EBM(genus.MLP(8, 1, "silu"), trainer=QUICK, random_state=0).fit(X)


@pytest.fixture(scope="module")
def images():
    r = np.random.default_rng(0)
    X = np.clip(r.binomial(16, 0.5, (200, 4, 4)) + 4 * r.integers(-1, 2, (200, 1, 1)), 0, 16)
    X = X.astype(np.uint8)
    space = genus.Space((4, 4), "ordinal", levels=17, layout="HW")
    model = genus.EBM(genus.MLP(8, 1, "silu"), steps=3, trainer=QUICK, random_state=0)
    return X, model.fit(X, space=space)


def test_annealing_agrees_with_a_grid(table):
    X, model = table
    axis = torch.linspace(-6, 6, 241)
    y = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_z = float(model._log_f(y).double().logsumexp(0) + 2 * math.log(12 / 240))
    told = model.log_partition()
    assert abs(told.value - log_z) < 4 * told.stderr + 0.01
    assert 0 < told.stderr < 0.1 and abs(told.reverse - log_z) < 0.2
    p = model.log_prob(X)
    assert isinstance(p, genus.Estimate) and p.shared_stderr == told.stderr


def test_a_tilt_of_nothing_has_z_one(table):
    X, _ = table
    own = genus.EBM(Quadratic(0.0), trainer=QUICK.replace(lr=1e-12), random_state=0).fit(X)
    assert own.log_partition().value == pytest.approx(0, abs=1e-3)


def test_short_chains_have_an_energy_and_no_probability(images):
    X, model = images
    assert model._temperature() == 5e-4 and model._method() == "short-run"
    for verb in (model.log_prob, model.score_samples, lambda _: model.log_partition()):
        with pytest.raises(CapabilityError, match="energy"):
            verb(X)
    assert model.energy(X).shape == (200,) and model.score_function(X).shape == (200, 16)
    draws = model.sample(20, random_state=0)
    assert draws.shape == (20, 4, 4) and draws.dtype == X.dtype
    way = model.chains(5, 6, every=3, random_state=0)
    assert way.shape == (3, 5, 4, 4)
    filled = model.complete(X[:5], mask=np.arange(16).reshape(4, 4) < 8, random_state=0)
    assert (filled[:, 2:] == X[:5, 2:]).all() and (filled[:, :2] != X[:5, :2]).any()


def test_sample_makes_as_many_steps_as_training(images, monkeypatch):
    _, model = images
    counted = []
    moved = type(model)._moved

    def watch(self, y, steps, *more, **kw):
        counted.append(steps)
        return moved(self, y, steps, *more, **kw)

    monkeypatch.setattr(type(model), "_moved", watch)
    model.sample(3, random_state=0)
    assert counted == [3]


def test_images_have_a_density_in_normal_scores(images):
    X, _ = images
    model = genus.EBM(
        genus.MLP(8, 1), marginals="learned", n_annealing=50, trainer=QUICK, random_state=0
    )
    assert model.fit(X).log_prob(X[:20]).measure == "probability"


def test_the_buffer_is_written_where_it_was_read(table, tmp_path):
    X, _ = table
    model = genus.EBM(
        genus.MLP(8, 1), "pcd", n_chains=50, restart=0.0, steps=2, trainer=QUICK, random_state=0
    ).fit(X)
    model.rng = generator(5)
    before = model._chains.clone()
    index = torch.randperm(50, generator=generator(5))[:32]
    end = model._negatives(torch.zeros(32, 2))
    rest = torch.ones(50, dtype=torch.bool)
    rest[index] = False
    assert torch.equal(model._chains[index], end) and torch.equal(model._chains[rest], before[rest])
    model.save(tmp_path / "ebm")
    assert len(genus.load(tmp_path / "ebm")._chains) == 0


def test_methods_begin_their_chains_in_their_own_way(table, monkeypatch):
    X, model = table
    model.rng = generator(0)
    y = torch.full((8, 2), 7.0)
    begun = []

    def watch(self, begin, *more, **kw):
        begun.append(begin.clone())
        return begin

    monkeypatch.setattr(type(model), "_moved", watch)
    for method in ("cd", "short-run", "pcd"):
        monkeypatch.setattr(type(model), "_method", lambda self, m=method: m)
        model._negatives(y)
    assert torch.equal(begun[0], y) and float(begun[1].abs().max()) < 6
    assert bool((begun[2][:, None] == model._chains[None]).all(2).any(1).float().mean() > 0.5)


def test_batch_norm_is_refused(table):
    X, _ = table

    def normed(a, b):
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    with pytest.raises(ValueError, match="batch norm.*depends on the rows beside"):
        genus.EBM(normed, trainer=QUICK).fit(X)


def test_divergence_is_told_rolled_back_and_tried_with_half_the_step(table):
    X, _ = table
    model = genus.EBM(
        Quadratic(1.0), "pcd", "langevin", step_size=0.5, trainer=QUICK, random_state=0
    )
    model.fit(X)
    assert model.retries_ == 0
    y, gap = torch.zeros(4, 2), torch.tensor(2e3)
    model._note_health(gap, y, y)
    assert re.search("2e\\+03 apart.*half the step", model.trouble(1.0, 1.0))
    assert model.retries_ == 1
    one = model._moved(y, 1, generator(0))
    model.retries_ = 0
    assert float(model._moved(y, 1, generator(0)).std() / one.std()) == pytest.approx(
        2**0.5, rel=1e-3
    )
    model._note_health(gap * math.nan, y, y)
    assert "not finite" in model.trouble(1.0, 1.0)


def test_saturated_chains_are_divergence(images):
    _, model = images
    inside, ends = torch.zeros(4, 16), torch.ones(4, 16)
    gap = torch.zeros(())
    model._note_health(gap, inside, inside)
    assert model.trouble(0.0, 1.0) == ""
    model._note_health(gap, inside, ends)
    assert re.search("100% of the cells.*end of the box", model.trouble(0.0, 1.0))
    model.retries_ = 0


def test_a_run_that_diverges_comes_back(table, monkeypatch):
    X, _ = table
    model = genus.EBM(genus.MLP(8, 1), trainer=QUICK.replace(epochs=8), random_state=0)
    calls = []
    note = type(model)._note_health

    def once(self, gap, y, end):
        calls.append(1)
        note(self, gap + 5e3 if len(calls) == 40 else gap, y, end)

    monkeypatch.setattr(type(model), "_note_health", once)
    with pytest.warns(UserWarning, match="apart.*half the step.*rolled back"):
        model.fit(X)
    assert model.retries_ == 1 and all(bool(p.isfinite().all()) for p in model.parameters())
