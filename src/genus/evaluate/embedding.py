"""Do the Gaussians of samples and real rows differ in a small embedding?

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½)

That of samples and real rows is told beside that of real rows and other real rows.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state


@dataclass(frozen=True)
class Frechet:
    """Fréchet distance of samples to held-out rows in an embedding, and that of real rows.

    Both are of the same counts of rows. ``spread`` has the least and the largest distance among
    several halves of real rows of that count: differences between models that are smaller than it
    is wide are nothing.
    """

    distance: float
    floor: float
    embedding: str
    n: int
    spread: tuple[float, float] = (math.nan, math.nan)

    @property
    def name(self) -> str:
        """Such as ``Fréchet (pca-16)``."""
        return f"Fréchet ({self.embedding})"


class Embedding:
    """A small map of features to a few numbers, learned from real rows.

    With labels it is the last hidden layer of a small classifier (``classifier-16``), without them
    principal components (``pca-16``). It is scaled so that the real rows have total variance 1: a
    Fréchet distance of 1 is as wrong as one constant for all rows.

    Parameters
    ----------
    x : array
        Numeric view of the rows, (n, p).
    y : array or None, default=None
        Labels, (n,), used when there are 2 to 100 classes.
    size : int, default=16
        Of the embedding.
    random_state : int, default=0
        Seed of the rows it is learned from, and of the classifier.
    """

    rows = 5000  # real rows it is learned from, at most

    def __init__(
        self, x: np.ndarray, y: Any = None, *, size: int = 16, random_state: int = 0
    ) -> None:
        chosen = check_random_state(random_state).permutation(len(x))[: self.rows]
        x = x[chosen]
        labels = None if y is None else _labels(np.asarray(y)[chosen])
        self.scale = 1.0
        self.layers: list[tuple[np.ndarray, np.ndarray]] = []
        if labels is None:
            self._learn_directions(x, min(size, *x.shape))
        else:
            self._learn_layers(x, labels, size, random_state)
        spread = float(self(x).var(axis=0).sum())
        self.scale = math.sqrt(spread) if spread > 0 else 1.0

    def _learn_directions(self, x: np.ndarray, size: int) -> None:
        """The directions in which the rows vary most."""
        self.centre = x.mean(axis=0)
        covariance = np.atleast_2d(np.cov((x - self.centre).astype(np.float64), rowvar=False))
        _, directions = np.linalg.eigh(covariance)
        self.directions = directions[:, ::-1][:, :size]
        self.name = f"pca-{size}"

    def _learn_layers(
        self, x: np.ndarray, labels: np.ndarray, size: int, random_state: int
    ) -> None:
        """The hidden layers of a classifier of the labels."""
        from sklearn.neural_network import MLPClassifier  # slow to import

        net = MLPClassifier(
            (128, size), max_iter=30, early_stopping=len(x) >= 200, random_state=random_state
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(x, labels)
        self.layers = list(zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True))
        self.name = f"classifier-{size}"

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The numeric view (n, p) → its embedding (n, size), float64."""
        h = x.astype(np.float64)
        if not self.layers:
            return np.asarray((h - self.centre) @ self.directions / self.scale)
        for weight, bias in self.layers:
            h = np.maximum(h @ weight + bias, 0.0)
        return h / self.scale


def _labels(y: np.ndarray) -> np.ndarray | None:
    """Class numbers of labels that a classifier can learn, else None."""
    if y.ndim != 1 or (y.dtype.kind == "f" and not np.array_equal(y, np.floor(y))):
        return None
    names, classes, counts = np.unique(y.astype(str), return_inverse=True, return_counts=True)
    return classes if 2 <= len(names) <= 100 and counts.min() >= 3 else None


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between the Gaussians fitted to two sets of embedded rows, (n, k) each."""
    return frechet_gaussians(
        a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)
    )


def frechet_spread(
    a: np.ndarray, b: np.ndarray, *, splits: int = 8, random_state: int = 0
) -> tuple[float, float]:
    """The least and the largest Fréchet distance of two halves of embedded real rows a and b.

    The rows, (n, k) each, are put together and halved at random, ``splits`` times.
    """
    rng = check_random_state(random_state)
    together = np.concatenate([a, b])
    found = []
    for _ in range(splits):
        order = rng.permutation(len(together))
        found.append(frechet(together[order[: len(a)]], together[order[len(a) :]]))
    return min(found), max(found)


def frechet_gaussians(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> float:
    r"""Squared 2-Wasserstein distance between two Gaussians.

        |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½)

    Means are (k,), covariances (k, k). Source: Dowson & Landau (1982).
    """
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    value, vector = np.linalg.eigh(cov_a)
    root = (vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    between = np.square(np.subtract(mean_a, mean_b)).sum()
    return float(between + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)
