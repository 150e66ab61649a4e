"""Seconds of a sweep of genus.BayesianGaussianMixture beside scikit-learn's.

On MNIST projected to 50 components. 60,000 × 50, float64 and float32, full and diagonal
covariances, K = 10 and 50, a Dirichlet over the weights. Both start at the same responsibilities
with the same priors and run the same number of sweeps; with full covariances the models coincide,
and in float64 both must end at the same means (1e-6 of the columns' spread) and at the same bound
but for the constants that scikit-learn leaves out. They take turns in one process. Only sweeps are
timed, the computation of the bound included, in seconds of the processor, which other work on the
machine disturbs least.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings

import common
import numpy as np
from scipy.special import gammaln
from sklearn.decomposition import PCA
from sklearn.mixture import BayesianGaussianMixture

import genus

ALPHA, BETA = 1.0, 0.1


def run_sklearn(
    x: np.ndarray, r: np.ndarray, S0: np.ndarray, sweeps: int
) -> tuple[float, BayesianGaussianMixture]:
    """(seconds a sweep, the model), clocked from E step to E step; the first sums come from r."""
    model = BayesianGaussianMixture(
        n_components=r.shape[1],
        covariance_type="full" if S0.ndim == 2 else "diag",
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=ALPHA,
        mean_precision_prior=BETA,
        degrees_of_freedom_prior=x.shape[1] + 1,
        covariance_prior=S0.astype(x.dtype),
        reg_covar=0.0,
        max_iter=sweeps,
        tol=0.0,
    )
    clock = []
    step, start = model._e_step, model._initialize

    def timed(*args, **kwargs):  # type: ignore[no-untyped-def]
        clock.append(time.process_time())
        return step(*args, **kwargs)

    model._e_step = timed
    model._initialize_parameters = lambda X, *rest, **more: start(X, r.astype(x.dtype))  # type: ignore[assignment]
    model.fit(x)
    del model._e_step, model._initialize_parameters
    return (clock[sweeps] - clock[0]) / sweeps, model


class Clocked(genus.BayesianGaussianMixture):
    """genus's mixture, which notes the time of every update of q(μ, Λ)."""

    clock: list[float] = []

    def maximise(self, sums):  # type: ignore[no-untyped-def]
        super().maximise(sums)
        self.clock.append(time.process_time())


def run_genus(
    x: np.ndarray, r: np.ndarray, S0: np.ndarray, sweeps: int
) -> tuple[float, genus.BayesianGaussianMixture]:
    """(seconds a sweep, the model)."""
    Clocked.clock = clock = []
    model = Clocked(
        r.shape[1],
        "full" if S0.ndim == 2 else "diag",
        concentration=ALPHA,
        mean_precision=BETA,
        degrees=x.shape[1] + 1,
        scale_prior=S0,
        init=r,
        max_iter=sweeps,
        tol=0.0,
        random_state=0,
    )
    model.fit(x)
    return (clock[-1] - clock[0]) / (len(clock) - 1), model


def left_out(n: int, d: int, K: int, S0: np.ndarray) -> float:
    """The constants of the ELBO that scikit-learn's lower bound leaves out, full covariances."""
    nu = d + 1
    log_B0 = (
        0.5 * nu * np.linalg.slogdet(S0)[1]
        - 0.5 * nu * d * math.log(2)
        - gammaln(0.5 * (nu - np.arange(d))).sum()
    )
    log_C0 = gammaln(K * ALPHA) - K * gammaln(ALPHA)
    return float(
        -0.5 * n * d * math.log(2 * math.pi) + K * (log_B0 + 0.5 * d * math.log(BETA)) + log_C0
    )


def main() -> None:
    args = common.options(__doc__, iterations=10)
    warnings.simplefilter("ignore")  # neither is to converge
    train, _, name = common.mnist(args.rows)
    pca = PCA(50, random_state=0).fit(train[:20_000] / np.float32(255))
    single = np.ascontiguousarray(pca.transform(train / np.float32(255)), dtype=np.float32)
    print(
        f"data: {name}, {single.shape[0]} x {single.shape[1]} by PCA; "
        f"{args.iterations} sweeps, {args.threads} thread(s)"
    )
    for x in (single.astype(np.float64), single):
        n, d = x.shape
        cov = np.cov(single.T.astype(np.float64))
        for kind in ("full", "diag"):
            for k in (10, 50):
                centres = single[np.random.default_rng(k).choice(n, k, replace=False)]
                near = (np.square(centres).sum(1) - 2 * single @ centres.T).argmin(1)
                r, S0 = np.eye(k)[near], cov if kind == "full" else cov.diagonal().copy()
                ours, theirs = [], []
                turns = [(theirs, run_sklearn), (ours, run_genus)]
                for i in range(args.rounds):
                    for results, run in turns if i % 2 == 0 else turns[::-1]:
                        results.append(run(x, r, S0, args.iterations))
                a, b = [s for s, _ in theirs], [s for s, _ in ours]
                what = f"{x.dtype} {kind} K={k:2}"
                print(f"{what} scikit-learn {common.spread(a)} s a sweep")
                print(f"{what} genus        {common.spread(b)} s a sweep")
                print(
                    f"{what} scikit-learn / genus: "
                    f"{statistics.median(a) / statistics.median(b):.2f}x   (bar: 1x)"
                )
                if kind == "full" and x.dtype == np.float64:
                    s, g = theirs[-1][1], ours[-1][1]
                    apart = float(
                        (np.abs(np.asarray(g.means_) - s.means_) / np.sqrt(cov.diagonal())).max()
                    )
                    gap = abs(g.elbo_ - s.lower_bounds_[-1] - left_out(n, d, k, S0)) / n
                    same = "yes" if max(apart, gap) < 1e-6 else "NO"
                    print(
                        f"{what} means {apart:.1e} apart, "
                        f"bounds {gap:.1e} nats a row ({same}, bar: 1e-6)"
                    )


if __name__ == "__main__":
    main()
