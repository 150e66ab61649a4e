"""What unnormalised models share, on an RBM whose every state can be looked at."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from genus import DBM, RBM, BoltzmannMachine, Trainer
from genus.learn.rows import generator

QUICK = Trainer(epochs=2, batch_size=20)
STATES = np.array(list(itertools.product((0, 1), repeat=4)))


def rows(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (n, 4))


def shaken(model: Any, size: float = 0.7) -> Any:
    """The fitted model at random parameters."""
    rng = generator(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=rng))
    model.__dict__.pop("log_partition_", None)
    return model


MODELS = {
    "rbm": lambda: RBM(3, trainer=QUICK, random_state=0),
    "machine": lambda: BoltzmannMachine(trainer=QUICK, random_state=0),
    "machine-hidden": lambda: BoltzmannMachine(2, trainer=QUICK, random_state=0),
    "dbm": lambda: DBM((3, 2), trainer=QUICK, random_state=0),
    "dbm-3": lambda: DBM((3, 2, 2), trainer=QUICK, random_state=0),
}
models = pytest.mark.parametrize("name", MODELS)


def fitted(name: str) -> Any:
    return shaken(MODELS[name]().fit(rows()))


@models
def test_probabilities_are_energies_less_log_z(name: str) -> None:
    m = fitted(name)
    f = m.free_energy(STATES).astype(float)
    z = m.log_partition("exact")
    assert z.exact and z.value == pytest.approx(np.logaddexp.reduce(-f), abs=1e-5)
    np.testing.assert_allclose(m.score_samples(STATES), -f - z.value, atol=1e-5)
    ais = m.log_partition("ais", n_chains=400, n_annealing=300, random_state=1)
    assert abs(ais.value - z.value) < 3 * ais.stderr + 1e-3
    assert abs(ais.reverse - z.value) < 5 * ais.stderr + 1e-3
    assert 100 < ais.ess <= 400 and ais.detail == {"n_annealing": 300}
    with pytest.raises(ValueError, match="method='guess'"):
        m.log_partition("guess")


def test_annealing_goes_on_until_it_can_be_trusted() -> None:
    m = shaken(MODELS["rbm"]().fit(rows()), size=4)
    truth = m.log_partition("exact").value
    rough = m.log_partition("ais", n_annealing=1, max_time=0.0)
    assert rough.detail == {"n_annealing": 1, "ended": "time ran out"} and rough.chains == 200
    assert rough.ess < 50 or abs(rough.moved) >= 0.3
    z = m.log_partition("ais", n_annealing=1, max_time=60.0)
    assert z.detail["ended"] == "settled" and z.detail["n_annealing"] > 4
    assert z.ess >= 50 and abs(z.moved) < 0.3 and abs(z.value - truth) < 0.3


@models
def test_chains_leave_the_distribution_alone(name: str) -> None:
    """Started at many rows drawn from p, one sweep gives rows drawn from p."""
    m = fitted(name)
    p = np.exp(m.score_samples(STATES).astype(float))
    start = STATES[np.random.default_rng(2).choice(16, 8000, p=p / p.sum())]
    for steps in (1, 5):
        end = m.gibbs(steps=steps, start=start, random_state=0)
        shares = np.bincount(end @ (8, 4, 2, 1), minlength=16) / len(end)
        # layers above the first start at mean field, not at the posterior: one sweep is not enough
        slack = 0.03 if not name.startswith("dbm") or steps > 1 else 0.1
        assert 0.5 * np.abs(shares - p).sum() < slack


@models
def test_chains_say_where_they_have_been(name: str) -> None:
    m = fitted(name)
    start = rows(3)
    way = m.gibbs(2, 10, start=start, every=5, random_state=0)
    assert way.shape == (3, 6, 4) and way.dtype == start.dtype
    assert np.array_equal(way[0], np.repeat(start, 2, 0))
    assert m.gibbs(7, 3).shape == (7, 4)
    assert np.array_equal(m.gibbs(5, 4, random_state=3), m.gibbs(5, 4, every=4, random_state=3)[-1])
    assert np.array_equal(m.gibbs(start=start, steps=0), start)
    with pytest.raises(ValueError, match="every"):
        m.gibbs(2, 10, every=0)
    with pytest.raises(ValueError, match="missing"):
        m.gibbs(start=np.full((1, 4), np.nan))


def test_chains_come_in_the_callers_type() -> None:
    X = pd.DataFrame({"a": rows()[:, 0].astype(bool), "b": np.where(rows()[:, 1], "x", "y")})
    m = RBM(3, trainer=QUICK, random_state=0).fit(X)
    end = m.gibbs(start=X.iloc[:4], steps=2)
    assert list(end.columns) == ["a", "b"] and end.dtypes.equals(X.dtypes)
    way = m.gibbs(start=X.iloc[:4], steps=4, every=2)
    assert [len(frame) for frame in way] == [4, 4, 4]
    assert way[0].equals(X.iloc[:4].reset_index(drop=True))


@models
def test_chains_are_diagnosed(name: str) -> None:
    m = fitted(name)
    report = m.diagnose(10, 300, random_state=0)
    assert report.energy.shape == (300, 10)
    assert 0.05 < report.flips < 0.8
    assert report.r_hat == pytest.approx(1, abs=0.05)
    assert 1 <= report.autocorrelation_time < 20 and report.ess > 150
    with torch.no_grad():  # thirty times colder: little moves
        for p in m.parameters():
            p.mul_(30)
    assert m.diagnose(10, 100, random_state=0).flips < 0.3 * report.flips


@models
def test_held_out_rows_are_watched_by_a_likelihood_of_the_moment(name: str) -> None:
    """The log Z of an early look is not kept."""
    X = np.repeat(np.random.default_rng(0).integers(0, 2, (200, 2)), 2, axis=1)
    m = MODELS[name]()
    m.set_params(trainer=Trainer(epochs=8, batch_size=20, lr=0.5))
    m.fit(X, validation=X[:50])
    assert m.score(X) == pytest.approx(-min(line["validation"] for line in m.history_), abs=0.2)
    p = np.exp(m.score_samples(STATES).astype(float))
    assert p.sum() == pytest.approx(1, abs=1e-4)


def test_large_machines_are_watched_by_their_pseudo_likelihood() -> None:
    X = np.random.default_rng(0).integers(0, 2, (60, 20))
    m = BoltzmannMachine(trainer=QUICK, random_state=0).fit(X, validation=X[:30])
    x = torch.tensor(X[:30]).float()
    want = float(-m.pseudo_log_likelihood(x).mean().detach())
    assert m.history_[-1]["validation"] == pytest.approx(want, abs=1e-4)
    rbm = RBM(16, trainer=QUICK, random_state=0).fit(X, validation=X[:30])
    want = float(-rbm.pseudo_log_likelihood(x).mean().detach())
    best = min(line["validation"] for line in rbm.history_)
    assert best == pytest.approx(want, abs=1e-4)


def test_log_z_is_computed_once_for_all_chunks_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).integers(0, 2, (30, 22))
    m = DBM((21, 21), n_annealing=5, trainer=QUICK, random_state=0).fit(X)
    m.chunk, drawn = 10, []
    usual = DBM._by_annealing

    def counted(self: DBM, *settings: Any) -> Any:
        drawn.append(settings)
        return usual(self, *settings)

    monkeypatch.setattr(DBM, "_by_annealing", counted)
    bound = m.elbo(X)
    assert len(drawn) == 1 and np.array_equal(m.elbo(X), bound)
    m.log_prob(X)
    assert len(drawn) == 1 and m.log_partition_["value"] == m._log_z().value


def test_missing_cells_have_no_energy() -> None:
    with pytest.raises(ValueError, match="fill them"):
        fitted("rbm").free_energy(torch.full((1, 4), math.nan))
