"""The Gaussian mixture against scikit-learn, brute force and itself."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as SklearnMixture

from genus import BayesianGaussianMixture, CategoricalMixture, Gaussian, GaussianMixture, Space
from genus.models.mixtures.gaussian_mixture import COVARIANCES
from oracles import brute

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

K, D = 3, 3
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0, 0.0], [4.0, -2.0, 1.0], [-3.0, 3.0, 2.0]])
FULL = np.stack(
    [a @ a.T + 0.3 * np.eye(D) for a in np.random.default_rng(0).normal(size=(K, D, D))]
)
START = {
    "full": FULL,
    "tied": FULL.mean(0),
    "diag": FULL.diagonal(axis1=1, axis2=2).copy(),
    "spherical": np.array([0.7, 1.5, 2.0]),
}


def draws(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    k = rng.choice(K, n, p=WEIGHTS)
    return MEANS[k] + np.einsum("nij,nj->ni", np.linalg.cholesky(FULL)[k], rng.normal(size=(n, D)))


def pierced(X: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    X = X.copy()
    X[np.random.default_rng(seed).random(X.shape) < share] = np.nan
    return X


def given_parameters(kind: str, **more: Any) -> GaussianMixture:
    """A fitted model of exactly these parameters: EM for no iteration at all."""
    m = GaussianMixture(K, kind, init=(WEIGHTS, MEANS, START[kind]), max_iter=1, **more).fit(
        draws(50)
    )
    m._take_guess(WEIGHTS, MEANS, START[kind])
    return m


def sklearns(kind: str) -> SklearnMixture:
    s = SklearnMixture(K, covariance_type=kind)
    s.weights_, s.means_, s.covariances_ = WEIGHTS, MEANS, START[kind]
    full = START[kind]
    if kind in ("full", "tied"):
        s.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(full)).swapaxes(-1, -2)
    else:
        s.precisions_cholesky_ = 1 / np.sqrt(full)
    return s


# ----------------------------------------------------------------- the same numbers as scikit-learn


@pytest.mark.parametrize("kind", COVARIANCES)
def test_scores_are_scikit_learns(kind: str) -> None:
    X, m, s = draws(300, seed=3) * 1.5, given_parameters(kind), sklearns(kind)
    np.testing.assert_allclose(m.score_samples(X), s.score_samples(X), atol=1e-6, rtol=0)
    np.testing.assert_allclose(m.predict_proba(X), s.predict_proba(X), atol=1e-6, rtol=0)
    assert (m.predict(X) == s.predict(X)).all()
    assert m.n_parameters() == s._n_parameters()
    total = float(s.score_samples(X).sum())
    assert m.bic(X) == pytest.approx(-2 * total + s._n_parameters() * math.log(300), rel=1e-9)
    assert m.aic(X) == pytest.approx(-2 * total + 2 * s._n_parameters(), rel=1e-9)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_one_step_of_em_is_scikit_learns(kind: str) -> None:
    X = draws(400, seed=4)
    start = (WEIGHTS, MEANS + 0.5, START[kind])
    m = GaussianMixture(K, kind, init=start, max_iter=1, reg_covar=0, shrinkage=0).fit(X)
    s = SklearnMixture(
        K, covariance_type=kind, max_iter=1, reg_covar=0, weights_init=start[0], means_init=start[1]
    )
    s.precisions_init = (
        1 / START[kind] if kind in ("diag", "spherical") else np.linalg.inv(START[kind])
    )
    s.fit(X)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(
            getattr(m, name), getattr(s, name), rtol=1e-6, atol=1e-8, err_msg=name
        )
    many = GaussianMixture(K, kind, init=start, max_iter=20, tol=0, reg_covar=0, shrinkage=0).fit(X)
    s.set_params(max_iter=20, tol=0).fit(X)
    assert many.score(X) == pytest.approx(s.score(X), abs=1e-6)


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("case", ["plain", "holes", "weights", "holes and weights"])
def test_em_never_lowers_the_likelihood(kind: str, case: str) -> None:
    X = draws(150, seed=5)
    X = pierced(X, 0.3) if "holes" in case else X
    w = np.random.default_rng(6).exponential(size=150) if "weights" in case else None
    m = GaussianMixture(
        K, kind, init="random", max_iter=25, tol=0, reg_covar=0, shrinkage=0, random_state=1
    ).fit(X, sample_weight=w)
    climb = -np.array([line["objective"] for line in m.history_])
    assert len(climb) == 25 and (np.diff(climb) > -1e-10).all() and climb[-1] > climb[0] + 0.01
    # what it reports is what it climbed
    assert np.average(m.score_samples(X), weights=w) >= climb[-1] - 1e-10


# ---------------------------------------------------------------------- missing entries


@pytest.mark.parametrize("kind", COVARIANCES)
def test_partly_observed_rows_by_scipy_and_brute_force(kind: str) -> None:
    X, m = pierced(draws(60, seed=7), 0.5), given_parameters(kind)
    cov = m._full_covariances().numpy()
    assert np.isnan(X).all(1).any() and (~np.isnan(X)).all(1).any()
    each = np.array([[brute(row, MEANS[k], cov[k])[0] for k in range(K)] for row in X]) + np.log(
        WEIGHTS
    )
    np.testing.assert_allclose(m.score_samples(X), logsumexp(each, axis=1), atol=1e-9)
    r = np.exp(each - logsumexp(each, axis=1, keepdims=True))
    np.testing.assert_allclose(m.predict_proba(X), r, atol=1e-9)

    w = np.random.default_rng(8).exponential(size=60)
    sums = m.statistics(m._with_ones(torch.tensor(X)), torch.tensor(w))
    first, second = np.zeros((K, D)), np.zeros((K, D, D))
    shift = m._shift.numpy()
    about = MEANS - shift if kind == "full" else np.zeros((K, D))
    for n, k in itertools.product(range(60), range(K)):
        _, filled, C = brute(X[n], MEANS[k], cov[k])
        z = filled - shift - about[k]
        first[k] += w[n] * r[n, k] * z
        second[k] += w[n] * r[n, k] * (np.outer(z, z) + C)
    second = {"full": second, "tied": second.sum(0)}.get(kind, second.diagonal(axis1=1, axis2=2))
    np.testing.assert_allclose(sums["count"], w @ r, atol=1e-9)
    np.testing.assert_allclose(sums["first"], first, atol=1e-8)
    np.testing.assert_allclose(sums["second"], second, atol=1e-8)
    assert float(sums["log_likelihood"]) == pytest.approx(float(w @ logsumexp(each, axis=1)))
    assert float(sums["weight"]) == pytest.approx(w.sum())


def test_values_missing_at_random_are_worth_more_than_dropping_their_rows() -> None:
    """The second column is missing where the first is large: complete rows are a biased sample."""
    rng = np.random.default_rng(9)
    X = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=2000)
    X[X[:, 0] > 0.3, 1] = np.nan
    kw: dict[str, Any] = {"reg_covar": 0, "shrinkage": 0, "tol": 1e-7, "max_iter": 500}
    used, dropped = (
        GaussianMixture(1, **kw).fit(X),
        GaussianMixture(1, **kw).fit(X[~np.isnan(X).any(1)]),
    )
    np.testing.assert_allclose(used.means_[0], 0, atol=0.08)
    np.testing.assert_allclose(used.covariances_[0], [[1, 0.9], [0.9, 1]], atol=0.1)
    assert float(dropped.means_[0].abs().min()) > 0.4


@pytest.mark.parametrize("kind", COVARIANCES)
def test_completions_have_the_conditional_mean_and_covariance(kind: str) -> None:
    m = given_parameters(kind, random_state=0)
    row = np.array([np.nan, 0.5, np.nan])
    cov = m._full_covariances().numpy()
    parts = [brute(row, MEANS[k], cov[k]) for k in range(K)]
    p = np.exp([math.log(w) + b[0] for w, b in zip(WEIGHTS, parts, strict=True)])
    p /= p.sum()
    mean = sum(p[k] * parts[k][1] for k in range(K))
    second = sum(p[k] * (parts[k][2] + np.outer(parts[k][1], parts[k][1])) for k in range(K))
    done = m.complete(np.tile(row, (20_000, 1)))
    truth = second - np.outer(mean, mean)
    np.testing.assert_allclose(done.mean(0), mean, atol=4 * math.sqrt(truth.max() / 20_000))
    np.testing.assert_allclose(np.cov(done.T), truth, atol=0.06 * truth.max())
    assert (done[:, 1] == 0.5).all()


def test_a_column_never_seen_is_named() -> None:
    X = draws(20)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="column 1"):
        GaussianMixture(2).fit(X)


# ---------------------------------------------------------------------- weights, starts, streams


@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_weight_is_a_repetition(kind: str) -> None:
    X = pierced(draws(90, seed=10), 0.1)
    w = np.random.default_rng(11).integers(0, 4, size=90)
    a = GaussianMixture(K, kind, random_state=0).fit(X, sample_weight=w)
    b = GaussianMixture(K, kind, random_state=0).fit(np.repeat(X, w, axis=0))
    for name in ("weights_", "means_", "covariances_"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "w", [np.ones((5, 2)), -np.ones(50), np.zeros(50), np.full(50, np.nan), np.ones(49)]
)
def test_weights_that_make_no_sense(w: np.ndarray) -> None:
    with pytest.raises(ValueError, match="[wW]eight"):
        GaussianMixture(2).fit(draws(50), sample_weight=w)


def test_n_init_keeps_the_best_start() -> None:
    X = draws(300, seed=12)
    kw: dict[str, Any] = {
        "init": "random",
        "max_iter": 8,
        "tol": 0,
        "shrinkage": 0,
        "random_state": 3,
    }
    one, ten = (GaussianMixture(4, n_init=n, **kw).fit(X) for n in (1, 10))
    assert ten.history_[-1]["objective"] < one.history_[-1]["objective"] - 1e-3
    # parameters and history are of the same start
    assert ten.score(X) >= -ten.history_[-1]["objective"] - 1e-9
    assert len(ten.history_) == 8


def test_spread_starts_find_clusters_that_random_ones_miss() -> None:
    """Ten far clusters: rows drawn by chance leave some without a mean; k-means++ does not."""
    rng = np.random.default_rng(13)
    X = np.repeat(100 * rng.normal(size=(10, 2)), 40, axis=0) + rng.normal(size=(400, 2))
    kw: dict[str, Any] = {"max_iter": 2, "tol": 0}
    spread = [GaussianMixture(10, random_state=s, **kw).fit(X).score(X) for s in range(5)]
    random = [
        GaussianMixture(10, init="random", random_state=s, **kw).fit(X).score(X) for s in range(5)
    ]
    assert np.mean(spread) > np.mean(random) + 1
    with pytest.raises(ValueError, match="init"):
        GaussianMixture(2, init="best").fit(X)
    with pytest.raises(ValueError, match="shape"):
        GaussianMixture(2, init=(np.ones(3), np.ones((2, 2)), np.ones((2, 2, 2)))).fit(X)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_stream_of_batches_approaches_the_whole(kind: str) -> None:
    X, held = draws(4000, seed=14), draws(1000, seed=15)
    whole = GaussianMixture(K, kind, random_state=0, tol=1e-6).fit(X)
    scores = []
    for order in (np.arange(20), np.random.default_rng(16).permutation(20)):
        m = GaussianMixture(K, kind, random_state=0)
        for i in order:
            m.partial_fit(X[i * 200 : (i + 1) * 200])
        scores.append(m.score(held))
        assert m.n_batches_ == 20 and m.n_seen_ == 4000
    first = GaussianMixture(K, kind, random_state=0).fit(X[:200]).score(held)
    # unequal covariances tied: a flat optimum
    assert min(scores) > whole.score(held) - (0.08 if kind == "tied" else 0.03)
    assert abs(scores[0] - scores[1]) < 0.03
    assert min(scores) > first - 1e-3


def test_stepwise_em_by_hand() -> None:
    """One component: s ← (1 − γ) s + γ s(X), γ = 3^−0.6, by batches of unequal size.

    s is the mean of (y, y²) over rows.
    """
    rng = np.random.default_rng(17)
    a, b = rng.normal(0, 1, size=(50, 1)), rng.normal(3, 2, size=(400, 1))
    m = GaussianMixture(1, shrinkage=0, reg_covar=0).partial_fit(a).partial_fit(b)
    g = 3**-0.6
    mean = (1 - g) * a.mean() + g * b.mean()
    square = (1 - g) * (a**2).mean() + g * (b**2).mean()
    assert float(m.means_[0, 0]) == pytest.approx(mean, rel=1e-9)
    assert float(m.covariances_[0, 0, 0]) == pytest.approx(square - mean**2, rel=1e-9)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_sums_of_the_parameters_undo_the_m_step(kind: str) -> None:
    m = GaussianMixture(K, kind, random_state=0, max_iter=5).fit(draws(200))
    before = {name: getattr(m, name).clone() for name in ("weights_", "means_", "covariances_")}
    m.maximise(m._sums_of_parameters())
    for name, value in before.items():
        torch.testing.assert_close(getattr(m, name), value, rtol=1e-9, atol=1e-9)


def test_a_resumed_fit_goes_on() -> None:
    X = draws(200, seed=18)
    kw: dict[str, Any] = {"tol": 0, "random_state": 0}
    whole, part = (
        GaussianMixture(K, max_iter=12, **kw).fit(X),
        GaussianMixture(K, max_iter=5, **kw).fit(X),
    )
    part.set_params(max_iter=12).fit(X, resume=True)
    assert part.n_iter_ == 12 and len(part.history_) == 12
    for name in ("weights_", "means_", "covariances_"):
        torch.testing.assert_close(
            getattr(part, name), getattr(whole, name), rtol=1e-10, atol=1e-10
        )


# ---------------------------------------------------------------------- regularisation and rounding


@pytest.mark.parametrize("kind", COVARIANCES)
def test_shrinkage_by_hand(kind: str) -> None:
    """One component: Σ = (scatter + ν S_0)/(n + ν), S_0 the data's covariance or its share."""
    X = draws(40, seed=19)
    S = np.cov(X.T, bias=True)
    one = GaussianMixture(1, kind, shrinkage=50.0, reg_covar=0).fit(X)
    np.testing.assert_allclose(one._full_covariances()[0], plain(S, kind), rtol=1e-9, atol=1e-9)
    far = np.concatenate([X, X + 1000])
    two = GaussianMixture(2, kind, shrinkage=1e9, reg_covar=0, max_iter=1, random_state=0).fit(far)
    np.testing.assert_allclose(
        two._full_covariances()[0],
        plain(np.cov(far.T, bias=True), kind) / 2 ** (2 / D),
        rtol=1e-4,
        atol=1,
    )


def test_shrinkage_left_to_the_rows_is_a_lot_where_they_are_few_and_fades() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(2, 6, 6))
    rows = [rng.normal(size=(2000, 6)) @ A + 9 * i for i, A in enumerate(root)]
    few = np.concatenate([x[:10] for x in rows])
    held = np.concatenate([x[1000:] for x in rows])
    plain, chosen = (GaussianMixture(2, shrinkage=s, random_state=0).fit(few) for s in (0, None))
    assert chosen.score(held) > plain.score(held) + 1
    many = np.concatenate([x[:1000] for x in rows])
    plain, chosen = (GaussianMixture(2, shrinkage=s, random_state=0).fit(many) for s in (0, None))
    assert chosen.score(held) == pytest.approx(plain.score(held), abs=0.01)
    assert float(chosen._nu) < 2


def test_fewer_rows_than_columns_are_as_likely_as_under_the_shrunk_gaussian() -> None:
    rng = np.random.default_rng(4)
    loadings = rng.normal(size=(4, 100))
    X = rng.normal(size=(60, 4)) @ loadings + 0.5 * rng.standard_t(3, size=(60, 100))
    with pytest.warns(UserWarning, match="columns carry no more than 1"):
        mixture = GaussianMixture(random_state=0).fit(X[:30])
    assert mixture.score(X[30:]) > Gaussian().fit(X[:30]).score(X[30:]) - 1


@pytest.mark.parametrize("model", [GaussianMixture, BayesianGaussianMixture, CategoricalMixture])
def test_starts_find_clear_blobs_in_any_units_beside_a_column_of_noise(model: Any) -> None:
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    for seed in range(8):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 4, 200)
        X = np.c_[centres[label] + rng.normal(size=(200, 2)), rng.normal(size=200)]
        m = model(4, random_state=seed).fit(X)
        assert adjusted_rand_score(label, m.predict(X)) > 0.95
        other = X * [1000, 1, 0.01]
        nats = model(4, random_state=seed).fit(other).log_prob(other).nats + np.log(10)
        np.testing.assert_allclose(nats, m.log_prob(X).nats, atol=1e-6)


def test_starts_do_not_depend_on_the_order_of_rows() -> None:
    X = draws(200, seed=21)
    order = np.random.default_rng(0).permutation(200)
    a, b = (GaussianMixture(3, random_state=0).fit(x) for x in (X, X[order]))
    np.testing.assert_allclose(a.means_, b.means_, atol=1e-8)


def plain(S: np.ndarray, kind: str) -> np.ndarray:
    """S as that kind of covariance can hold it."""
    return {"diag": np.diag(np.diag(S)), "spherical": np.eye(D) * np.diag(S).mean()}.get(kind, S)


def test_reg_covar_is_a_share_of_each_columns_variance() -> None:
    X = draws(300, seed=20) * [1, 1000, 1e-3]
    bare, raised = (
        GaussianMixture(1, shrinkage=0, reg_covar=r).fit(X).covariances_[0] for r in (0, 0.2)
    )
    np.testing.assert_allclose(raised - bare, np.diag(0.2 * X.var(0)), rtol=1e-9, atol=1e-12)


def test_without_regularisation_a_component_may_collapse_and_with_it_it_may_not() -> None:
    X = np.concatenate([draws(60, seed=21), np.full((3, D), 9.0)])
    m = GaussianMixture(4, random_state=0, tol=1e-8).fit(X)
    assert float(torch.linalg.eigvalsh(m.covariances_).min()) > 1e-3
    assert np.isfinite(m.score(X))


def test_single_precision_agrees_with_double() -> None:
    rng = np.random.default_rng(22)
    X = np.concatenate(
        [rng.normal(c, 1, size=(2000, 8)) @ rng.normal(size=(8, 8)) + 300 for c in (-2, 0, 2)]
    )
    kw: dict[str, Any] = {"max_iter": 30, "tol": 0, "random_state": 0}
    single, double = (
        GaussianMixture(5, **kw).fit(X.astype(np.float32)),
        GaussianMixture(5, **kw).fit(X.astype(np.float32).astype(np.float64)),
    )
    assert single.score(X) == pytest.approx(double.score(X), abs=1e-4)
    objectives = np.array([[line["objective"] for line in m.history_] for m in (single, double)])
    assert np.abs(objectives[0] - objectives[1]).max() < 1e-3
    assert not (objectives[0] == objectives[1]).all()  # the path was taken


def test_fewer_distinct_rows_than_components() -> None:
    X = np.repeat([[0.0, 1.0], [2.0, 5.0], [4.0, 0.0]], 10, axis=0)
    with pytest.warns(UserWarning, match="3 distinct rows"):
        m = GaussianMixture(5, random_state=0).fit(X)
    assert len(m.weights_) == 3 and np.isfinite(m.score(X))
    np.testing.assert_allclose(np.sort(m.means_[:, 0]), [0, 2, 4], atol=1e-3)


def test_it_says_when_it_stopped_too_soon() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        GaussianMixture(3, max_iter=2, tol=1e-9).fit(draws(100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GaussianMixture(1).fit(draws(100)).converged_


@pytest.mark.parametrize(
    "argument",
    [
        {"n_components": 0},
        {"covariance": "round"},
        {"tol": -1},
        {"reg_covar": -1},
        {"shrinkage": -1},
        {"n_init": 0},
    ],
)
def test_arguments_that_make_no_sense(argument: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(argument))):
        GaussianMixture(**argument).fit(draws(20))


# ---------------------------------------------------------------------- draws, ordinal data


@pytest.mark.parametrize("kind", COVARIANCES)
def test_draws_have_the_moments_and_the_components(kind: str) -> None:
    m = given_parameters(kind, random_state=1)
    X = m.sample(20_000)
    cov = m._full_covariances().numpy()
    mean = WEIGHTS @ MEANS
    second = np.einsum("k,kij->ij", WEIGHTS, cov + MEANS[:, :, None] * MEANS[:, None, :])
    np.testing.assert_allclose(X.mean(0), mean, atol=0.09)
    np.testing.assert_allclose(np.cov(X.T), second - np.outer(mean, mean), atol=0.4)
    np.testing.assert_allclose(m.predict_proba(X).mean(0), WEIGHTS, atol=0.02)


def test_ordinal_data_get_a_lower_bound_close_to_the_truth() -> None:
    rng = np.random.default_rng(23)
    X = np.clip(
        np.concatenate(
            [rng.normal([1, 5], 0.8, size=(300, 2)), rng.normal([5, 2], 0.8, size=(300, 2))]
        ).round(),
        0,
        7,
    )
    m = GaussianMixture(2, random_state=0).fit(X, space=Space((2,), "ordinal", levels=8))
    every = np.array(list(itertools.product(range(8), range(8))), dtype=float)
    lp = m.log_prob(every)
    assert lp.kind == "lower bound" and lp.measure == "probability"
    t = (np.arange(80) + 0.5) / 80
    u, x = torch.tensor(np.stack(np.meshgrid(t, t), -1).reshape(-1, 2)), torch.tensor(every)
    y, log_det = m.real(x.repeat_interleave(len(u), 0), u.repeat(len(x), 1))
    truth = torch.logsumexp((m.log_density(y) + log_det).reshape(len(x), -1), 1).numpy() - math.log(
        len(u)
    )
    p = np.exp(truth)
    assert 0.95 < p.sum() < 1
    assert (lp.nats <= truth + 4 * lp.stderr + 1e-3).all() and p @ (truth - lp.nats) < 0.1
    codes = m.sample(20_000).astype(int)
    seen = np.bincount(codes[:, 0] * 8 + codes[:, 1], minlength=64) / 20_000
    assert 0.5 * np.abs(seen - p / p.sum()).sum() < 0.04
    row = np.array([[np.nan, 5.0]])
    assert m.score_samples(row)[0] == pytest.approx(np.log(p.reshape(8, 8)[:, 5].sum()), abs=0.15)
    done = m.complete(np.repeat(row, 4000, axis=0))[:, 0].astype(int)
    conditional = p.reshape(8, 8)[:, 5] / p.reshape(8, 8)[:, 5].sum()
    assert 0.5 * np.abs(np.bincount(done, minlength=8) / 4000 - conditional).sum() < 0.04


def test_stats_of_scipy_for_one_component() -> None:
    m = given_parameters("full")
    m._take_guess(WEIGHTS, MEANS, FULL)
    X = draws(20)
    expected = logsumexp(
        [
            np.log(w) + stats.multivariate_normal(a, c).logpdf(X)
            for w, a, c in zip(WEIGHTS, MEANS, FULL, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(m.score_samples(X), expected, atol=1e-9)
