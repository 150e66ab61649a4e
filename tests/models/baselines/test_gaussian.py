"""The Gaussian and its conditionals against numpy and scipy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning

from genus import Gaussian, GaussianMixture, Space
from genus.distributions.normals import variance_floor
from oracles import brute

RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 4))
MEAN, COV = np.array([1.0, -2.0, 0.5, 3.0]), A @ A.T + 0.2 * np.eye(4)


def with_holes(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.multivariate_normal(MEAN, COV, size=n)
    X[rng.random(X.shape) < 0.4] = np.nan
    return X


def test_closed_form_is_numpys() -> None:
    # far from 0: sums are taken about an origin
    X = RNG.multivariate_normal(MEAN, COV, size=500) + 1e4
    m = Gaussian(shrinkage=0).fit(X)
    np.testing.assert_allclose(m.mean_, X.mean(0), rtol=1e-12)
    np.testing.assert_allclose(m.covariance_, np.cov(X.T, bias=True), rtol=1e-8, atol=1e-9)
    expected = stats.multivariate_normal(X.mean(0), np.cov(X.T, bias=True)).logpdf(X[:50])
    np.testing.assert_allclose(m.score_samples(X[:50]), expected, rtol=1e-7)
    assert m.log_prob(X).kind == "exact" and m.n_parameters() == 4 + 10


def test_missing_entries_by_em() -> None:
    X = with_holes(400, 5) + 100
    tight: dict[str, Any] = {"shrinkage": 0, "tol": 1e-10, "max_iter": 2000}
    m = Gaussian(**tight).fit(X)
    mixture = GaussianMixture(1, reg_covar=0, **tight).fit(X)
    np.testing.assert_allclose(m.mean_, mixture.means_[0], atol=1e-4)
    np.testing.assert_allclose(m.covariance_, mixture.covariances_[0], atol=1e-3)
    np.testing.assert_allclose(m.log_prob(X).nats, mixture.log_prob(X).nats, atol=1e-4)
    at_best = m.log_prob(X).nats.sum()
    # a maximum: nothing near is better
    for change in (m.mean_, m.covariance_[0, :1], m.covariance_.diagonal()[2:3]):
        for step in (0.01, -0.01):
            change += step
            assert m.log_prob(X).nats.sum() < at_best
            change -= step
    assert (np.diff([h["objective"] for h in m.history_]) <= 1e-12).all()
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        assert Gaussian(max_iter=2).fit(X).n_iter_ == 2
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="no observed value"):
        Gaussian().fit(X)
    with pytest.raises(ValueError, match="max_iter"):
        Gaussian(max_iter=0).fit(X)


def test_shrinkage_raises_each_variance_by_a_share() -> None:
    X = RNG.multivariate_normal(MEAN, COV, size=200) * [1, 1e3, 1e-3, 1]
    plain, shrunk = (
        Gaussian(shrinkage=0).fit(X).covariance_,
        Gaussian(shrinkage=0.1).fit(X).covariance_,
    )
    np.testing.assert_allclose(shrunk - plain, 0.1 * np.diag(X.var(0)), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="shrinkage"):
        Gaussian(shrinkage=-1).fit(X)


def test_it_shrinks_by_itself_where_rows_are_few_and_hardly_where_they_are_many() -> None:
    rng = np.random.default_rng(6)
    loadings = rng.normal(size=(4, 120))
    X = rng.normal(size=(300, 4)) @ loadings + 0.5 * rng.normal(size=(300, 120))
    m, peer = Gaussian().fit(X[:40]), LedoitWolf().fit(X[:40])
    expected = stats.multivariate_normal(peer.location_, peer.covariance_).logpdf(X[40:])
    assert m.score(X[40:]) > expected.mean()
    S = np.cov(X[:40].T, bias=True)
    off = ~np.eye(120, dtype=bool)
    np.testing.assert_allclose(m.covariance_.numpy()[off], (1 - m.shrinkage_) * S[off])
    many = RNG.multivariate_normal(MEAN, COV, size=20_000)
    m = Gaussian().fit(many)
    assert m.shrinkage_ < 1e-3
    np.testing.assert_allclose(m.covariance_, np.cov(many.T, bias=True), rtol=1e-3, atol=1e-3)


def test_it_shrinks_where_entries_are_missing_too() -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 60)) + 0.5 * rng.normal(size=(200, 60))
    few = X[:30].copy()
    few[rng.random(few.shape) < 0.1] = np.nan
    plain, chosen = (Gaussian(shrinkage=s, random_state=0).fit(few) for s in (1e-3, None))
    assert 0 < chosen.shrinkage_ < 1
    assert chosen.score(X[30:]) > plain.score(X[30:]) + 20


def test_variance_floor_of_a_constant_column() -> None:
    v, mean = (
        torch.tensor([0.0, 4.0], dtype=torch.float64),
        torch.tensor([1e6, 1.0], dtype=torch.float64),
    )
    assert variance_floor(v, mean, 0.1).tolist() == pytest.approx([1.0, 0.4])


def test_draws_and_completions_have_the_moments() -> None:
    X = np.random.default_rng(3).multivariate_normal(MEAN, COV, size=5000)
    m = Gaussian(shrinkage=0, random_state=0).fit(X)
    mean, cov = m.mean_.numpy(), m.covariance_.numpy()
    draws = m.sample(20_000)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.08)
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.25)
    row = np.array([np.nan, -1.0, np.nan, 2.0])
    done = m.complete(np.tile(row, (20_000, 1)))
    _, filled, C = brute(row, mean, cov)
    np.testing.assert_allclose(done.mean(0), filled, atol=0.05)
    np.testing.assert_allclose(np.cov(done.T), C, atol=0.06)


def test_ordinal_data_get_a_lower_bound_on_a_probability() -> None:
    X = np.clip(np.random.default_rng(4).normal(3, 1.2, size=(500, 2)).round(), 0, 7)
    m = Gaussian().fit(X, space=Space((2,), "ordinal", levels=8))
    every = np.array(list(itertools.product(range(8), range(8))), dtype=float)
    lp = m.log_prob(every)
    assert lp.kind == "lower bound" and lp.measure == "probability"
    t = (np.arange(60) + 0.5) / 60  # P(x) = ∫ p(y(x + u)) |∂y/∂u| du
    u = torch.tensor(np.stack(np.meshgrid(t, t), -1).reshape(-1, 2))
    x = torch.tensor(every)
    y, log_det = m.real(x.repeat_interleave(len(u), 0), u.repeat(len(x), 1))
    truth = torch.logsumexp((m.log_density(y) + log_det).reshape(len(x), -1), 1).numpy() - np.log(
        len(u)
    )
    assert 0.95 < np.exp(truth).sum() < 1
    assert (lp.nats <= truth + 4 * lp.stderr + 1e-3).all()
    assert np.average(truth - lp.nats, weights=np.exp(truth)) < 0.05
