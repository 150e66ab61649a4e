"""Seconds of an EM iteration of genus.GaussianMixture beside scikit-learn's.

On MNIST projected to 50 components. 60,000 × 50 float32, full covariances, K = 10 and 50. Both
start at the same weights, means and covariances, run the same number of iterations without
regularisation, and must end at the same likelihood (1e-3 nats): that of scikit-learn in float64 is
the judge. They take turns in one process. Only iterations are timed, in seconds of the processor,
which other work on the machine disturbs least.
"""

from __future__ import annotations

import statistics
import time
import warnings

import common
import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

import genus

Start = tuple[np.ndarray, np.ndarray, np.ndarray]


def run_sklearn(x: np.ndarray, start: Start, iterations: int) -> tuple[float, GaussianMixture]:
    """(seconds an iteration, the model); iterations are clocked from E step to E step."""
    weights, means, covariances = (a.astype(x.dtype) for a in start)
    model = GaussianMixture(
        len(weights),
        weights_init=weights,
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
        max_iter=iterations,
        tol=0.0,
        reg_covar=0.0,
    )
    step, clock = model._e_step, []

    def timed(*args, **kwargs):  # type: ignore[no-untyped-def]
        clock.append(time.process_time())
        return step(*args, **kwargs)

    model._e_step = timed
    model.fit(x)
    del model._e_step
    # the last E step is the one after the loop
    return (clock[iterations] - clock[0]) / iterations, model


class Clocked(genus.GaussianMixture):
    """genus's mixture, which notes the time of every M step."""

    clock: list[float] = []

    def maximise(self, sums):  # type: ignore[no-untyped-def]
        super().maximise(sums)
        self.clock.append(time.process_time())


def run_genus(x: np.ndarray, start: Start, iterations: int) -> tuple[float, genus.GaussianMixture]:
    """(seconds an iteration, the model)."""
    Clocked.clock = clock = []
    settings = {"covariance": "full", "tol": 0.0, "reg_covar": 0.0, "shrinkage": 0.0}
    model = Clocked(len(start[0]), init=start, max_iter=iterations, random_state=0, **settings)
    model.fit(x)
    return (clock[-1] - clock[0]) / (len(clock) - 1), model


def score(model: GaussianMixture, *sets: np.ndarray) -> list[float]:
    """Mean log-density of each set by scikit-learn's formula in float64, whoever fitted it."""
    judge = GaussianMixture(len(model.weights_))
    judge.weights_, judge.means_, judge.covariances_ = (
        np.asarray(v, dtype=np.float64) for v in (model.weights_, model.means_, model.covariances_)
    )
    judge.precisions_cholesky_ = np.stack(
        [np.linalg.inv(np.linalg.cholesky(c)).T for c in judge.covariances_]
    )
    return [float(judge.score(x.astype(np.float64))) for x in sets]


def main() -> None:
    args = common.options(__doc__, iterations=10)
    warnings.simplefilter("ignore")  # neither is to converge
    train, test, name = common.mnist(args.rows)
    pca = PCA(50, random_state=0).fit(train[:20_000] / np.float32(255))
    x, held = (
        np.ascontiguousarray(pca.transform(a / np.float32(255)), dtype=np.float32)
        for a in (train, test)
    )
    print(
        f"data: {name}, {x.shape[0]} x {x.shape[1]} float32 by PCA; "
        f"{args.iterations} iterations, {args.threads} thread(s)"
    )
    for k in (10, 50):
        rng = np.random.default_rng(k)
        cov = np.cov(x.T.astype(np.float64))
        start = (
            np.full(k, 1 / k),
            x[rng.choice(len(x), k, replace=False)].astype(np.float64),
            np.tile(cov, (k, 1, 1)),
        )
        ours: list[tuple[float, GaussianMixture]] = []
        theirs: list[tuple[float, GaussianMixture]] = []
        turns = [(theirs, run_sklearn), (ours, run_genus)]
        for r in range(args.rounds):
            for results, run in turns if r % 2 == 0 else turns[::-1]:
                results.append(run(x, start, args.iterations))
        a, b = [s for s, _ in theirs], [s for s, _ in ours]
        truth = run_sklearn(x.astype(np.float64), start, args.iterations)[1]
        (train_a, test_a), (train_b, test_b), (train_t, _) = (
            score(m, x, held) for m in (theirs[-1][1], ours[-1][1], truth)
        )
        print(
            f"K={k:2} scikit-learn {common.spread(a)} s an iteration; train {train_a:.4f}, test "
            f"{test_a:.4f} nats (density)"
        )
        print(
            f"K={k:2} genus        {common.spread(b)} s an iteration; train {train_b:.4f}, test "
            f"{test_b:.4f} nats (density)"
        )
        print(
            f"K={k:2} scikit-learn / genus: "
            f"{statistics.median(a) / statistics.median(b):.2f}x   (bar: 1.5x)"
        )
        gap = abs(train_b - train_t)
        print(
            f"K={k:2} same likelihood as float64: genus {gap:.1e} nats apart "
            f"({'yes' if gap < 1e-3 else 'NO'}, bar: 1e-3),"
        )
        print(
            f"K={k:2}                             scikit-learn in float32 "
            f"{abs(train_a - train_t):.1e}"
        )


if __name__ == "__main__":
    main()
