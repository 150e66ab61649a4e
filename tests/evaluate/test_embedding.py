"""The Fréchet distance: the closed form, and embeddings on one scale."""

import numpy as np
import pytest
from scipy import linalg

from genus.evaluate import Embedding, frechet, frechet_gaussians


def normal(n, d=4, seed=0, shift=0.0):
    return (np.random.RandomState(seed).randn(n, d) + shift).astype(np.float32)


def test_frechet_of_gaussians_is_the_closed_form():
    rng = np.random.RandomState(0)
    A, B = rng.randn(5, 5), rng.randn(5, 5)
    S, T, m = A @ A.T, B @ B.T, rng.randn(5)
    root = linalg.sqrtm(S @ T).real
    assert frechet_gaussians(m, S, np.zeros(5), T) == pytest.approx(
        m @ m + np.trace(S + T - 2 * root), rel=1e-8
    )
    assert frechet_gaussians(1.0, 4.0, 3.0, 9.0) == pytest.approx(4 + 1)  # (μ−μ′)² + (σ−σ′)²
    assert frechet_gaussians(m, S, m, S) == pytest.approx(0, abs=1e-7)


def test_frechet_of_samples_converges_to_it():
    a, b = normal(40000, d=3).astype(float), 2 * normal(40000, d=3, seed=1).astype(float) + 1
    assert frechet(a, b) == pytest.approx(3 + 3, rel=0.03)


def test_embeddings_are_named_and_have_unit_variance():
    x = np.concatenate([normal(150, d=6), normal(150, d=6, seed=1, shift=4.0)])
    y = np.repeat(["cat", "dog"], 150)
    for labels, name in ((None, "pca-6"), (y, "classifier-16"), (np.linspace(0, 1, 300), "pca-6")):
        e = Embedding(x, labels)
        assert e.name == name
        assert e(x).var(axis=0).sum() == pytest.approx(1)
    by_class = Embedding(x, y)(x)
    gap = np.linalg.norm(by_class[:150].mean(0) - by_class[150:].mean(0))
    assert gap > 1  # classes stand apart
