"""The maximum mean discrepancy: its definition, and the right size under the null."""

import numpy as np
import pytest

from genus.evaluate import mmd


def normal(n, d=4, seed=0, shift=0.0):
    return (np.random.RandomState(seed).randn(n, d) + shift).astype(np.float32)


def plain_mmd(x, y, width2):
    def k(a, b):
        d2 = ((a[:, None] - b[None]) ** 2).sum(2)
        return sum(np.exp(-d2 / (2 * s * width2)) for s in (0.25, 1, 4)) / 3

    m = len(x)
    within = [(k(a, a).sum() - np.trace(k(a, a))) / (m * (m - 1)) for a in (x, y)]
    return sum(within) - 2 * k(x, y).mean()


def test_mmd_is_its_definition():
    x, y = normal(30).astype(np.float64), normal(30, seed=1, shift=0.5).astype(np.float64)
    found = mmd(x, y, permutations=50)
    assert found.mmd2 == pytest.approx(plain_mmd(x, y, found.bandwidth**2), abs=1e-12)


def test_mmd_is_unbiased_and_its_p_values_are_uniform_under_the_null():
    found = [
        mmd(normal(50, seed=2 * i), normal(50, seed=2 * i + 1), permutations=99) for i in range(200)
    ]
    values = np.array([f.mmd2 for f in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)
    assert (values < 0).any()
    p = np.array([f.p_value for f in found])
    assert 0.35 < (p <= 0.5).mean() < 0.65
    assert (p <= 0.05).mean() < 0.12


def test_mmd_of_far_distributions():
    found = mmd(normal(50), normal(50, seed=1, shift=3.0), permutations=199)
    assert found.mmd2 > 0.1 and found.p_value == 1 / 200
