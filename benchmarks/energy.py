"""The plain classifier beside JEM, on digits, MNIST or Fashion-MNIST at 14 × 14, as one table.

Accuracy, calibration, AUROC of each score against each set of outliers, accuracy under PGD, and how
draws differ from test rows. All have the same network and the same number of steps; nothing is
chosen by the test rows.

    python benchmarks/energy.py digits
    GENUS_DATA=folder python benchmarks/energy.py mnist
    GENUS_DATA=folder python benchmarks/energy.py fashion_mnist --rows 10000 --held 500 --steps 800
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

import genus
from genus import JEM, Trainer
from genus.evaluate import SampleTest, calibration, detection, robustness

SCORES = ("log_prob", "max_softmax", "approximate_mass", "complexity")
OTHER = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}
LINF, L2 = (0.05, 0.1, 0.2), (0.5, 1.0)  # largest changes of an attack, of the range of a pixel
ATTACKED = 200  # test rows that are attacked


def halved(X: Any) -> np.ndarray:
    """Images of half the height and width, means of 2 × 2 pixels."""
    X = np.asarray(X)
    n, h, w = X.shape
    blocks = X.reshape(n, h // 2, 2, w // 2, 2).astype(float)
    return np.round(blocks.mean((2, 4))).astype(np.uint8)


def loaded(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train and test images with their labels."""
    data = genus.data.load(name)
    train, test = np.asarray(data.train.X), np.asarray(data.test.X)
    if name != "digits":
        train, test = halved(train), halved(test)
    y, y_test = np.asarray(data.train.y), np.asarray(data.test.y)
    return train, y, test, y_test


def outliers(name: str, X: np.ndarray) -> dict[str, np.ndarray]:
    """Rows that do not belong, as many as there are in X."""
    rng = np.random.default_rng(0)
    flat = X.reshape(len(X), -1)
    other = X[rng.permutation(len(X))]
    found = {
        "noise": rng.integers(0, int(X.max()) + 1, X.shape).astype(X.dtype),
        "permuted": rng.permuted(flat, axis=1).reshape(X.shape),
        "interpolations": ((X.astype(float) + other) / 2).round().astype(X.dtype),
    }
    if name in OTHER:
        found[OTHER[name]] = loaded(OTHER[name])[2][: len(X)]
    return found


def told(model: Any, X: Any, y: Any, strange: dict[str, np.ndarray]) -> dict[str, str]:
    """What a classifier of images is worth, a measure a line."""
    c = calibration(model, X, y)
    out = {
        "accuracy": f"{c.accuracy:.3f} ± {c.stderr:.3f}",
        "ECE, 15 bins of equal width": f"{c.ece:.3f}",
        "NLL, nats": f"{c.nll:.3f}",
    }
    for source, rows in strange.items():
        for score in SCORES:
            d = detection(model, X, rows, score=score)
            low, high = d.intervals["auroc"]
            out[f"AUROC of {score}, {source}"] = f"{d.auroc:.3f} [{low:.3f}, {high:.3f}]"
    for norm, eps in (("linf", LINF), ("l2", L2)):
        r = robustness(model, X[:ATTACKED], y[:ATTACKED], eps=list(eps), norm=norm)
        for size, accuracy in zip(eps, r.table.pgd, strict=True):
            out[f"accuracy under PGD, {norm} {size}"] = f"{accuracy:.3f}"
    return out


def of_draws(model: Any, judge: SampleTest) -> dict[str, str]:
    """How its draws differ from test rows, and how chains ten times as long do."""
    short = judge(model.sample(judge.n, random_state=1))
    long = judge(model.chains(judge.n, 10 * model._length(), random_state=1))
    least, most = short.frechet.spread
    floor = f"(real to real {least:.3f} to {most:.3f})"
    return {
        "Fréchet distance": f"{short.frechet.distance:.3f} {floor}",
        "boosted trees tell draws": f"{short.classifier.accuracy:.3f}",
        "of ten times the steps": f"{long.classifier.accuracy:.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", default="digits")
    parser.add_argument("--rows", type=int, default=60_000, help="to learn from, at most")
    parser.add_argument("--held", type=int, default=1000, help="test rows, at most")
    parser.add_argument("--steps", type=int, help="of the optimiser, at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    X, y, X_test, y_test = loaded(args.name)
    X, y, X_test, y_test = X[: args.rows], y[: args.rows], X_test[: args.held], y_test[: args.held]
    space = genus.Space.of(X, "ordinal")
    trainer = Trainer(progress=False, max_steps=args.steps)
    strange = outliers(args.name, X_test)
    judge = SampleTest(space, X, X_test, y)
    columns = {}
    for label, weight in (("plain", 0.0), ("JEM", 1.0)):
        model = JEM(weight=weight, trainer=trainer, random_state=0)
        begun = time.process_time()
        model.fit(X, y, space=space)
        spent = f"{time.process_time() - begun:.0f} s, {model.n_steps_} steps"
        columns[label] = {"training": spent, **told(model, X_test, y_test, strange)}
        if weight:
            columns[label] |= of_draws(model, judge)
    print(f"{args.name}: {len(X)} training rows, {len(X_test)} test rows {X.shape[1:]}")
    table = pd.DataFrame(columns).reindex(list(columns["JEM"])).fillna("—")
    print("\n|", " | ".join(["", *table]), "|")
    print("|---" * (1 + table.shape[1]) + "|")
    for what, *cells in table.itertuples():
        print("|", " | ".join([what, *cells]), "|")


if __name__ == "__main__":
    main()
