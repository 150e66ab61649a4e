"""Probabilistic PCA and factor analysis against the dense Gaussian and scikit-learn."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as SklearnFactors
from sklearn.exceptions import ConvergenceWarning

from genus import FactorAnalysis, Gaussian, ProbabilisticPCA, Space
from genus.learn.rows import generator
from genus.models.latent import ppca
from oracles import brute

BOTH = (ProbabilisticPCA, FactorAnalysis)
both = pytest.mark.parametrize("cls", BOTH)
D, K = 8, 3
W = np.random.default_rng(0).normal(size=(K, D))
SPREAD = np.linspace(0.3, 1.2, D)


def draws(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5 + rng.normal(size=(n, K)) @ W + SPREAD * rng.normal(size=(n, D))


def pierced(X: np.ndarray, share: float = 0.3, seed: int = 2) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


def covariance(m: Any) -> np.ndarray:
    return (m.loadings_ @ m.loadings_.T + torch.diag(m.noise_)).numpy()


# ---------------------------------------------------------------------- the same numbers as others


def test_the_score_is_scikit_learns_pca_but_for_its_n_minus_1() -> None:
    X = draws(300)
    ours, theirs = ProbabilisticPCA(K).fit(X), PCA(K).fit(X)
    n = len(X)
    assert covariance(ours) == pytest.approx(theirs.get_covariance() * (n - 1) / n, abs=1e-10)
    theirs.explained_variance_ *= (n - 1) / n
    theirs.noise_variance_ *= (n - 1) / n
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=1e-6, rtol=0)
    assert (
        ours.log_prob(X).kind == "exact" and ours.n_parameters() == D + 1 + D * K - K * (K - 1) // 2
    )


def test_the_score_is_scikit_learns_factor_analysis() -> None:
    X = draws(300)
    ours = FactorAnalysis(K, tol=1e-12, max_iter=5000).fit(X)
    theirs = SklearnFactors(K, tol=1e-10, max_iter=5000, svd_method="lapack").fit(X)
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=1e-6)
    np.testing.assert_allclose(covariance(ours), theirs.get_covariance(), atol=1e-4)
    assert ours.n_parameters() == 2 * D + D * K - K * (K - 1) // 2


@both
def test_the_log_likelihood_is_the_dense_gaussians(cls: Any) -> None:
    X = pierced(draws(200), 0.5)
    X[0] = np.nan
    m = cls(K, random_state=0).fit(X[1:])
    mean, cov = m.mean_.numpy(), covariance(m)
    np.testing.assert_allclose(
        m.score_samples(X), [brute(row, mean, cov)[0] for row in X], atol=1e-9
    )
    full = draws(20, seed=3)
    np.testing.assert_allclose(
        m.score_samples(full), stats.multivariate_normal(mean, cov).logpdf(full), atol=1e-9
    )


@both
def test_completions_are_those_of_the_dense_gaussian(cls: Any) -> None:
    m = cls(K).fit(draws(200))
    row = draws(1, seed=4)[0]
    row[[1, 4, 6]] = np.nan
    _, filled, C = brute(row, m.mean_.numpy(), covariance(m))
    np.testing.assert_allclose(
        m.reconstruct(row[None])[0][np.isnan(row)], filled[np.isnan(row)], atol=1e-9
    )
    done = m.complete(np.tile(row, (30_000, 1)), random_state=0)
    np.testing.assert_allclose(done.mean(0), filled, atol=0.03)
    np.testing.assert_allclose(np.cov(done.T), C, atol=0.05)
    assert (done[:, 0] == row[0]).all()


@both
def test_the_posterior_by_the_joint_gaussian(cls: Any) -> None:
    m = cls(K).fit(draws(200))
    X = pierced(draws(12, seed=5), 0.4)
    V, mean, cov = m.loadings_.numpy(), m.mean_.numpy(), covariance(m)
    z, C = m.posterior(X)
    assert z.shape == (12, K) and C.shape == (12, K, K)
    for i, row in enumerate(X):  # z and y are jointly Gaussian: Cov[z, y] = Wᵀ
        o = ~np.isnan(row)
        gain = V[o].T @ np.linalg.inv(cov[np.ix_(o, o)])
        np.testing.assert_allclose(z[i], gain @ (row[o] - mean[o]), atol=1e-9)
        np.testing.assert_allclose(C[i], np.eye(K) - gain @ V[o], atol=1e-9)
    np.testing.assert_allclose(m.encode(X), z)
    # decode takes single precision
    np.testing.assert_allclose(m.decode(z), mean + z @ V.T, atol=1e-4)


@both
def test_draws_have_the_covariance(cls: Any) -> None:
    m = cls(K).fit(draws(200))
    S = m.sample(40_000, random_state=0)
    np.testing.assert_allclose(np.cov(S.T), covariance(m), atol=0.02 * np.abs(covariance(m)).max())
    np.testing.assert_allclose(S.mean(0), m.mean_, atol=0.05)


# ---------------------------------------------------------------------- learning


@both
def test_em_finds_what_the_closed_form_finds(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single missing cell sends all rows through EM."""
    X = draws(150)
    H = X.copy()
    H[0, 0] = np.nan
    kw: dict[str, Any] = {"tol": 1e-11, "max_iter": 5000}
    closed, em = cls(K, **kw).fit(X), cls(K, **kw).fit(H)
    np.testing.assert_allclose(covariance(em), covariance(closed), atol=0.02)
    assert em.score(H) > closed.score(H) - 1e-9

    # nothing missing, by EM all the same: the closed form is where it stands still
    done = cls(K, **kw).fit(X)
    done._known = list(done._patterns(torch.tensor(X)))
    before = covariance(done)
    sums = done.statistics(torch.tensor(X))
    done.maximise(sums)
    np.testing.assert_allclose(covariance(done), before, atol=1e-5)
    assert float(sums["log_likelihood"]) / 150 == pytest.approx(closed.score(X), abs=1e-9)


@both
@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_no_iteration_lowers_the_likelihood(cls: Any, holes: float) -> None:
    X = pierced(draws(120), holes)
    m = cls(K, tol=0, max_iter=60).fit(X)
    climb = -np.array([line["objective"] for line in m.history_])
    if len(climb) > 1:
        assert len(climb) == 60 and (np.diff(climb) > -1e-10).all() and climb[-1] > climb[0] + 1e-3
    assert m.score(X) >= climb[-1] - 1e-10  # what it reports is what it climbed


@both
def test_the_m_step_with_holes_is_a_maximum(cls: Any) -> None:
    """At convergence no small change of μ, W or Ψ raises the likelihood, by autograd."""
    X = pierced(draws(250), 0.2)
    m = cls(K, tol=1e-10, max_iter=3000).fit(X)
    y = torch.tensor(X)
    psi_ = m.noise_.mean() if cls is ProbabilisticPCA else m.noise_
    mean, V, psi = (t.clone().requires_grad_(True) for t in (m.mean_, m.loadings_, psi_))
    total = torch.zeros((), dtype=torch.float64)
    for row in y:
        o = ~torch.isnan(row)
        if o.any():
            cov = V @ V.T + torch.diag(psi.expand(D))
            total = total + torch.distributions.MultivariateNormal(mean[o], cov[o][:, o]).log_prob(
                row[o]
            )
    (total / len(y)).backward()
    for t in (mean, V, psi):
        assert t.grad is not None and float(t.grad.abs().max()) < 2e-4


def test_expanded_parameters_save_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    X = pierced(draws(200), 0.3)
    fast = FactorAnalysis(K, tol=1e-7, max_iter=5000).fit(X)
    maximise = FactorAnalysis.maximise

    def plain(self: Any, sums: dict[str, torch.Tensor]) -> None:
        latent = torch.eye(K + 1, dtype=torch.float64).flatten() * sums["weight"]
        maximise(self, sums | {"latent": latent})

    monkeypatch.setattr(FactorAnalysis, "maximise", plain)
    slow = FactorAnalysis(K, tol=1e-7, max_iter=5000).fit(X)
    assert slow.score(X) == pytest.approx(fast.score(X), abs=1e-3)
    assert fast.n_iter_ < slow.n_iter_


def test_values_missing_at_random_are_worth_more_than_dropping_their_rows() -> None:
    """The second column is missing where the first is large: complete rows are a biased sample."""
    rng = np.random.default_rng(9)
    z = rng.normal(size=(3000, 1))
    X = z + 0.3 * rng.normal(size=(3000, 3))
    X[X[:, 0] > 0.3, 1] = np.nan
    used = ProbabilisticPCA(1, tol=1e-9).fit(X)
    np.testing.assert_allclose(used.mean_, 0, atol=0.08)
    np.testing.assert_allclose(covariance(used), np.ones((3, 3)) + 0.09 * np.eye(3), atol=0.1)


def test_factor_analysis_does_not_care_for_units_and_pca_does() -> None:
    X = draws(200)
    scale = np.logspace(-3, 3, D)
    for X_ in (X, pierced(X)):
        a, b = (FactorAnalysis(K, tol=1e-8, max_iter=3000).fit(x) for x in (X_, X_ * scale))
        assert b.score(X * scale) == pytest.approx(a.score(X) - np.log(scale).sum(), abs=1e-4)
        raw = ProbabilisticPCA(K).fit(X_ * scale)
        a, b = (ProbabilisticPCA(K, standardise=True, tol=1e-10).fit(x) for x in (X_, X_ * scale))
        assert b.score(X * scale) == pytest.approx(a.score(X) - np.log(scale).sum(), abs=1e-4)
        assert raw.score(X * scale) < b.score(X * scale) - 1


def test_columns_of_a_table_have_units_of_their_own() -> None:
    X = draws(200) * np.logspace(-3, 3, D)
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    assert ProbabilisticPCA(K).fit(frame).score(frame) == pytest.approx(
        ProbabilisticPCA(K, standardise=True).fit(X).score(X)
    )
    plain = ProbabilisticPCA(K).fit(X).score(X)
    assert ProbabilisticPCA(K, standardise=False).fit(frame).score(frame) == pytest.approx(plain)
    assert abs(plain - ProbabilisticPCA(K).fit(frame).score(frame)) > 1


@both
def test_the_number_of_components_is_found(cls: Any) -> None:
    rng = np.random.default_rng(6)
    for k in (2, 5):
        X = rng.normal(size=(600, k)) @ rng.normal(size=(k, 20)) + 0.7 * rng.normal(size=(600, 20))
        assert cls().fit(X).loadings_.shape == (20, k)
        assert cls().fit(pierced(X, 0.1)).loadings_.shape == (20, k)
    noisy = rng.normal(size=(600, 3)) @ rng.normal(size=(3, 20)) + np.linspace(
        0.3, 2, 20
    ) * rng.normal(size=(600, 20))
    assert FactorAnalysis().fit(noisy).loadings_.shape[1] == 3  # equal noise would ask for more
    assert ProbabilisticPCA().fit(noisy).loadings_.shape[1] > 5


def test_no_components_are_counted_that_missing_cells_hide() -> None:
    """With gaps the small eigenvalues are noise: who fits them all fills in worse than the mean."""
    X = load_digits().data[::2] / 16
    H = pierced(X, 0.2)
    assert ProbabilisticPCA(max_iter=1).fit(X).loadings_.shape[1] > 40
    m = ProbabilisticPCA(tol=1e-2).fit(H)
    holes = np.isnan(H)
    assert m.loadings_.shape[1] < 30
    error, plain = (
        np.square(filled - X)[holes].mean() ** 0.5
        for filled in (m.reconstruct(H), np.nanmean(H, 0))
    )
    assert error < 0.7 * plain


def test_the_smaller_gram_matrix_and_the_random_subspace_agree() -> None:
    rng = np.random.default_rng(7)
    A = torch.tensor(
        rng.normal(size=(40, 5)) @ rng.normal(size=(5, 90)) + 0.01 * rng.normal(size=(40, 90))
    )
    for B in (A, A.T.contiguous()):
        truth = np.linalg.svd(B.numpy())
        for dense in (2048, 8):
            ppca.DENSE, old = dense, ppca.DENSE
            values, U = ppca.leading(B, 4, generator(0))
            ppca.DENSE = old
            np.testing.assert_allclose(values, truth[1][:4] ** 2, rtol=1e-8)
            np.testing.assert_allclose(
                (U.T @ torch.tensor(truth[2][:4].T)).abs(), np.eye(4), atol=1e-6
            )


@both
def test_wide_rows_in_a_random_subspace(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    for n, d in ((60, 150), (150, 60)):
        X = 3 * rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + rng.normal(size=(n, d))
        whole = cls(2, tol=1e-9).fit(X)
        with monkeypatch.context() as patch:
            patch.setattr(ppca, "DENSE", 20)
            patch.setattr(torch.linalg, "eigh", small_eigh)
            if cls is ProbabilisticPCA or n < d:
                np.testing.assert_allclose(
                    covariance(cls(2, tol=1e-9).fit(X)), covariance(whole), atol=1e-5
                )


def small_eigh(A: torch.Tensor, eigh: Any = torch.linalg.eigh) -> Any:
    assert len(A) <= 20
    return eigh(A)


@both
def test_more_columns_than_rows(cls: Any) -> None:
    rng = np.random.default_rng(8)
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 150)) + rng.normal(size=(60, 150))
    train, test = X[:40], X[40:]
    m = cls(2).fit(train)
    S = np.cov(train.T, bias=True)
    assert np.trace(covariance(m)) == pytest.approx(np.trace(S), rel=1e-3)
    assert m.score(test) > stats.norm(train.mean(0), train.std(0)).logpdf(test).sum(1).mean() + 5


@both
def test_components_come_largest_first_and_with_a_positive_sign(cls: Any) -> None:
    for X in (draws(200), pierced(draws(200))):
        m = cls(K).fit(X)
        V = (m.loadings_ / m.noise_.sqrt()[:, None]).numpy()
        G = V.T @ V
        np.testing.assert_allclose(G, np.diag(np.diag(G)), atol=1e-8 * G.max())
        assert (np.diff(np.diag(G)) < 0).all()
    truth = np.linalg.qr(W.T)[0]
    found = np.linalg.qr(ProbabilisticPCA(K).fit(draws(5000)).loadings_.numpy())[0]
    assert np.linalg.svd(truth.T @ found)[1].min() > 0.98  # the same subspace


# ---------------------------------------------------------------------- other data, other words


def test_discrete_cells_decode_to_their_expectation() -> None:
    rng = np.random.default_rng(10)
    X = np.clip(
        np.round(4 + 1.5 * rng.normal(size=(800, 1)) + 0.7 * rng.normal(size=(800, 4))), 0, 8
    )
    X[:, 3] = X[:, 3] > 4
    frame = pd.DataFrame(X.astype(int), columns=list("abcd")).astype({"d": bool})
    m = FactorAnalysis(1, random_state=0).fit(frame, space=None)
    assert m.log_prob(frame).kind == "lower bound"
    z = torch.full((4000, 1), 0.8, dtype=torch.float64)
    noise = torch.randn(4000, 4, generator=generator(0), dtype=torch.float64) * m.noise_.sqrt()
    drawn = m.unreal(m.mean_ + z @ m.loadings_.T + noise).mean(0)
    np.testing.assert_allclose(m._decode(z[:1])[0], drawn, atol=0.08)
    grid = ProbabilisticPCA(2, random_state=0).fit(
        X[:, :3].astype(int), space=Space((3,), "ordinal", levels=9)
    )
    back = grid.reconstruct(X[:, :3].astype(int))
    assert back.min() >= 0 and back.max() <= 8 and np.abs(back - X[:, :3]).mean() < 0.6


@both
def test_arguments_that_make_no_sense(cls: Any) -> None:
    X = draws(30)
    for bad in (0, -1, 1.5, True, "all"):
        with pytest.raises(ValueError, match="n_components"):
            cls(bad).fit(X)
    with pytest.raises(ValueError, match="max_iter"):
        cls(2, max_iter=0).fit(X)
    with pytest.raises(ValueError, match="tol"):
        cls(2, tol=-1).fit(X)
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match="column 2 has no observed value"):
        cls(2).fit(X)
    with pytest.warns(UserWarning, match="n_components=9, but X has 8 columns: 7"):
        assert cls(9).fit(draws(30)).loadings_.shape == (8, 7)
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        cls(2, max_iter=2, tol=1e-12).fit(pierced(draws(30)))


@both
def test_one_column_and_constant_columns(cls: Any) -> None:
    x = np.random.default_rng(11).normal(2, 3, size=(100, 1))
    assert cls().fit(x).score(x) == pytest.approx(
        stats.norm(x.mean(), x.std()).logpdf(x).mean(), abs=1e-6
    )
    X = np.hstack([draws(100), np.full((100, 1), 7.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for Y in (X, pierced(X)):
            m = cls(K).fit(Y)
            assert np.isfinite(m.score(Y)) and np.abs(m.reconstruct(Y)[:, -1] - 7).max() < 1e-6
            assert m.score(X) > m.score(X + 5 * np.eye(1, D + 1, D)) + 3


@both
def test_with_all_components_it_is_the_gaussian(cls: Any) -> None:
    X = draws(300)
    gauss, m = Gaussian(shrinkage=0).fit(X), cls(D - 1, tol=1e-12, max_iter=20_000).fit(X)
    assert m.score(X) == pytest.approx(gauss.score(X), abs=1e-3)
    assert math.isfinite(m.score(X))
