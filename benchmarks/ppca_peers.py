"""Filling in the digits beside ppca-py, and complete rows beside scikit-learn.

Against its PCA and FactorAnalysis.

1. The 1797 digits of scikit-learn as real numbers, pixel / 16, with 20 % of the cells missing at
   random, ten components: both learn by EM from what is left and fill in the conditional mean. The
   error is the root mean square over the missing cells. ppca-py runs with its own settings, genus
   with its own.
2. The same digits whole: the log-likelihood of the training rows must be scikit-learn's, for PCA
   once its covariance is divided by n instead of n − 1, for factor analysis (all pixels that vary)
   once both have converged; and seconds of a fit.

The sides take turns in one process, and are timed in seconds of the processor. Without ppca-py the
first part runs genus alone.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import common
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as SklearnFactors

import genus

try:
    from ppca import PPCA
except ImportError:
    PPCA = None

K = 10


def timed(f: Callable[[], Any]) -> tuple[float, Any]:
    """(processor seconds, result)."""
    begun = time.process_time()
    result = f()
    return time.process_time() - begun, result


def in_turn(rounds: int, *sides: Callable[[], Any]) -> list[tuple[list[float], Any]]:
    """Seconds of each round and the last result, a side; who goes first changes every round."""
    seconds: list[list[float]] = [[] for _ in sides]
    results: list[Any] = [None] * len(sides)
    for r in range(rounds):
        for i in range(len(sides))[:: 1 if r % 2 == 0 else -1]:
            s, results[i] = timed(sides[i])
            seconds[i].append(s)
    return list(zip(seconds, results, strict=True))


def fill_in(X: np.ndarray, rounds: int) -> None:
    """Completion with 20 % missing."""
    holes = np.random.default_rng(0).random(X.shape) < 0.2
    H = np.where(holes, np.nan, X)

    def rmse(filled: np.ndarray) -> float:
        return float(np.sqrt(np.square(filled - X)[holes].mean()))

    def ours(**args: Any) -> Callable[[], np.ndarray]:
        return lambda: genus.ProbabilisticPCA(**args, random_state=0).fit(H).reconstruct(H)

    def theirs() -> np.ndarray:
        filled = PPCA(K, random_state=0).fit(H).impute_missing(H)
        return np.asarray(filled[0] if isinstance(filled, tuple) else filled)

    print(
        f"mean of each pixel: RMSE {rmse(np.where(holes, np.nanmean(H, 0), X)):.4f} of pixel / 16"
    )
    sides = [ours(n_components=K)] + ([theirs] if PPCA else [])
    (a, mine), *others = in_turn(rounds, *sides)
    print(
        f"genus   K={K}: RMSE {rmse(mine):.5f}, {common.spread(a)} s   "
        "(bar: 0.188, and no worse than ppca-py's)"
    )
    for b, other in others:
        print(f"ppca-py K={K}: RMSE {rmse(other):.5f}, {common.spread(b)} s")
        print(f"ppca-py / genus: {statistics.median(b) / statistics.median(a):.2f}x   (bar: 1x)")
    s, mine = timed(ours())
    print(f"genus, components by BIC: RMSE {rmse(mine):.4f}, {s:.1f} s")
    s, mine = timed(lambda: genus.FactorAnalysis(random_state=0).fit(H).reconstruct(H))
    print(f"genus.FactorAnalysis, factors by BIC: RMSE {rmse(mine):.4f}, {s:.1f} s")


def whole(X: np.ndarray, rounds: int) -> None:
    """Complete rows."""
    n = len(X)
    (a, mine), (b, pca) = in_turn(
        rounds, lambda: genus.ProbabilisticPCA(K).fit(X), lambda: PCA(K).fit(X)
    )
    raw = pca.score(X)
    pca.explained_variance_ *= (n - 1) / n
    pca.noise_variance_ *= (n - 1) / n
    gap = abs(mine.score(X) - pca.score(X))
    print(
        f"PCA: genus {mine.score(X):.6f} nats, scikit-learn {raw:.6f}, by n {pca.score(X):.6f}: "
        f"{gap:.1e} apart   (bar: 1e-6)"
    )
    print(f"PCA: genus {common.spread(a)} s, scikit-learn {common.spread(b)} s")
    X = X[:, X.std(0) > 0.05]
    tight, sides = 1e-11, {"max_iter": 20_000}
    mine = genus.FactorAnalysis(K, tol=tight, **sides).fit(X)
    theirs = SklearnFactors(K, tol=tight * n, svd_method="lapack", **sides).fit(X)
    gap = abs(mine.score(X) - theirs.score(X))
    print(
        f"FA ({X.shape[1]} pixels): genus {mine.score(X):.6f} nats, scikit-learn "
        f"{theirs.score(X):.6f}: {gap:.1e} apart   (bar: 1e-6)"
    )
    tol = 1e-5
    (a, mine), (b, theirs) = in_turn(
        rounds,
        lambda: genus.FactorAnalysis(K, tol=tol).fit(X),
        lambda: SklearnFactors(K, tol=tol * n, svd_method="lapack").fit(X),
    )
    print(
        f"FA: genus {common.spread(a)} s, {mine.n_iter_} iterations; scikit-learn "
        f"{common.spread(b)} s, {theirs.n_iter_}"
    )
    print(
        f"FA: scikit-learn / genus: {statistics.median(b) / statistics.median(a):.2f}x   (bar: 1x)"
    )


def main() -> None:
    args = common.options(__doc__, rounds=5)
    warnings.simplefilter("ignore")
    X = load_digits().data / 16
    print(
        f"data: digits, {X.shape[0]} x {X.shape[1]}; {args.threads} thread(s); "
        f"{common.versions('scikit-learn', 'ppca-py')}"
    )
    fill_in(X, args.rounds)
    whole(X, args.rounds)


if __name__ == "__main__":
    main()
