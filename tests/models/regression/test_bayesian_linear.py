"""Bayesian linear regression against the textbook, scikit-learn and itself."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import BayesianRidge, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import PolynomialFeatures

import genus
from genus import BayesianLinearRegression, Exact, GaussianBasis, Identity, Polynomial

ALPHA, BETA = 0.5, 4.0


def rows(n: int = 30, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    X = r.normal(size=(n, d)) + 2
    return X, X @ r.normal(size=d) + 5 + 0.5 * r.normal(size=n)


def regression(**args: Any) -> BayesianLinearRegression:
    return BayesianLinearRegression(**{"alpha": ALPHA, "beta": BETA, "random_state": 0} | args)


def with_ones(X: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(X)), X])


# ---------------------------------------------------------------------- the closed form


@pytest.mark.parametrize("intercept", [True, False])
def test_the_posterior_is_the_closed_form(intercept: bool) -> None:
    X, y = rows()
    F = with_ones(X) if intercept else X
    S = np.linalg.inv(ALPHA * np.eye(F.shape[1]) + BETA * F.T @ F)
    m = BETA * S @ F.T @ y
    model = regression(intercept=intercept).fit(X, y)
    np.testing.assert_allclose(model.covariance_, S, rtol=1e-10)
    np.testing.assert_allclose(
        np.r_[model.intercept_, model.coef_] if intercept else model.coef_, m, rtol=1e-10
    )
    mean, std = model.predict(X[:5], return_std=True)
    np.testing.assert_allclose(mean, F[:5] @ m, rtol=1e-10)
    np.testing.assert_allclose(
        std, np.sqrt(1 / BETA + np.einsum("ni,ij,nj->n", F[:5], S, F[:5])), rtol=1e-10
    )
    p = model.log_prob(y[:5], given=X[:5])
    assert isinstance(p, Exact) and p.measure == "density"
    np.testing.assert_allclose(p.nats, stats.norm(mean, std).logpdf(y[:5]), rtol=1e-10)


def test_a_flat_intercept_is_a_very_broad_one() -> None:
    X, y = rows()
    F = with_ones(X)
    S = np.linalg.inv(np.diag([1e-9, *[ALPHA] * 3]) + BETA * F.T @ F)
    model = regression().fit(X, y)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, BETA * F @ S @ F.T @ y, rtol=1e-7)
    np.testing.assert_allclose(
        std, np.sqrt(1 / BETA + np.einsum("ni,ij,nj->n", F, S, F)), rtol=1e-7
    )
    w = model.sample_weights(40_000)
    np.testing.assert_allclose(w.mean(0), [model.intercept_, *model.coef_], atol=0.02)
    np.testing.assert_allclose(np.cov(w.T), S, atol=0.04 * S.max())
    moved = regression().fit(X + 1e6, y - 1e7)  # the level of X and y does not matter
    np.testing.assert_allclose(moved.coef_, model.coef_, rtol=1e-7)


@pytest.mark.parametrize("intercept", [True, False, "flat"])
def test_the_evidence_is_the_marginal_density_of_y(intercept: bool | str) -> None:
    X, y = rows()
    n = len(y)
    F = with_ones(X) if intercept is True else X
    K = np.eye(n) / BETA + F @ F.T / ALPHA
    Q = np.eye(n)
    if intercept == "flat":  # of the differences that do not know the level
        Q = np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1]
    truth = stats.multivariate_normal(np.zeros(Q.shape[1]), Q.T @ K @ Q).logpdf(Q.T @ y)
    assert regression(intercept=intercept).fit(X, y).log_evidence_ == pytest.approx(
        truth, rel=1e-10
    )


def test_the_evidence_is_the_product_of_predictions() -> None:
    X, y = rows(6)
    model = regression(intercept=True)
    total = 0.0
    F = with_ones(X)
    total += stats.norm(0, math.sqrt(1 / BETA + (F[0] ** 2).sum() / ALPHA)).logpdf(y[0])
    for i in range(1, 6):
        model.partial_fit(X[i - 1 : i], y[i - 1 : i])
        total += model.log_prob(y[i : i + 1], given=X[i : i + 1]).mean()
    assert regression(intercept=True).fit(X, y).log_evidence_ == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("intercept", [True, False])
def test_unknown_noise_gives_students_t(intercept: bool) -> None:
    X, y = rows(12)
    a, b = 2.0, 3.0
    F = with_ones(X) if intercept else X
    model = regression(beta=(a, b), intercept=intercept).fit(X, y)
    scale = b / a * (np.eye(13) + (G := np.vstack([F, F[:1]])) @ G.T / ALPHA)
    joint = stats.multivariate_t(np.zeros(13), scale, df=2 * a)
    marginal = stats.multivariate_t(np.zeros(12), scale[:12, :12], df=2 * a)
    assert model.log_evidence_ == pytest.approx(marginal.logpdf(y), rel=1e-10)
    for new in (3.0, 9.0):
        p = joint.logpdf(np.r_[y, new]) - marginal.logpdf(y)
        assert model.log_prob([new], given=X[:1]).nats[0] == pytest.approx(p, rel=1e-9)
    draws = model.sample(100_000, given=X[:1])
    mean, std = model.predict(X[:1], return_std=True)
    assert (
        stats.kstest(
            (draws - mean) / (std * np.sqrt(1 - 1 / model.a_)), stats.t(2 * model.a_).cdf
        ).pvalue
        > 1e-3
    )
    assert draws.std() == pytest.approx(std[0], rel=0.02)
    w = model.sample_weights(100_000)
    np.testing.assert_allclose(np.cov(w.T), model.covariance_, atol=0.05 * model.covariance_.max())


# ---------------------------------------------------------------------- in any order


@drawn(
    st.permutations(range(12)),
    st.lists(st.integers(1, 11), max_size=5),
    st.sampled_from(["flat", True, False]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_order_and_batches_do_not_matter(
    order: list[int], cuts: list[int], intercept: bool | str, unknown: bool
) -> None:
    X, y = rows(12)
    args = {"basis": Polynomial(2), "intercept": intercept, "beta": (2.0, 3.0) if unknown else BETA}
    whole = regression(**args).fit(X, y)
    model = regression(**args)
    for part in np.split(np.array(order), sorted(set(cuts))):
        model.partial_fit(X[part], y[part])
    for a, b in zip(
        model.predict(X, return_std=True), whole.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-8, atol=1e-10)
    assert model.log_evidence_ == pytest.approx(whole.log_evidence_, rel=1e-10)


def test_fit_then_partial_fit_and_a_refused_batch() -> None:
    X, y = rows(20)
    model = regression(basis=GaussianBasis(4)).fit(X, y)
    again = regression(basis=GaussianBasis(4)).fit(X, y).partial_fit(X[:5], y[:5])
    assert not np.allclose(again.coef_, model.coef_)
    before = again.predict(X)
    with pytest.raises(ValueError, match=r"y has inf \(row 1\)"):
        again.partial_fit(X[:2], [1, np.inf])
    with pytest.raises(ValueError, match="y has 3 rows, X has 2"):
        again.partial_fit(X[:2], [1, 2, 3])
    assert (again.predict(X) == before).all()
    with pytest.raises(ValueError, match="range of the first batch: pass .*low="):
        regression(basis=GaussianBasis(4)).partial_fit(X, y)
    fixed = GaussianBasis(4, low=-1, high=5)
    one = regression(basis=fixed).partial_fit(X[:7], y[:7]).partial_fit(X[7:], y[7:])
    np.testing.assert_allclose(
        one.predict(X), regression(basis=fixed).fit(X, y).predict(X), rtol=1e-10
    )


# ---------------------------------------------------------------------- scikit-learn


def test_predictions_are_bayesian_ridges() -> None:
    r = np.random.default_rng(1)
    X = r.normal(size=(2000, 20)) + 3
    y = X @ r.normal(size=20) + 7 + r.normal(size=2000)
    theirs = BayesianRidge().fit(X, y)
    ours = BayesianLinearRegression(alpha=float(theirs.lambda_), beta=float(theirs.alpha_)).fit(
        X, y
    )
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-11, atol=1e-11)
    without = BayesianRidge(fit_intercept=False).fit(X, y)
    ours = BayesianLinearRegression(
        alpha=float(without.lambda_), beta=float(without.alpha_), intercept=False
    ).fit(X, y)
    for a, b in zip(
        ours.predict(X, return_std=True), without.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
    ridge = Ridge(alpha=2.0).fit(X, y)
    np.testing.assert_allclose(
        BayesianLinearRegression(alpha=4.0, beta=2.0).fit(X, y).predict(X),
        ridge.predict(X),
        rtol=1e-10,
    )


def test_the_highest_evidence() -> None:
    X, y = rows(40, 6)
    X[:, 3:] = np.random.default_rng(5).normal(size=(40, 3))
    model = regression(alpha="evidence", beta="evidence", intercept=False, tol=1e-13).fit(X, y)
    theirs = BayesianRidge(
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, tol=1e-14, max_iter=5000
    ).fit(X, y)
    assert model.alpha_ == pytest.approx(theirs.lambda_, rel=1e-5) and model.beta_ == pytest.approx(
        theirs.alpha_, rel=1e-5
    )
    path = [-h["objective"] for h in model.history_]
    assert len(path) > 3 and (np.diff(path) > 0).all() and path[-1] == model.log_evidence_
    for da, db in ((1.02, 1), (1 / 1.02, 1), (1, 1.02), (1, 1 / 1.02)):
        nearby = regression(alpha=model.alpha_ * da, beta=model.beta_ * db, intercept=False).fit(
            X, y
        )
        assert nearby.log_evidence_ < model.log_evidence_
    for fixed in (
        {"alpha": model.alpha_, "beta": "evidence"},
        {"alpha": "evidence", "beta": model.beta_},
    ):
        one = regression(intercept=False, tol=1e-13, **fixed).fit(X, y)
        assert one.alpha_ == pytest.approx(model.alpha_, rel=1e-4) and one.beta_ == pytest.approx(
            model.beta_, rel=1e-4
        )


def test_the_highest_evidence_with_unknown_noise() -> None:
    X, y = rows(40, 6)
    model = regression(alpha="evidence", beta=(2.0, 1.0), tol=1e-13).fit(X, y)
    assert (np.diff([h["objective"] for h in model.history_]) < 0).all()
    for factor in (1.03, 1 / 1.03):
        assert (
            regression(alpha=model.alpha_ * factor, beta=(2.0, 1.0)).fit(X, y).log_evidence_
            < model.log_evidence_
        )


@pytest.mark.parametrize(
    "sort", ["no signal", "no noise", "constant y", "constant X", "one row", "wide", "collinear"]
)
def test_the_evidence_goes_up_and_stays_finite(sort: str) -> None:
    X, y = rows(20, 4)
    X, y = {
        "no signal": (X, np.random.default_rng(9).normal(size=20)),
        "no noise": (X, X.sum(1)),
        "constant y": (X, np.full(20, 3.0)),
        "constant X": (np.ones((20, 4)), y),
        "one row": (X[:1], y[:1]),
        "wide": (np.random.default_rng(2).normal(size=(20, 50)), y),
        "collinear": (np.hstack([X, X, X[:, :1] + X[:, 1:2]]), y),
    }[sort]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = regression(alpha="evidence", beta="evidence").fit(X, y)
    assert (np.diff([h["objective"] for h in model.history_]) < 0).all()
    mean, std = model.predict(X, return_std=True)
    assert (
        np.isfinite([mean, std]).all()
        and (std > 0).all()
        and np.isfinite(model.log_prob(y, given=X).nats).all()
    )
    if sort == "no noise":
        np.testing.assert_allclose(mean, y, rtol=1e-4)
    if sort == "constant y":
        np.testing.assert_allclose(mean, 3.0, rtol=1e-5)


# ---------------------------------------------------------------------- bases


def test_polynomials_are_scikit_learns() -> None:
    X, y = rows(50, 3)
    F = PolynomialFeatures(3, include_bias=False).fit_transform(X)
    model, plain = regression(basis=Polynomial(3)).fit(X, y), regression().fit(F, y)
    assert len(model.coef_) == F.shape[1]
    np.testing.assert_allclose(model.predict(X), plain.predict(F), rtol=1e-7)
    x = X[:, :1]
    powers = regression(basis=Polynomial(4)).fit(x, y)
    np.testing.assert_allclose(
        powers.coef_, regression().fit(x ** np.arange(1, 5), y).coef_, rtol=1e-6
    )


def test_gaussian_bumps() -> None:
    x = np.linspace(-2, 6, 41)[:, None]
    y = np.sin(x[:, 0])
    s = 1.5
    F = np.exp(-0.5 * ((x - np.linspace(-2, 6, 5)) / s) ** 2)
    model = regression(basis=GaussianBasis(5, width=s)).fit(x, y)
    np.testing.assert_allclose(model.predict(x), regression().fit(F, y).predict(F), rtol=1e-9)
    np.testing.assert_allclose(
        model.predict(x),
        regression(basis=GaussianBasis(5, 1.5, -2, 6)).fit(x[::2], y[::2]).predict(x),
        atol=0.1,
    )
    F = np.exp(-0.5 * ((x - np.linspace(-2, 6, 5)) / 2) ** 2)  # centres are 2 apart
    np.testing.assert_allclose(
        regression(basis=GaussianBasis(5)).fit(x, y).predict(x),
        regression().fit(F, y).predict(F),
        rtol=1e-9,
    )
    both = np.column_stack([x, 10 * x[::-1] ** 2])  # a sum of functions of one column
    assert len(regression(basis=GaussianBasis(5)).fit(both, y).coef_) == 10
    assert regression(basis=GaussianBasis(9), beta=100.0).fit(both, y).score(both, y) > 0.99


def test_bases_are_searched_and_saved(tmp_path: Any) -> None:
    X, y = rows(40, 1)
    y = y + X[:, 0] ** 3
    search = GridSearchCV(
        regression(basis=Polynomial(1)), {"basis__degree": [1, 3], "alpha": [0.1, 1.0]}, cv=3
    ).fit(X, y)
    assert search.best_params_["basis__degree"] == 3
    for basis in (Identity(), Polynomial(3), GaussianBasis(7, width=0.5)):
        model = regression(basis=basis, beta=(2.0, 1.0)).fit(X, y)
        model.save(tmp_path / "m")
        back = genus.load(tmp_path / "m")
        assert (
            back.basis == basis
            and back.beta == (2.0, 1.0)
            and back.log_evidence_ == model.log_evidence_
        )
        assert (back.predict(X) == model.predict(X)).all()
        assert (back.partial_fit(X, y).predict(X) == model.partial_fit(X, y).predict(X)).all()


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"alpha": 0.0}, "alpha=0.0: a positive number or 'evidence'"),
        ({"alpha": "evidense"}, "alpha='evidense'"),
        ({"beta": -1.0}, "beta=-1.0: .*a pair"),
        ({"beta": (1.0, 0.0)}, r"beta=\(1.0, 0.0\)"),
        ({"intercept": "none"}, "intercept='none': 'flat', True or False"),
        ({"basis": "identity"}, r"basis='identity': Identity\(\)"),
        ({"basis": Polynomial(0)}, r"Polynomial\(degree=0\)"),
        ({"basis": Polynomial(60)}, "lower the degree"),
        ({"basis": GaussianBasis(0)}, r"GaussianBasis\(n=0\)"),
        ({"basis": GaussianBasis(3, width=0)}, "width=0"),
        ({"basis": GaussianBasis(3, low=2, high=1)}, "low must be below high"),
        ({"max_iter": 0}, "max_iter=0"),
    ],
)
def test_arguments_out_of_range_say_so(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        regression(**args).fit(*rows())


def test_a_singular_posterior_says_what_to_do() -> None:
    X, y = rows()
    X = np.hstack([X, X]) * 1e20
    with pytest.raises(ValueError, match="alpha=0.5 is lost in rounding.*drop or"):
        regression().fit(X, y)
    wide = np.random.default_rng(0).normal(size=(5, 40))
    # fewer rows than columns
    assert regression(beta=100.0).fit(wide, y[:5]).score(wide, y[:5]) > 0.99


def test_targets_far_from_what_beta_says_are_told() -> None:
    r = np.random.default_rng(0)
    x = r.normal(size=(200, 1))
    y = x[:, 0] + 1000 * r.normal(size=200)
    with pytest.warns(UserWarning, match="times further from the fit than beta=1.0.*evidence"):
        BayesianLinearRegression().fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BayesianLinearRegression(beta="evidence").fit(x, y)
        BayesianLinearRegression().fit(x, x[:, 0] + r.normal(size=200))
