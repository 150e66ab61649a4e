"""Seconds of a fit of genus.BayesianLinearRegression beside scikit-learn's BayesianRidge.

At the same hyperparameters. 100,000 × 100 float64 with an intercept. BayesianRidge finds α and β as
it does by default; genus is given those, and the predictions must be the same. As BayesianRidge
also searches, genus is timed finding them too (``"evidence"``, without hyperpriors), and
BayesianRidge stopped after its first iteration, the least it can do. All take turns in one process,
in seconds of the processor.
"""

from __future__ import annotations

import statistics
import time
import warnings

import common
import numpy as np
from sklearn.linear_model import BayesianRidge

import genus

COLUMNS = 100


def timed(model, X: np.ndarray, y: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    begun = time.process_time()
    model.fit(X, y)
    return time.process_time() - begun


def main() -> None:
    args = common.options(__doc__, rows=100_000, rounds=5)
    warnings.simplefilter("ignore")  # one iteration does not converge
    rng = np.random.default_rng(0)
    X = rng.normal(size=(args.rows, COLUMNS)) + 1
    y = X @ rng.normal(size=COLUMNS) + 3 + 2 * rng.normal(size=args.rows)
    print(f"data: {args.rows} x {COLUMNS} float64, {args.threads} thread(s)")
    theirs, once = BayesianRidge(), BayesianRidge(max_iter=1)
    theirs.fit(X, y)
    alpha, beta = float(theirs.lambda_), float(theirs.alpha_)
    ours, search = (
        genus.BayesianLinearRegression(alpha=a, beta=b)
        for a, b in ((alpha, beta), ("evidence", "evidence"))
    )
    models = {
        "scikit-learn": theirs,
        "scikit-learn, 1 iteration": once,
        "genus": ours,
        "genus, evidence": search,
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for r in range(args.rounds):
        for name in list(models)[:: 1 if r % 2 == 0 else -1]:
            seconds[name].append(timed(models[name], X, y))
    for name, values in seconds.items():
        print(f"{name:25} {common.spread(values)} s a fit")
    ratio = {
        n: statistics.median(seconds["scikit-learn"]) / statistics.median(v)
        for n, v in seconds.items()
    }
    print(
        f"scikit-learn / genus: {ratio['genus']:.1f}x   (bar: 10x); with its own search for α and "
        f"β {ratio['genus, evidence']:.1f}x,"
    )
    print(
        "scikit-learn's 1 iteration / genus: "
        f"{ratio['genus'] / ratio['scikit-learn, 1 iteration']:.1f}x"
    )
    gap = np.abs(ours.predict(X) - theirs.predict(X)).max()
    print(
        f"largest difference of predictions: {gap:.1e} "
        f"({'the same' if gap < 1e-9 else 'NOT THE SAME'}, bar: 1e-9)"
    )


if __name__ == "__main__":
    main()
