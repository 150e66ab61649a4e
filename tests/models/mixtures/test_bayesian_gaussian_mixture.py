"""The Bayesian mixture against enumeration, closed forms, SciPy, scikit-learn and itself."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import digamma, gammaln, logsumexp, multigammaln
from sklearn.base import clone
from sklearn.mixture import BayesianGaussianMixture as SklearnMixture
from torch.distributions import Beta, kl_divergence

from genus import BayesianGaussianMixture, GaussianMixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ("full", "diag", "known")
WEIGHTS = ("dirichlet", "dirichlet-process", "given")


def draws(n: int, d: int = 2, seed: int = 0, apart: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = apart * np.array([[1.0, 0.0, -1.0], [-1.0, 1.0, 0.5], [0.0, -1.0, 1.0]])[:, :d]
    A = rng.normal(size=(3, d, d)) + np.eye(d)
    k = rng.integers(0, 3, n)
    return centres[k] + np.einsum("nij,nj->ni", A[k], rng.normal(size=(n, d)))


def pierced(X: np.ndarray, share: float = 0.2) -> np.ndarray:
    X = X.copy()
    X[np.random.default_rng(1).random(X.shape) < share] = np.nan
    return X


def mixture(
    kind: str, weights: Any = "dirichlet", K: int = 2, **more: Any
) -> BayesianGaussianMixture:
    """Priors said in full, so that tests can write them down again; converged."""
    args: dict[str, Any] = {
        "random_state": 0,
        "tol": 1e-12,
        "max_iter": 400,
        "mean_prior": 0.5,
        "concentration": 0.7,
    }
    if weights == "given":
        weights = np.arange(1, K + 1) / np.arange(1, K + 1).sum()
    if kind == "known":
        args |= {"known_variance": 1.5, "mean_scale": 3.0}
    else:
        args |= {"covariance": kind, "mean_precision": 0.3, "degrees": 4.0}
    return BayesianGaussianMixture(K, weights=weights, **(args | more))


# ---------------------------------------------------------------------- the evidence, written again


def log_marginal(
    x: np.ndarray, kind: str, S0: np.ndarray, m0: float = 0.5, beta0: float = 0.3, nu0: float = 4.0
) -> float:
    """log ∫ Π_n N(x_n | μ, Λ⁻¹) p(μ, Λ) of rows that share a component.

    Bishop (2006); Murphy (2007).
    """
    n, d = x.shape
    if n == 0:
        return 0.0
    if kind == "known":  # x ~ N(m_0 1, σ² I + σ_0² 1 1ᵀ), column by column
        cov = 1.5 * np.eye(n) + 9.0 * np.ones((n, n))
        return float(sum(stats.multivariate_normal(np.full(n, m0), cov).logpdf(c) for c in x.T))
    if kind == "diag":
        return sum(
            log_marginal(x[:, [j]], "full", S0[[j]][:, None], m0, beta0, nu0) for j in range(d)
        )
    mean = x.mean(0)
    scatter = (x - mean).T @ (x - mean)
    S = S0 + scatter + beta0 * n / (beta0 + n) * np.outer(mean - m0, mean - m0)
    ratio = (
        multigammaln((nu0 + n) / 2, d)
        - multigammaln(nu0 / 2, d)
        + 0.5 * d * math.log(beta0 / (beta0 + n))
    )
    return float(
        ratio
        + 0.5 * nu0 * np.linalg.slogdet(S0)[1]
        - 0.5 * (nu0 + n) * np.linalg.slogdet(S)[1]
        - 0.5 * n * d * math.log(math.pi)
    )


def log_assignments(N: np.ndarray, weights: Any, alpha: float = 0.7) -> float:
    """log ∫ p(z | π) p(π) from the counts."""
    K, n = len(N), N.sum()
    if not isinstance(weights, str):
        return float(N @ np.log(weights))
    if weights == "dirichlet":
        return float(
            gammaln(K * alpha)
            - gammaln(K * alpha + n)
            + (gammaln(alpha + N) - gammaln(alpha)).sum()
        )
    after = n - N.cumsum()[:-1]
    a, b = 1 + N[:-1], alpha + after
    return float(
        (gammaln(a) + gammaln(b) - gammaln(a + b) - gammaln(alpha) + gammaln(1 + alpha)).sum()
    )


def log_evidence(X: np.ndarray, m: BayesianGaussianMixture) -> float:
    """log p(X) by a sum over all K^N assignments."""
    K, kind = m.n_components, "known" if m.known_variance is not None else m.covariance
    total = []
    for z in itertools.product(range(K), repeat=len(X)):
        z = np.array(z)
        N = np.bincount(z, minlength=K)
        parts = [log_marginal(X[z == k], kind, m._S0.numpy()) for k in range(K)]
        total.append(
            log_assignments(N, m.weights if isinstance(m.weights, str) else np.asarray(m.weights))
            + sum(parts)
        )
    return float(logsumexp(total))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_elbo_is_below_the_enumerated_evidence(kind: str, weights: str) -> None:
    X = draws(6, seed=3)
    m = mixture(kind, weights).fit(X)
    gap = log_evidence(X, m) - m.elbo_
    assert 0.01 < gap < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_component_the_bound_is_the_evidence(kind: str) -> None:
    """q(μ, Λ) is then the posterior itself; the Gaussian conjugate to it has a closed form."""
    X = draws(25, seed=4)
    m = mixture(kind, K=1).fit(X)
    assert m.elbo_ == pytest.approx(log_marginal(X, kind, m._S0.numpy()), abs=1e-9)
    assert len(m.elbo_history_) == 2  # nothing is left to do after one sweep


def test_the_lectures_case() -> None:
    """The simplest case: its updates written again, and 2^6 assignments.

    μ_k ~ N(0, σ_0²), z_n ~ Cat(π), x_n ~ N(μ_{z_n}, σ²).
    """
    x = np.array([-2.1, -1.7, -0.3, 0.6, 1.9, 2.4])
    variance, spread, pi = 1.0, 3.0, np.array([0.5, 0.5])
    r = np.random.default_rng(0).dirichlet([1, 1], 6)
    m = BayesianGaussianMixture(
        2,
        known_variance=variance,
        mean_scale=spread,
        mean_prior=0.0,
        weights=pi,
        init=r,
        max_iter=7,
        tol=0.0,
        random_state=0,
    ).fit(x[:, None])
    for i in range(8):  # the first from the given r
        s2 = 1 / (1 / spread**2 + r.sum(0) / variance)
        mean = s2 * (r * x[:, None]).sum(0) / variance
        if i < 7:
            r = np.exp(np.log(pi) + mean * x[:, None] / variance - (mean**2 + s2) / (2 * variance))
            r /= r.sum(1, keepdims=True)
    np.testing.assert_allclose(m.means_[:, 0], mean, atol=1e-12)
    np.testing.assert_allclose(m.scales_[:, 0] / (m._beta0 + m.counts_), s2, atol=1e-12)
    np.testing.assert_allclose(m.counts_, r.sum(0), atol=1e-12)
    energy = (
        r
        * (
            np.log(pi)
            - 0.5 * np.log(2 * np.pi * variance)
            - ((x[:, None] - mean) ** 2 + s2) / (2 * variance)
        )
    ).sum()
    energy += (-0.5 * np.log(2 * np.pi * spread**2) - (mean**2 + s2) / (2 * spread**2)).sum()
    entropy = -(r * np.log(r)).sum() + 0.5 * np.log(2 * np.pi * np.e * s2).sum()
    assert m.elbo_ == pytest.approx(energy + entropy, abs=1e-10)
    every = []
    for z in itertools.product((0, 1), repeat=6):
        same = np.equal.outer(z, z)
        every.append(
            6 * math.log(0.5)
            + stats.multivariate_normal(
                np.zeros(6), variance * np.eye(6) + spread**2 * same
            ).logpdf(x)
        )
    assert 0 < logsumexp(every) - m.elbo_ < 1.5


def test_where_assignments_are_certain_the_gap_is_log_k_factorial() -> None:
    """The posterior has K! modes that differ in labels only.

    q sits on one of them, and misses log K! nats.
    """
    for K, n in ((2, 8), (3, 7)):
        X = np.array([[100.0 * (i % K) + 0.3 * (i // K)] for i in range(n)])
        args: dict[str, Any] = {
            "known_variance": 1.0,
            "mean_scale": 200.0,
            "weights": np.full(K, 1 / K),
            "mean_prior": 0.5,
        }
        m = BayesianGaussianMixture(K, tol=1e-12, random_state=0, **args).fit(X)
        every = []
        for z in itertools.product(range(K), repeat=n):
            same = np.equal.outer(z, z)
            every.append(
                -n * math.log(K)
                + stats.multivariate_normal(np.full(n, 0.5), np.eye(n) + 200.0**2 * same).logpdf(
                    X[:, 0]
                )
            )
        assert logsumexp(every) - m.elbo_ == pytest.approx(math.log(math.factorial(K)), abs=1e-6)


# ---------------------------------------------------------------------- the terms


@pytest.mark.parametrize("weights", ["dirichlet", "dirichlet-process"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_term_by_itself(kind: str, weights: str) -> None:
    X, K, d = draws(30, seed=5), 3, 2
    m = mixture(kind, weights, K).fit(X)
    t, r = m.elbo_terms_, m.responsibilities(X)
    assert sum(t.values()) == pytest.approx(m.elbo_) and len(t) == 7
    assert m.elbo_ == m.elbo_history_[-1] and len(m.elbo_history_) == m.n_iter_
    np.testing.assert_allclose(r.sum(0), m.counts_, atol=1e-4)
    assert t["entropy_z"] == pytest.approx(-(r * np.log(np.maximum(r, 1e-300))).sum(), abs=1e-4)
    # weights: as drawn from q(v)
    q, p = Beta(*m.sticks_.T), Beta(*m._sticks0.T)
    assert t["entropy_weights"] == pytest.approx(float(q.entropy().sum()))
    assert t["log_p_weights"] == pytest.approx(float(-(q.entropy() + kl_divergence(q, p)).sum()))
    rng = np.random.default_rng(0)
    v = np.concatenate(
        [rng.beta(*m.sticks_.T.numpy(), size=(200_000, K - 1)), np.ones((200_000, 1))], 1
    )
    pi = v * np.concatenate([np.ones((200_000, 1)), (1 - v).cumprod(1)[:, :-1]], 1)
    np.testing.assert_allclose(m.weights_, pi.mean(0), atol=3e-3)
    assert t["log_p_z"] == pytest.approx(float(r.sum(0) @ np.log(pi).mean(0)), abs=0.3)
    # components: by draws of μ and Λ from q
    beta, nu = (v.numpy() for v in m._beta_nu())
    n = 4000
    log_q, log_p, log_x = np.zeros(n), np.zeros(n), np.zeros(n)
    for k in range(K):
        mean, S, S0 = m.means_[k].numpy(), m.scales_[k].numpy(), m._S0.numpy()
        if kind == "full":
            precision = stats.wishart(nu[k], np.linalg.inv(S)).rvs(n, rng)
            log_q += stats.wishart(nu[k], np.linalg.inv(S)).logpdf(precision.transpose(1, 2, 0))
            log_p += stats.wishart(4.0, np.linalg.inv(S0)).logpdf(precision.transpose(1, 2, 0))
        elif kind == "diag":
            each = stats.gamma(nu[k] / 2, scale=2 / S).rvs((n, d), rng)
            log_q += stats.gamma(nu[k] / 2, scale=2 / S).logpdf(each).sum(1)
            log_p += stats.gamma(2.0, scale=2 / S0).logpdf(each).sum(1)
            precision = np.einsum("nj,jk->njk", each, np.eye(d))
        else:
            precision = np.tile(np.eye(d) / 1.5, (n, 1, 1))
        A = np.linalg.cholesky(np.linalg.inv(precision))
        mu = mean + np.einsum("nij,nj->ni", A, rng.normal(size=(n, d))) / math.sqrt(beta[k])
        log_q += gauss(mu - mean, beta[k] * precision)
        log_p += gauss(mu - 0.5, float(m._beta0) * precision)
        log_x += sum(r[i, k] * gauss(X[i] - mu, precision) for i in range(len(X)))
    for name, value in (
        ("entropy_components", -log_q),
        ("log_p_components", log_p),
        ("log_p_x", log_x),
    ):
        assert t[name] == pytest.approx(value.mean(), abs=5 * value.std() / math.sqrt(n) + 1e-9), (
            name
        )


def gauss(x: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """log N(x | 0, Λ⁻¹) of rows."""
    return 0.5 * (
        np.linalg.slogdet(precision)[1]
        - x.shape[1] * math.log(2 * math.pi)
        - np.einsum("ni,nij,nj->n", x, precision, x)
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
    weights=st.sampled_from(WEIGHTS),
    K=st.integers(1, 5),
    n=st.integers(2, 40),
    gaps=st.sampled_from([0.0, 0.3]),
    apart=st.sampled_from([0.0, 3.0, 30.0]),
    start=st.sampled_from(["random", "k-means++"]),
)
def test_no_sweep_lowers_the_elbo(
    seed: int, kind: str, weights: str, K: int, n: int, gaps: float, apart: float, start: str
) -> None:
    X = draws(n, 3, seed, apart)
    X[1:][np.random.default_rng(seed).random((n - 1, 3)) < gaps] = np.nan
    m = mixture(kind, weights, K, init=start, max_iter=15, tol=0.0, random_state=seed).fit(X)
    climb = np.array(m.elbo_history_)
    assert len(climb) == 15 and (np.diff(climb) > -1e-9 * (1 + np.abs(climb[1:]))).all()
    # between the two halves of a sweep
    after_e = -np.array([line["objective"] for line in m.history_]) * n
    both = np.stack([after_e, climb], 1).reshape(-1)
    assert (np.diff(both) > -1e-9 * (1 + np.abs(both[1:]))).all()


def test_missing_entries_of_one_component() -> None:
    """Known variance, one component: the evidence is known, and q(x_m) costs a little."""
    X = pierced(draws(20, seed=6))
    m = mixture("known", K=1).fit(X)
    truth = sum(log_marginal(c[~np.isnan(c)][:, None], "known", np.ones(1)) for c in X.T)
    assert 0 < truth - m.elbo_ < 0.5
    means = [
        (0.5 / 9 + c[~np.isnan(c)].sum() / 1.5) / (1 / 9 + (~np.isnan(c)).sum() / 1.5) for c in X.T
    ]
    np.testing.assert_allclose(m.means_[0], means, atol=1e-5)


# ---------------------------------------------------------------------- where models coincide


def test_a_process_of_two_components_is_a_dirichlet() -> None:
    """v ~ Beta(1, 1) either way."""
    X = draws(60)
    one, two = (
        mixture("full", w, concentration=1.0).fit(X) for w in ("dirichlet", "dirichlet-process")
    )
    np.testing.assert_allclose(one.elbo_history_, two.elbo_history_, rtol=1e-12)
    torch.testing.assert_close(one.weights_, two.weights_)
    other = mixture("full", "dirichlet-process", concentration=5.0).fit(X)
    assert abs(other.elbo_ - one.elbo_) > 0.1


@pytest.mark.parametrize("weights", WEIGHTS)
def test_in_one_dimension_full_is_diag(weights: str) -> None:
    X = draws(50, 1)
    one, two = (mixture(kind, weights, K=3).fit(X) for kind in ("full", "diag"))
    np.testing.assert_allclose(one.elbo_history_, two.elbo_history_, rtol=1e-10)
    np.testing.assert_allclose(one.score_samples(X), two.score_samples(X), rtol=1e-10)


def run_sklearn(
    X: np.ndarray, r: np.ndarray, kind: str, weights: str, S0: np.ndarray, sweeps: int
) -> tuple[SklearnMixture, list[float]]:
    s = SklearnMixture(
        n_components=r.shape[1],
        covariance_type=kind,
        weight_concentration_prior_type={"dirichlet": "dirichlet_distribution"}.get(
            weights, "dirichlet_process"
        ),
        weight_concentration_prior=0.7,
        mean_prior=np.full(X.shape[1], 0.5),
        mean_precision_prior=0.3,
        degrees_of_freedom_prior=4.0,
        covariance_prior=S0,
        reg_covar=0.0,
    )
    s._check_parameters(X)
    s._initialize(X, r)
    bounds = []
    for _ in range(sweeps):
        log_norm, log_r = s._e_step(X)
        s._m_step(X, log_r)
        bounds.append(s._compute_lower_bound(log_r, log_norm))
    s._set_parameters(s._get_parameters())
    return s, bounds


@pytest.mark.parametrize("d", [1, 3])
def test_scikit_learns_updates_and_bound(d: int) -> None:
    """Full covariances and a Dirichlet: the same model.

    Its lower bound leaves constants out, those below.
    """
    X, K = draws(80, d, seed=8), 4
    n = len(X)
    r = np.random.default_rng(9).dirichlet(np.ones(K), n)
    S0 = np.eye(d) * 0.8
    s, bounds = run_sklearn(X, r, "full", "dirichlet", S0, 12)
    m = mixture("full", K=K, scale_prior=S0, init=r, max_iter=12, tol=0.0).fit(X)
    for name in ("means_", "covariances_", "weights_"):
        np.testing.assert_allclose(
            getattr(m, name), getattr(s, name), rtol=1e-9, atol=1e-9, err_msg=name
        )
    np.testing.assert_allclose(m.responsibilities(X), s.predict_proba(X), atol=1e-9)
    log_B0 = (
        2.0 * np.linalg.slogdet(S0)[1]
        - 2.0 * d * math.log(2)
        - gammaln(0.5 * (4.0 - np.arange(d))).sum()
    )
    left_out = (
        -0.5 * n * d * math.log(2 * math.pi)
        + K * (log_B0 + 0.5 * d * math.log(0.3))
        + gammaln(K * 0.7)
        - K * gammaln(0.7)
    )
    np.testing.assert_allclose(m.elbo_history_, np.array(bounds) + left_out, rtol=1e-10)


def test_scikit_learns_diagonal_model_and_its_sticks() -> None:
    """Its M step is ours.

    Its E step gives gammas the digammas of a Wishart, and its process has a K-th stick.
    """
    X, K, d = draws(80, 3, seed=8), 4, 3
    r = np.random.default_rng(9).dirichlet(np.ones(K), len(X))
    S0 = np.ones(d) * 0.8
    s, _ = run_sklearn(X, r, "diag", "dirichlet-process", S0, 0)
    m = mixture("diag", "dirichlet-process", K=K, scale_prior=S0, init=r)
    m.rng = torch.Generator()
    m.fit(X[:1].repeat(len(X), 0))  # builds; the M step alone follows
    m._m0 = torch.full((d,), 0.5, dtype=torch.float64) - m._shift
    m._start(torch.tensor(X) - m._shift, torch.zeros(len(X), 0).double(), 1.0, len(m.means_))
    np.testing.assert_allclose(m.means_, s.means_, rtol=1e-9)
    np.testing.assert_allclose(m.covariances_, s.covariances_, rtol=1e-9)
    a, b = s.weight_concentration_
    np.testing.assert_allclose(m.sticks_, np.stack([a, b], 1)[:-1], rtol=1e-9)
    # E log |Λ| of three gammas: 3 ψ(ν/2), where a Wishart has ψ(ν/2) + ψ(ν/2 − ½) + …
    one = torch.tensor([4.0], dtype=torch.float64)
    assert float(m._log_det_gap(one)) == pytest.approx(3 * (digamma(2.0) + math.log(2)))


def test_a_flat_prior_and_many_rows_give_the_em_answer() -> None:
    X = draws(4000, seed=11)
    m = BayesianGaussianMixture(3, random_state=0, tol=1e-9, max_iter=500).fit(X)
    em = GaussianMixture(3, random_state=0, tol=1e-9, max_iter=500, shrinkage=0).fit(X)
    assert m.score(X) == pytest.approx(em.score(X), abs=2e-3)


def test_components_that_nobody_needs_stay_empty() -> None:
    """EM uses all it is given; a sparse prior does not."""
    X = draws(600, seed=11, apart=12.0)
    m = BayesianGaussianMixture(8, concentration=0.01, random_state=0, tol=1e-6, max_iter=500).fit(
        X
    )
    assert (m.counts_ > 1).sum() == 3
    flat = BayesianGaussianMixture(
        8, concentration=50.0, random_state=0, tol=1e-6, max_iter=500
    ).fit(X)
    assert float(flat.weights_.min()) > 0.03


# ---------------------------------------------------------------------- stochastic inference


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_rate_one_on_all_rows_is_a_sweep(kind: str) -> None:
    X = draws(60, seed=12)
    kw: dict[str, Any] = {"max_iter": 1, "tol": 0.0, "init": "random"}
    sweep = mixture(kind, K=3, **kw).fit(X)
    step = mixture(kind, K=3, inference="svi", batch_size=60, delay=0.0, **kw).fit(X)
    for name in ("means_", "scales_", "sticks_", "counts_"):
        torch.testing.assert_close(
            getattr(step, name), getattr(sweep, name), rtol=1e-10, atol=1e-10
        )
    # ρ = 1/4
    half = mixture(kind, K=3, inference="svi", batch_size=60, delay=3.0, forgetting=1.0, **kw).fit(
        X
    )
    start = mixture(kind, K=3, **kw)
    start.rng = torch.Generator().manual_seed(0)
    start.fit(X)
    natural = [
        (
            m.counts_,
            m.counts_[:, None] * 0 + (m._beta0 + m.counts_)[:, None] * (m.means_ - m._shift),
        )
        for m in (half, sweep)
    ]
    assert (natural[0][0] - natural[1][0]).abs().max() > 1e-6  # a smaller step ends elsewhere


def test_a_step_moves_the_natural_parameters_by_its_rate() -> None:
    """λ ← (1 − ρ) λ + ρ (prior + ŝ) for (N, β m, S + β m mᵀ)."""
    X = draws(60, seed=13)
    m = mixture("full", K=2, max_iter=2, tol=0.0, inference="svi", batch_size=30).fit(X)

    def natural() -> list[torch.Tensor]:
        beta, mean = m._beta0 + m.counts_, m.means_ - m._shift
        return [
            m.counts_,
            beta[:, None] * mean,
            m.scales_ + beta[:, None, None] * mean[:, :, None] * mean[:, None, :],
        ]

    before = [v.clone() for v in natural()]
    sums = m.statistics(m._with_ones(torch.tensor(X[:20])), 3.0)
    state = {k: v.clone() for k, v in m.state_dict().items()}
    m._step(sums, 1.0)
    target = [v.clone() for v in natural()]
    m.load_state_dict(state)
    m._step(sums, 0.3)
    for old, new, there in zip(before, natural(), target, strict=True):
        torch.testing.assert_close(new, 0.7 * old + 0.3 * there, rtol=1e-9, atol=1e-9)
    assert float(m.counts_.sum()) == pytest.approx(60)


def test_batches_reach_the_bound_of_sweeps() -> None:
    X = draws(3000, seed=14)
    kw: dict[str, Any] = {"random_state": 0, "tol": 1e-5}
    sweeps = BayesianGaussianMixture(3, max_iter=300, **kw).fit(X)
    batches = BayesianGaussianMixture(3, inference="svi", batch_size=100, max_iter=30, **kw).fit(X)
    assert batches.elbo_ <= sweeps.elbo_ + 1e-6 and sweeps.elbo_ - batches.elbo_ < 0.002 * len(X)
    assert (
        len(batches.elbo_history_) == batches.n_iter_
        and batches.elbo_history_[-1] > batches.elbo_history_[0]
    )


@pytest.mark.parametrize("inference", ["cavi", "svi"])
def test_partial_fit_goes_on_where_fit_ended(inference: str) -> None:
    X = draws(2000, seed=15)
    m = BayesianGaussianMixture(3, inference=inference, random_state=0).partial_fit(X[:20])
    before = m.score(X)
    for part in np.split(X[20:], 20):
        m.partial_fit(part)
    whole = BayesianGaussianMixture(3, random_state=0).fit(X)
    assert m.score(X) > max(before + 0.1, whole.score(X) - 0.02)
    assert float(m.counts_.sum()) == pytest.approx(m.n_seen_) and m.n_seen_ == 2000


# ---------------------------------------------------------------------- the predictive density


@pytest.mark.parametrize("kind", KINDS)
def test_the_predictive_is_scipys_students_t(kind: str) -> None:
    X, K = draws(30, seed=16), 3
    m = mixture(kind, K=K).fit(X)
    beta, nu = (v.numpy() for v in m._beta_nu())
    points = draws(40, seed=17) * 3
    each = []
    for k in range(K):
        mean, S = m.means_[k].numpy(), m.scales_[k].numpy()
        if kind == "full":
            f = nu[k] - 1
            each.append(
                stats.multivariate_t(mean, S * (1 + beta[k]) / (beta[k] * f), f).logpdf(points)
            )
        elif kind == "diag":
            each.append(
                stats.t(nu[k], mean, np.sqrt(S * (1 + beta[k]) / (beta[k] * nu[k])))
                .logpdf(points)
                .sum(1)
            )
        else:
            each.append(stats.norm(mean, np.sqrt(1.5 * (1 + 1 / beta[k]))).logpdf(points).sum(1))
    expected = logsumexp(np.array(each) + np.log(m.weights_.numpy())[:, None], axis=0)
    lp = m.log_prob(points)
    assert lp.kind == "exact" and lp.measure == "density"
    np.testing.assert_allclose(lp.nats, expected, atol=1e-9)
    r = m.predict_proba(points)
    np.testing.assert_allclose(
        r, np.exp(np.array(each) + np.log(m.weights_.numpy())[:, None] - expected).T, atol=1e-9
    )
    assert (m.predict(points) == r.argmax(1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_predictive_is_the_ratio_of_evidences_for_one_component(kind: str) -> None:
    """p(x | X) = p(X, x) / p(X), exactly; then it integrates to 1, heavy tails and all."""
    X = draws(5, seed=18)
    m = mixture(kind, K=1).fit(X)
    S0, x = m._S0.numpy(), np.array([[3.0, -2.0]])
    expected = log_marginal(np.concatenate([X, x]), kind, S0) - log_marginal(X, kind, S0)
    assert m.score_samples(x)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_and_marginals_integrate_to_one(kind: str) -> None:
    X = draws(9, seed=19)
    m = mixture(kind, K=2).fit(X)
    # the whole line, midpoints in angle
    far = np.tan(np.linspace(-0.5, 0.5, 801)[1:-1:2] * math.pi)
    weight = (1 + far**2) * math.pi / 400
    grid = np.stack(np.meshgrid(far, far, indexing="ij"), -1).reshape(-1, 2) * 5
    p = np.exp(m.score_samples(grid)).reshape(400, 400) * 25
    assert weight @ p @ weight == pytest.approx(1, abs=1e-4)
    line = np.stack([far * 5, np.full(400, np.nan)], 1)  # the marginal of a row with a gap
    marginal = np.exp(m.score_samples(line)) * 5
    assert weight @ marginal == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(marginal, p @ weight, rtol=2e-3, atol=1e-5)
    assert (
        integrate.quad(
            lambda v: math.exp(m.score_samples(np.array([[v, np.nan]]))[0]), -60, 60, limit=100
        )[0]
        > 0.98
    )


@pytest.mark.parametrize("kind", KINDS)
def test_draws_and_completions_follow_the_density(kind: str) -> None:
    """Kolmogorov and Smirnov against quadrature; few rows, so that the tails are heavy."""
    m = mixture(kind, K=2, random_state=3).fit(draws(8, seed=20))
    far = np.tan(np.linspace(-0.5, 0.5, 4001)[1:-1] * math.pi) * 4
    step = (16 + far**2) / 4 * math.pi / 4000

    def uniform(sample: np.ndarray, density: np.ndarray) -> float:
        cdf = (density * step).cumsum()
        return float(stats.kstest(np.interp(sample, far, cdf / cdf[-1]), "uniform").pvalue)

    X = m.sample(4000)
    line = np.stack([far, np.full(len(far), np.nan)], 1)
    assert uniform(X[:, 0], np.exp(m.score_samples(line))) > 1e-3
    seen = 6.0  # far out, where a Student's t widens what it says of the other cell
    filled = m.complete(np.tile([seen, np.nan], (4000, 1)))
    assert (filled[:, 0] == seen).all()
    joint = np.exp(m.score_samples(np.stack([np.full(len(far), seen), far], 1)))
    assert uniform(filled[:, 1], joint) > 1e-3


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"n_components": 0}, "n_components"),
        ({"covariance": "tied"}, "'full' or 'diag'"),
        ({"inference": "mcmc"}, "'cavi' or 'svi'"),
        ({"weights": "uniform"}, "dirichlet-process"),
        ({"weights": [0.5, 0.6]}, "10 positive numbers"),
        ({"n_components": 2, "weights": [0.5, 0.6]}, "sum to 1"),
        ({"concentration": 0.0}, "concentration"),
        ({"mean_precision": -1.0}, "mean_precision"),
        ({"degrees": 1.0}, "more than 1"),
        ({"mean_scale": 1.0}, "needs known_variance"),
        ({"known_variance": 0.0}, "known_variance"),
        ({"scale_prior": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite"),
        ({"scale_prior": [1.0, 2.0]}, "scale_prior has shape"),
        ({"mean_prior": [1.0, 2.0, 3.0]}, "mean_prior has shape"),
        ({"mean_prior": 1e30}, "mean_prior lies .* standard deviations off .*column 1"),
        ({"forgetting": 0.5}, "forgetting"),
        ({"init": "best"}, "responsibilities"),
        ({"init": np.ones((20, 10))}, "sum to 1"),
        ({"tol": -1}, "tol"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(argument: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BayesianGaussianMixture(**argument).fit(draws(20))


def test_priors_are_in_the_units_of_the_data() -> None:
    """The same rows in other units: the density changes by the Jacobian and nothing else."""
    X = draws(60, seed=21)
    one = BayesianGaussianMixture(3, random_state=0).fit(X)
    two = BayesianGaussianMixture(3, random_state=0).fit(X * [10.0, 0.01] + [5.0, -300.0])
    assert two.elbo_ - one.elbo_ == pytest.approx(-60 * math.log(0.1), abs=1e-4)
    given = BayesianGaussianMixture(
        1, mean_prior=[7.0, -9.0], mean_precision=1e9, degrees=5.0, random_state=0
    ).fit(X)
    np.testing.assert_allclose(given.means_[0], [7.0, -9.0], atol=1e-5)


def test_the_best_of_several_starts_is_kept() -> None:
    X = draws(80, seed=22)
    better = 0
    for seed in range(2):
        kw: dict[str, Any] = {"init": "random", "random_state": seed, "max_iter": 30}
        one, many = (
            BayesianGaussianMixture(6, **kw).fit(X),
            BayesianGaussianMixture(6, n_init=3, **kw).fit(X),
        )
        # the first start is the same
        assert many.elbo_ >= one.elbo_ and many.elbo_history_[-1] == many.elbo_
        better += many.elbo_ > one.elbo_ + 0.1
    assert better


def test_a_resumed_fit_goes_on() -> None:
    X = draws(80, seed=23)
    whole, part = (
        mixture("full", K=3, max_iter=12, tol=0.0).fit(X),
        mixture("full", K=3, max_iter=5, tol=0.0).fit(X),
    )
    part.set_params(max_iter=12).fit(X, resume=True)
    assert part.elbo_history_ == whole.elbo_history_ and part.elbo_terms_ == whole.elbo_terms_


# ---------------------------------------------------------------------- words beside numbers


def table(n: int, seed: int = 0) -> pd.DataFrame:
    """Two groups, told apart by a word of three, a bit and a number."""
    rng = np.random.default_rng(seed)
    group = rng.random(n) < 0.4
    words = np.array(["no", "some", "yes"])
    p = np.where(group[:, None], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1])
    word = words[(rng.random(n)[:, None] > p.cumsum(1)).sum(1)]
    return pd.DataFrame(
        {
            "word": word,
            "bit": rng.random(n) < np.where(group, 0.9, 0.2),
            "x": np.where(group, 3.0, -1.0) + rng.normal(size=n),
            "y": rng.normal(size=n),
        }
    )


def holed(X: pd.DataFrame, share: float, seed: int = 1) -> pd.DataFrame:
    holes = np.random.default_rng(seed).random(X.shape) < share
    return X.astype({"bit": object}).mask(holes)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_no_sweep_lowers_the_elbo_with_tables_of_words(covariance: str, gaps: float) -> None:
    X = holed(table(120), gaps)
    m = BayesianGaussianMixture(3, covariance, max_iter=20, tol=0, random_state=0).fit(X)
    climb = np.array(m.elbo_history_)
    after_e = -np.array([line["objective"] for line in m.history_]) * len(X)
    both = np.stack([after_e, climb], 1).reshape(-1)
    assert (np.diff(both) > -1e-9 * (1 + np.abs(both[1:]))).all() and both[-1] > both[0] + 1
    assert sum(m.elbo_terms_.values()) == pytest.approx(m.elbo_)


def test_with_one_component_words_add_their_evidence() -> None:
    """One component: the bound is the evidence of the numbers plus that of Dirichlet tables."""
    X = table(60)
    alone = BayesianGaussianMixture(1, "diag", degrees=3.0, scale_prior=2.0, random_state=0)
    m = clone(alone).fit(X)
    numbers = clone(alone).set_params(marginals="learned").fit(X[["x", "y"]])
    evidence = 0.0
    for name, at in (("word", slice(0, 3)), ("bit", slice(3, 5))):
        a = m._words0[at].numpy()
        assert a.sum() == pytest.approx(1)
        n = X[name].value_counts().sort_index().to_numpy()
        evidence += gammaln(a.sum()) - gammaln(a.sum() + n.sum())
        evidence += (gammaln(a + n) - gammaln(a)).sum()
    assert m.marginals is None and m.coordinates_.how == numbers.coordinates_.how == "learned"
    assert m.elbo_ - numbers.elbo_ == pytest.approx(evidence, abs=1e-6)


def test_words_are_predicted_by_posterior_means_and_drawn_with_the_numbers() -> None:
    X = table(800)
    m = BayesianGaussianMixture(4, random_state=0).fit(X)
    assert np.abs(m.log_prob(X).stderr).max() < 1e-9  # whatever the place in the cell of a word
    every = [("no", 1), ("some", 0), ("yes", 1)]
    rows = pd.DataFrame(
        {"word": [w for w, _ in every], "bit": [bool(b) for _, b in every], "x": 2.0, "y": np.nan}
    )
    # words and bits of a given number sum to one, and to what p(x) is
    states = pd.DataFrame(list(itertools.product(["no", "some", "yes"], [False, True])))
    states.columns = ["word", "bit"]
    p = np.exp(m.score_samples(states.assign(x=2.0, y=np.nan)))
    known = np.log1p(-float(m.novelty_[0]))
    only = np.exp(m.score_samples(rows[:1].assign(word=None, bit=None))[0] + known)
    assert p.sum() == pytest.approx(only, rel=1e-6)
    n = 6000
    holes = pd.DataFrame({"word": [None] * n, "bit": [None] * n, "x": 2.0, "y": np.nan})
    done = m.complete(holes, random_state=0)
    found = done.groupby(["word", "bit"]).size().reindex(pd.MultiIndex.from_frame(states))
    assert 0.5 * np.abs(found.to_numpy() / n - p / p.sum()).sum() < 0.03
    draws = m.sample(6000, random_state=0)
    yes = (draws["word"] == "yes").groupby(draws["x"] > 1).mean()
    assert yes[True] > yes[False] + 0.3


def test_steps_on_batches_reach_the_tables_of_sweeps() -> None:
    X = table(600)
    kw: dict[str, Any] = {"n_components": 2, "random_state": 0}
    sweeps = BayesianGaussianMixture(**kw).fit(X)
    steps = BayesianGaussianMixture(inference="svi", batch_size=100, **kw).fit(X)
    assert steps.elbo_ > sweeps.elbo_ - 15
    order = [np.argsort(m.means_[:, 0].numpy()) for m in (sweeps, steps)]
    tables = [m._table().numpy()[o] for m, o in zip((sweeps, steps), order, strict=True)]
    np.testing.assert_allclose(tables[0], tables[1], atol=0.05)
    again = sweeps.partial_fit(table(300, seed=5))
    assert torch.isfinite(again.words_).all() and again.score(X) > steps.score(X) - 0.1
