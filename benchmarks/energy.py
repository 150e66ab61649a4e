"""The plain classifier beside JEM, on digits, MNIST or Fashion-MNIST at 14 × 14.

Accuracy, ECE, AUROC a score and a set of outliers, accuracy under PGD, Fréchet distance and the
classifier two-sample test of draws, and the drift of chains ten times as long. Both have the same
network and steps; nothing is chosen by the test rows.

    python benchmarks/energy.py digits
    GENUS_DATA=folder python benchmarks/energy.py mnist 300      # seconds a fit
    GENUS_DATA=folder python benchmarks/energy.py fashion_mnist 300
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

import genus
from genus import EBM, JEM, Trainer
from genus.evaluate import SampleTest, calibration, detection, robustness

SCORES = ("log_prob", "max_softmax", "approximate_mass", "complexity")
OTHER = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}
HELD = 1000  # test rows, at most


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
    return train, y, test[:HELD], y_test[:HELD]


def outliers(name: str, X: np.ndarray) -> dict[str, np.ndarray]:
    """Rows that do not belong, as many as there are in X."""
    rng = np.random.default_rng(0)
    flat = X.reshape(len(X), -1)
    other = X[rng.permutation(len(X))]
    found = {
        "noise": rng.integers(0, X.max() + 1, X.shape).astype(X.dtype),
        "permuted": rng.permuted(flat, axis=1).reshape(X.shape),
        "interpolations": ((X.astype(float) + other) / 2).round().astype(X.dtype),
    }
    if name in OTHER:
        found[OTHER[name]] = loaded(OTHER[name])[2]
    return found


def main(name: str, seconds: float | None) -> None:
    X, y, X_test, y_test = loaded(name)
    space = genus.Space.of(X, "ordinal")
    trainer = Trainer(progress=False, max_time=seconds)
    strange = outliers(name, X_test)
    judge = SampleTest(space, X, X_test, y)
    models: dict[str, Any] = {
        "plain": JEM(weight=0.0, trainer=trainer, random_state=0),
        "JEM": JEM(trainer=trainer, random_state=0),
        "EBM": EBM(trainer=trainer, random_state=0),
    }
    for label, model in models.items():
        begun = time.process_time()
        model.fit(X, **({} if label == "EBM" else {"y": y}), space=space)
        spent = time.process_time() - begun
        print(f"\n{label}: {spent:.0f} processor seconds, {model.n_steps_} steps")
        if label != "EBM":
            print(calibration(model, X_test, y_test))
        for source, rows in strange.items():
            for score in SCORES:
                if score == "max_softmax" and label == "EBM":
                    continue
                print(f"  {source}: {detection(model, X_test, rows, score=score)}")
        if label != "EBM":
            some = slice(0, 500)
            print(robustness(model, X_test[some], y_test[some], eps=[0.02, 0.05, 0.1, 0.2]))
            two = robustness(model, X_test[some], y_test[some], eps=[0.5, 1.0, 2.0], norm="l2")
            print(two)
        if label != "plain":
            told = judge(model.sample(judge.n, random_state=1))
            long = judge(model.chains(judge.n, 10 * model._length(), random_state=1))
            print(
                f"draws: two-sample accuracy {told.classifier.accuracy:.3f}, Fréchet "
                f"{told.frechet.distance:.3f} (real rows {told.frechet.floor:.3f}); "
                f"ten times the steps: {long.classifier.accuracy:.3f}"
            )


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "digits",
        float(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
